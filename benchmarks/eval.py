"""
How much faster is asking all phrases of an image at once than one forward a phrase?

    python benchmarks/eval.py

A model with SAM 3's own ratio of trunk to rest answers twenty phrases of each image: through the Trainer's evaluation, which runs the vision encoder
once an image, and through `Sam3Model`'s own forward, once a phrase. Both end in the same detections at the image's size.
"""

import sys
import tempfile
from pathlib import Path


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

from benchmarks.cached import RESOLUTION, model_with_the_official_ratio  # noqa: E402
from benchmarks.measure import DEVICE, device_name, seconds  # noqa: E402
from sam_ft.arguments import DataArguments, LossArguments, Sam3TrainingArguments  # noqa: E402
from sam_ft.commands.build_sam3 import build_sam3_trainer  # noqa: E402
from sam_ft.data.loading import PhraseData  # noqa: E402
from sam_ft.data.row_schema import to_dataset  # noqa: E402
from sam_ft.metrics.postprocess import to_detections  # noqa: E402
from sam_ft.models.sam3.config import tiny_processor  # noqa: E402


IMAGES, PHRASES, THRESHOLD, MOST = 4, 20, 0.05, 20


def make_data(folder: Path) -> PhraseData:
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
    model, processor = model_with_the_official_ratio(), tiny_processor(RESOLUTION)
    images = [0]
    model.vision_encoder.backbone.register_forward_pre_hook(
        lambda _, inputs: images.__setitem__(0, images[0] + len(inputs[0]))
    )
    with tempfile.TemporaryDirectory() as folder:
        data = make_data(Path(folder))
        training_args = Sam3TrainingArguments(
            output_dir=f"{folder}/out", report_to=[], num_pictures=0, disable_tqdm=True, dataloader_num_workers=0,
            per_device_eval_batch_size=1, keep_score_threshold=THRESHOLD, keep_max_detections=MOST, eval_strategy="no",
            save_strategy="no", use_cpu=DEVICE == "cpu",
        )  # fmt: skip
        trainer = build_sam3_trainer(model, processor, data, DataArguments(), LossArguments(), training_args)
        samples = trainer.eval_dataset

        def at_once():
            return trainer.answer(samples).detections

        def one_by_one():
            return {
                (row["example_id"], phrase["text"]): ask(model, processor, sample, phrase["text"])
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
def ask(model, processor, sample, text: str) -> list[dict]:
    """One phrase, as `Sam3Model` is called, brought to the image as we do."""
    tokens = processor.tokenizer([text], padding="max_length", max_length=32, return_tensors="pt").to(DEVICE)
    pixels = (sample.image[None].float() / 127.5 - 1).to(DEVICE)
    out = model(pixel_values=pixels, input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
    scores = out.pred_logits[0].sigmoid() * out.presence_logits[0].sigmoid()
    values, order = scores.topk(min(MOST, len(scores)))
    kept = order[values >= THRESHOLD]
    return to_detections(
        scores[kept], out.pred_boxes[0, kept].clamp(0, 1), out.pred_masks[0, kept], *sample.original_size
    )


def largest_difference(first: dict, second: dict) -> float:
    """Of scores, and of boxes as shares of the image's width; both must have found as many."""
    worst = 0.0
    for key, found in first.items():
        assert len(found) == len(second[key]), key
        one, other = (
            np.array([[d["score"], *(v / 320 for v in d["bbox"])] for d in some]) for some in (found, second[key])
        )
        # each with its like: equal scores may stand in another order
        worst = max(worst, float(np.abs(one[:, None] - other[None]).max(-1).min(1).max(initial=0.0)))
    return worst


if __name__ == "__main__":
    main()
