"""Comparison of an export with Meta's own builder at full size.

    pip install open_clip_torch    # for the BPE file, which the wheel of `sam3` lacks
    python benchmarks/official_full.py path/to/bpe_simple_vocab_16e6.txt.gz

The script exports a full-size SAM 3 (840 M parameters, random weights) to `sam3.pt` as recipes/export.py does, and
loads it with `build_sam3_image_model`. `Sam3Processor.set_image` and `set_text_prompt` predict on a picture of
1008 px, and every score, box and mask is compared with this package's prediction. Without a GPU four stubs keep the
package off "cuda": two precomputed tables are left out, and `pin_memory` and `Tensor.cuda` return their tensor. The
script takes 20 GB of memory and some minutes.
"""

import contextlib
import gc
import io
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.optimize import linear_sum_assignment


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from transformers import Sam3Config  # noqa: E402

from sam_ft.export.weight_files import read_weights  # noqa: E402
from sam_ft.export.weight_names import compare  # noqa: E402
from sam_ft.models.processors import load_processor  # noqa: E402
from sam_ft.models.sam3.random_model import build_random_model  # noqa: E402
from sam_ft.models.sam3.steps import ConceptPredictionStep  # noqa: E402
from sam_ft.ops.prompts import padding_exemplars  # noqa: E402
from sam_ft.options.evaluation import DetectionLimits  # noqa: E402
from sam_ft.options.model_names import TINY  # noqa: E402


PHRASE, SIDE = "a red apple", 1008


@contextlib.contextmanager
def package_on_this_device():
    """Yield the package's builder, patched to run without "cuda" where there is no GPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sam3 import model_builder
        from sam3.model import decoder, position_encoding
    if torch.cuda.is_available():
        yield model_builder
        return
    originals = (
        model_builder.PositionEmbeddingSine,
        model_builder.TransformerDecoder,
        torch.Tensor.pin_memory,
        torch.Tensor.cuda,
    )

    def without(cls, **left_out):
        return lambda *args, **kwargs: cls(*args, **(kwargs | left_out))

    model_builder.PositionEmbeddingSine = without(position_encoding.PositionEmbeddingSine, precompute_resolution=None)
    model_builder.TransformerDecoder = without(decoder.TransformerDecoder, resolution=None, stride=None)
    torch.Tensor.pin_memory = torch.Tensor.cuda = lambda self, *_, **__: self
    try:
        yield model_builder
    finally:
        (
            model_builder.PositionEmbeddingSine,
            model_builder.TransformerDecoder,
            torch.Tensor.pin_memory,
            torch.Tensor.cuda,
        ) = originals


def picture() -> Image.Image:
    """Draw a picture of smooth waves."""
    rows, columns = np.indices((SIDE, SIDE))
    channels = np.sin(rows / 40), np.cos(columns / 25), np.sin((rows + columns) / 60)
    return Image.fromarray((127 * (1 + np.stack(channels, -1))).astype(np.uint8))


def export(folder: Path) -> Path:
    """Export a model of random weights to `sam3.pt`."""
    from sam_ft.export.checked_export import Export
    from sam_ft.export.formats import FORMATS

    begin = time.perf_counter()
    model = build_random_model(Sam3Config(), 0).eval()
    # The export's own check runs phrases; any tokens will do for random weights.
    difference = FORMATS["official"](Export(model, load_processor(TINY), "random"), folder / "sam3.pt")
    print(
        f"written, loaded back and compared in {time.perf_counter() - begin:.0f} s; outputs differ by {difference:.1e}"
    )
    return folder / "sam3.pt"


def predict_officially(file: Path, bpe: str) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Predict with the `sam3` package.

    Args:
        file (`Path`): The `sam3.pt`.
        bpe (`str`): File of the BPE vocabulary.

    Returns:
        `tuple`: Scores, boxes in px and masks (`dict[str, torch.Tensor]`), and the tokens of the phrase.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with package_on_this_device() as builder:
        loader_output = io.StringIO()
        with contextlib.redirect_stdout(loader_output):
            model = builder.build_sam3_image_model(
                bpe_path=bpe, device=device, checkpoint_path=str(file), load_from_HF=False
            )
        # The loader prints missing keys and ignores unexpected ones, so both are compared here.
        needed = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        written = {name.removeprefix("detector."): tuple(t.shape) for name, t in read_weights(file).items()}
        missing, unexpected = needed.keys() - written.keys(), written.keys() - needed.keys()
        print(
            f"build_sam3_image_model: {len(needed)} tensors, {len(missing)} missing, {len(unexpected)} unexpected",
            sorted(missing | unexpected)[:4],
        )
        print("output of the loader:", loader_output.getvalue().strip() or "none")
        from sam3.model.sam3_image_processor import Sam3Processor

        processor = Sam3Processor(model, device=device, confidence_threshold=0.0)
        begin = time.perf_counter()
        state = processor.set_image(picture())
        state = processor.set_text_prompt(PHRASE, state)
        print(f"set_image and set_text_prompt: {time.perf_counter() - begin:.1f} s, {len(state['scores'])} detections")
        tokens = model.backbone.language_backbone.tokenizer([PHRASE], context_length=32)
    boxes = state["boxes"].cpu().clamp(0, SIDE)  # This package clamps boxes to the image.
    return {"scores": state["scores"].cpu(), "boxes": boxes, "masks": state["masks"].cpu()}, tokens


@torch.inference_mode()
def predict(tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    """Predict with this package, from the same weights and tokens."""
    model = build_random_model(Sam3Config(), 0).eval()
    pixels = torch.from_numpy(np.asarray(picture()).copy()).permute(2, 0, 1)[None]
    predictions = []
    boxes, box_labels = padding_exemplars(1)
    model(
        pixel_values=pixels,
        input_ids=tokens.long(),
        attention_mask=(tokens != 0).long(),
        pair_image=[0],
        pair_phrase=[0],
        input_boxes=boxes,
        input_boxes_labels=box_labels,
        geometry_token=torch.ones(1, dtype=torch.bool),  # The package always adds it.
        step=ConceptPredictionStep(DetectionLimits(0.0, 200), predictions.append),
    )
    masks = torch.nn.functional.interpolate(predictions[0].masks[:, None], (SIDE, SIDE), mode="bilinear") > 0
    return {"scores": predictions[0].scores, "boxes": predictions[0].boxes_xyxy * SIDE, "masks": masks}


def main() -> None:
    """Print the largest differences."""
    with tempfile.TemporaryDirectory() as folder:
        file = export(Path(folder))
        gc.collect()
        table = compare({name: tuple(tensor.shape) for name, tensor in read_weights(file).items()}, Sam3Config())
        print(f"key table: {table.matched} matched, {len(table.missing)} missing, {len(table.unexpected)} unexpected")
        theirs, tokens = predict_officially(file, sys.argv[1])
    gc.collect()
    ours = predict(tokens)
    # Random weights give many queries similar scores, so boxes pair the detections and not their order.
    distances = torch.cdist(ours["boxes"], theirs["boxes"], p=1)
    order = torch.from_numpy(linear_sum_assignment(distances.numpy())[1])
    for name, within in (("scores", 1e-4), ("boxes", 1e-4 * SIDE)):
        difference = float((theirs[name][order] - ours[name]).abs().max())
        print(f"{name}: largest difference {difference:.1e}", "" if difference <= within else f"MORE THAN {within:g}")
    same = (theirs["masks"][order].bool() == ours["masks"]).float().mean()
    print(f"masks: {100 * float(same):.4f} % of the pixels of {len(order)} masks are equal")


if __name__ == "__main__":
    main()
