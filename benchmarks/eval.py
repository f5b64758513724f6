"""Benchmark of evaluation: all phrases of an image in one pass against one forward pass per phrase.

    python benchmarks/eval.py

The model has SAM 3's ratio of ViT to the rest; each image has twenty phrases. The Trainer's evaluation runs the vision
encoder once per image, `Sam3Model`'s own forward once per phrase. Both end with the same detections at the image's
size.
"""

import sys
import tempfile
from pathlib import Path


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

from benchmarks.cached import RESOLUTION, build_model_with_official_ratio  # noqa: E402
from benchmarks.measure import DEVICE, device_name, seconds  # noqa: E402
from sam_ft.arguments import DataArguments, LossArguments  # noqa: E402
from sam_ft.commands.build_sam3 import build_sam3_trainer  # noqa: E402
from sam_ft.data.loading import PhraseData  # noqa: E402
from sam_ft.data.row_schema import to_dataset  # noqa: E402
from sam_ft.metrics.postprocess import to_detections  # noqa: E402
from sam_ft.models.sam3.config import build_tiny_processor  # noqa: E402
from sam_ft.training.training_arguments import Sam3TrainingArguments  # noqa: E402


IMAGES, PHRASES, SCORE_THRESHOLD, MAX_DETECTIONS = 4, 20, 0.05, 20


def make_data(folder: Path) -> PhraseData:
    """Write random images without objects, with twenty phrases each."""
    texts = [f"thing {chr(97 + i)}" for i in range(PHRASES)]
    rows = []
    for number in range(IMAGES):
        file = folder / f"{number}.png"
        pixels = np.random.default_rng(number).integers(0, 255, (240, 320, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file)
        phrases = [{"text": text, "instances": [], "exhaustive": True} for text in texts]
        row = {"example_id": str(number), "image": str(file), "width": 320, "height": 240, "instances": []}
        rows.append({**row, "phrases": phrases})
    return PhraseData(None, to_dataset(rows), {text: i for i, text in enumerate(texts, 1)}, {}, [], [])


def main():
    """Print the times of both, and the largest difference of their detections."""
    model, processor = build_model_with_official_ratio(), build_tiny_processor(RESOLUTION)
    images = [0]
    model.vision_encoder.backbone.register_forward_pre_hook(
        lambda _, inputs: images.__setitem__(0, images[0] + len(inputs[0]))
    )
    with tempfile.TemporaryDirectory() as folder:
        data = make_data(Path(folder))
        training_args = Sam3TrainingArguments(
            output_dir=f"{folder}/out", report_to=[], num_pictures=0, disable_tqdm=True, dataloader_num_workers=0,
            per_device_eval_batch_size=1, eval_score_threshold=SCORE_THRESHOLD, eval_max_detections=MAX_DETECTIONS,
            eval_strategy="no", save_strategy="no", use_cpu=DEVICE == "cpu",
        )  # fmt: skip
        trainer = build_sam3_trainer(model, processor, data, DataArguments(), LossArguments(), training_args)
        samples = trainer.eval_dataset

        def at_once():
            return trainer.collect_predictions(samples).detections

        def one_by_one():
            return {
                (row["example_id"], phrase["text"]): predict_phrase(model, processor, sample, phrase["text"])
                for row, sample in ((data.validation[i], samples[i]) for i in range(IMAGES))
                for phrase in row["phrases"]
            }

        first = at_once()
        once, images[0] = images[0], 0
        second = one_by_one()
        off = largest_difference(first, second)
        print(f"{device_name()}, torch {torch.__version__}; {IMAGES} images × {PHRASES} phrases at {RESOLUTION} px")
        print(f"images through the vision encoder: {once} at once, {images[0]} one by one")
        print(f"{sum(map(len, first.values()))} detections; scores and boxes differ by {off:.1e} at most")
        quick, slow = seconds(at_once, one_by_one, repeats=2)
        print(f"at once {quick:.2f} s, one by one {slow:.2f} s: {slow / quick:.1f}× faster")


@torch.no_grad()
def predict_phrase(model, processor, sample, text: str) -> list[dict]:
    """Predict one phrase by `Sam3Model`'s own forward, and resize the detections to the image.

    Args:
        model (`Sam3Model`): The model.
        processor (`Sam3Processor`): Its processor.
        sample: Evaluation sample of the image.
        text (`str`): The phrase.
    """
    tokens = processor.tokenizer([text], padding="max_length", max_length=32, return_tensors="pt").to(DEVICE)
    pixels = (sample.image[None].float() / 127.5 - 1).to(DEVICE)
    out = model(pixel_values=pixels, input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
    scores = out.pred_logits[0].sigmoid() * out.presence_logits[0].sigmoid()
    values, order = scores.topk(min(MAX_DETECTIONS, len(scores)))
    indices = order[values >= SCORE_THRESHOLD]
    return to_detections(
        scores[indices], out.pred_boxes[0, indices].clamp(0, 1), out.pred_masks[0, indices], *sample.original_size
    )


def largest_difference(first: dict, second: dict) -> float:
    """Compute the largest difference of scores, and of boxes as shares of the image's width.

    Args:
        first (`dict`): Detections by image and phrase.
        second (`dict`): The same number of detections for each key.
    """
    worst = 0.0
    for key, detections in first.items():
        assert len(detections) == len(second[key]), key
        a, b = (
            np.array([[d["score"], *(v / 320 for v in d["bbox"])] for d in side]) for side in (detections, second[key])
        )
        # Each detection is compared with its nearest, because equal scores may be in another order.
        worst = max(worst, float(np.abs(a[:, None] - b[None]).max(-1).min(1).max(initial=0.0)))
    return worst


if __name__ == "__main__":
    main()
