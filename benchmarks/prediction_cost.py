"""Predicted time of `sam3_predict.py` an image on cards that need not be there, by the roofline of its kernels.

    python benchmarks/prediction_cost.py [--cards t4 l4 rtx4090 h200] [--phrases 1 8 20]

The architecture of `facebook/sam3` without weights runs on fake tensors, one image of 1008 px with
all its phrases, under bf16 autocast and with bf16 encoders (`bf16: true`, `dtype: bfloat16`). Loading of images, RLE
of masks and writing of files are not counted.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from unittest import mock

import torch


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from transformers import Sam3Config  # noqa: E402

from sam_ft.inference.exemplars import pad_exemplars  # noqa: E402
from sam_ft.models.loading import load_model  # noqa: E402
from sam_ft.models.outputs import DetectionLimits  # noqa: E402
from sam_ft.models.sam3.steps import ConceptPredictionStep  # noqa: E402
from sam_ft.options.model import ModelOptions  # noqa: E402
from sam_ft.planning.cards import find_card  # noqa: E402
from sam_ft.planning.roofline import HOST_SECONDS_PER_KERNEL  # noqa: E402
from sam_ft.planning.simulation import simulate  # noqa: E402


def predict_cost(card_name: str, phrases: int) -> tuple[int, float]:
    """Return the kernels of an image, and its seconds: those of the kernels, or of the host that starts them."""
    with tempfile.TemporaryDirectory() as folder:
        Sam3Config().save_pretrained(folder)
        with (
            simulate(find_card(card_name)) as recorder,
            torch.no_grad(),
            mock.patch("sam_ft.models.sam3.predictions.check_output"),  # fake tensors have no values to check
        ):
            model = load_model(ModelOptions(folder, load_weights=False, dtype="bfloat16")).eval()
            boxes, labels = pad_exemplars([[]] * phrases)
            inputs = {
                "pixel_values": torch.zeros(1, 3, 1008, 1008, dtype=torch.uint8),
                "input_ids": torch.ones(phrases, 32, dtype=torch.long),
                "attention_mask": torch.ones(phrases, 32, dtype=torch.long),
                "pair_image": [0] * phrases,
                "pair_phrase": list(range(phrases)),
                "input_boxes": boxes,
                "input_boxes_labels": labels,
                "geometry_token": torch.zeros(phrases, dtype=torch.bool),
            }
            recorder.reset()
            with torch.autocast("cpu", torch.bfloat16):
                model(**inputs, step=ConceptPredictionStep(DetectionLimits(0.1, 100), lambda prediction: None))
    return recorder.kernels, max(recorder.seconds, recorder.kernels * HOST_SECONDS_PER_KERNEL)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cards", nargs="+", default=["l4", "rtx4090", "a100-80gb", "h200"])
    parser.add_argument("--phrases", nargs="+", type=int, default=[1, 8, 20])
    options = parser.parse_args()
    for card in options.cards:
        for phrases in options.phrases:
            kernels, seconds = predict_cost(card, phrases)
            print(f"{card}, {phrases} phrases: {kernels} kernels, {1000 * seconds:.0f} ms, {1 / seconds:.1f} images/s")


if __name__ == "__main__":
    main()
