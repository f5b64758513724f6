"""Benchmark of evaluation: all phrases of an image in one pass, encoding of masks, COCO metrics.

    python benchmarks/eval.py

The model has SAM 3's ratio of ViT to the rest; each image has twenty phrases. The Trainer's evaluation runs the vision
encoder once per image, `Sam3Model`'s own forward once per phrase. Both end with the same detections at the image's
size.

Masks of 2 megapixels are encoded by the run ends that are found on the device, and by pycocotools on the host. COCO
metrics are computed by faster-coco-eval, if it is installed, and by pycocotools. The results of both are equal.
"""

import sys
import tempfile
from pathlib import Path


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from PIL import Image  # noqa: E402
from pycocotools import mask as coco_mask  # noqa: E402

from benchmarks.cached import RESOLUTION, build_model_with_official_ratio  # noqa: E402
from benchmarks.measure import DEVICE, device_name, seconds  # noqa: E402
from sam_ft.arguments import DataArguments, LossArguments  # noqa: E402
from sam_ft.commands.build_sam3 import build_sam3_trainer  # noqa: E402
from sam_ft.data.loading import PhraseData  # noqa: E402
from sam_ft.data.row_schema import to_dataset  # noqa: E402
from sam_ft.metrics import average_precision  # noqa: E402
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
    for name, values in (("masks", time_of_encoding()), ("COCO metrics", time_of_metrics())):
        print(f"{name}: " + ", ".join(f"{key} {value:.2f}" for key, value in values.items()))


def time_of_encoding(size: tuple[int, int] = (1200, 1600), number: int = 50, device: str = DEVICE) -> dict:
    """Measure the conversion of mask logits to detections against pycocotools' encoding of the resized masks.

    Args:
        size (`tuple[int, int]`): Height and width of the image, px.
        number (`int`): Masks of the image: one large blob each, of smooth noise.
        device (`str`): Device of the logits.

    Returns:
        `dict[str, float]`: Milliseconds a mask of both, and their ratio.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(number, 1, 8, 8, generator=generator) - 0.5
    logits = F.interpolate(noise, (288, 288), mode="bicubic")[:, 0].to(device)
    scores, boxes = torch.rand(number, generator=generator).to(device), torch.rand(number, 4).to(device)

    def ours():
        return [d["segmentation"]["counts"] for d in to_detections(scores, boxes, logits, *size)]

    def on_host():
        counts = []
        for block in logits.split(16):
            masks = (F.interpolate(block[:, None], size, mode="bilinear")[:, 0] > 0).cpu().numpy()
            stacked = np.asfortranarray(np.moveaxis(masks, 0, -1), dtype=np.uint8)
            counts += [rle["counts"].decode() for rle in coco_mask.encode(stacked)]
        return counts

    assert ours() == on_host()
    quick, slow = seconds(ours, on_host, repeats=3)
    return {"ms a mask": 1000 * quick / number, "pycocotools": 1000 * slow / number, "ratio": slow / quick}


def time_of_metrics(images: int = 100, phrases: int = 20) -> dict:
    """Measure COCO's metrics of masks with the backend that is used and with pycocotools.

    Args:
        images (`int`): Images of 640 × 480 px.
        phrases (`int`): Phrases of each image, with two instances and four detections each.

    Returns:
        `dict[str, float]`: Seconds of both, and their ratio.
    """
    random, size = np.random.default_rng(0), (480, 640)
    truth = {"images": [{"id": i, "height": size[0], "width": size[1]} for i in range(images)], "annotations": [],
             "categories": [{"id": c} for c in range(1, phrases + 1)]}  # fmt: skip
    results = []

    def encode(x, y, side):
        box = [max(x, 0), max(y, 0), side, side]
        polygon = [box[0], box[1], box[0] + side, box[1], box[0] + side, box[1] + side, box[0], box[1] + side]
        rle = coco_mask.frPyObjects([polygon], *size)[0]
        return {"bbox": box, "segmentation": rle, "area": float(coco_mask.area(rle))}

    for pair in range(images * phrases):
        ids = {"image_id": pair // phrases, "category_id": pair % phrases + 1}
        for _ in range(2):
            x, y, side = (float(random.integers(limit)) for limit in (500, 400, 150))
            number = len(truth["annotations"]) + 1
            truth["annotations"].append({**ids, **encode(x, y, side + 4), "id": number, "iscrowd": 0})
            for _ in range(2):
                moved = encode(*(random.integers(-4, 5, 2) + (x, y)).tolist(), side + 4)
                results.append({**ids, **moved, "score": float(random.random())})

    def used():
        return average_precision.coco_average_precision(truth, results, "mask")

    def by_pycocotools():
        has_fast, average_precision.has_faster_coco_eval = average_precision.has_faster_coco_eval, lambda: False
        try:
            return used()
        finally:
            average_precision.has_faster_coco_eval = has_fast

    worst = max(abs(a - b) for a, b in zip(used().values(), by_pycocotools().values(), strict=True))
    assert worst <= 1e-12, worst
    quick, slow = seconds(used, by_pycocotools, repeats=1)
    return {"s": quick, "pycocotools": slow, "ratio": slow / quick}


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
