"""Precision and AUROC of the label review on synthetic scenes with planted label errors.

    python benchmarks/label_review.py                              # sam-ft/tiny, 200 scenes, five seeds
    python benchmarks/label_review.py --more_kinds                 # also split labels and near duplicates
    python benchmarks/label_review.py --boxes                      # labels and predictions without masks
    python benchmarks/label_review.py --crops                      # second predictions of probably wrong phrases
    python benchmarks/label_review.py --folds 5 --seeds 7          # out-of-fold predictions of `sam-ft review`

The labels are the shapes of the scenes. A share of them is corrupted in each of four ways: object removed, phrase
swapped with another shape, mask shifted by a fifth of its size, spurious object added (mask and phrase of an object of
another scene, where it overlaps no object). `--more_kinds` also replaces labels by their two halves, and adds copies
of labels that are shifted by 3 % of their size. The predictions are those of a model that never saw the scenes. With
`--folds`, the scenes and the corrupted labels are written to files, and the result of `sam-ft review` is measured,
which trains concepts on them, or what `--config` sets, and predicts labels of a probably wrong phrase again in crops.

For each kind of error, `AUROC` ranks all labels (images, for removed objects) by the score of this kind, and
`precision` is the share of planted errors of this kind among the first n findings of this kind, n being the number
planted. `all` ranks one finding for each label, of its highest score, together with the missing objects; a finding
counts if its kind is the planted one. The default seeds were not used to choose the formulas.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.gpu_table import format_table  # noqa: E402
from sam_ft.commands.review_crops import find_uncertain, predict_crop  # noqa: E402
from sam_ft.data.keyed_random import keyed_draws  # noqa: E402
from sam_ft.data.row_schema import to_dataset  # noqa: E402
from sam_ft.data.synthetic.scenes import SceneObject, draw_scene  # noqa: E402
from sam_ft.data.writers.coco_files import write_coco  # noqa: E402
from sam_ft.inference.sam3_predictor import Sam3Predictor  # noqa: E402
from sam_ft.metrics.label_overlap import measure_overlaps  # noqa: E402
from sam_ft.metrics.label_review import (  # noqa: E402
    BAD_BOUNDARY,
    DUPLICATE,
    KINDS,
    LABEL_KINDS,
    MERGED_OR_SPLIT,
    MISSING,
    SPURIOUS,
    WRONG_PHRASE,
    ImageReview,
    MissingObject,
    ReviewedImage,
    calibrate,
    review_image,
)
from sam_ft.ops.masks import encode_mask, mask_box_xywh, to_coco_rle  # noqa: E402
from sam_ft.options.prediction import PredictOptions  # noqa: E402
from sam_ft.options.scenes import SceneOptions  # noqa: E402


PLANTED = (MISSING, WRONG_PHRASE, BAD_BOUNDARY, SPURIOUS)
MORE_KINDS = (MERGED_OR_SPLIT, DUPLICATE)
# Keys of the fold runs: concepts of the packaged model.
FOLD_KEYS = {
    "concept_tokens": 8, "pairs_per_chunk": 64, "feature_cache": "features", "cache_text": True, "negative_ratio": 0.4,
    "resize": "plain", "num_train_epochs": 4, "learning_rate": 1.5e-2, "lr_scale": 1.0, "weight_decay": 0.0,
    "lr_schedule": "transformers", "lr_scheduler_type": "cosine", "warmup_steps": 0, "dataloader_num_workers": 0,
    "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "save_strategy": "no",
}  # fmt: skip
SHIFT = 0.2  # of the width and height of the box
MIN_SCORE = 0.02  # of the detections


@dataclass
class Scene:
    """Predictions of a scene, its corrupted labels, and the removed objects; a label's `planted` is its error."""

    image: ReviewedImage
    removed: list[dict]


def as_label(mask: np.ndarray, phrase: str, planted: str | None = None) -> dict:
    """Build a label from a bool mask."""
    counts = encode_mask(mask)
    return {
        "phrase": phrase,
        "planted": planted,
        "bbox": mask_box_xywh(counts, *mask.shape),
        "segmentation": to_coco_rle(counts, *mask.shape),
    }


def shift_mask(mask: np.ndarray, rng: np.random.Generator, share: float = SHIFT) -> np.ndarray:
    """Shift a mask by a share of its size in a random direction that leaves four fifths of it in the image."""
    (ys, xs), (height, width) = np.nonzero(mask), mask.shape
    length = share * np.array([np.ptp(ys) + 1, np.ptp(xs) + 1])
    for angle in rng.uniform(0, 2 * np.pi, 20):
        dy, dx = np.round(length * (np.sin(angle), np.cos(angle))).astype(int)
        y, x = ys + dy, xs + dx
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        if inside.mean() > 0.8:
            break
    shifted = np.zeros_like(mask)
    shifted[y[inside], x[inside]] = True
    return shifted


def make_labels(scene_object: SceneObject, kind: str | None, phrases: list[str], rng) -> list[dict]:
    """Return the labels of an object, with an error of this kind."""
    phrase, mask = scene_object.shape, scene_object.mask
    if kind == WRONG_PHRASE:
        return [as_label(mask, str(rng.choice([other for other in phrases if other != phrase])), kind)]
    if kind == BAD_BOUNDARY:
        return [as_label(shift_mask(mask, rng), phrase, kind)]
    if kind == DUPLICATE:
        return [as_label(mask, phrase), as_label(shift_mask(mask, rng, 0.03), phrase, kind)]
    if kind == MERGED_OR_SPLIT:
        halves = mask.copy(), mask.copy()
        middle = int(np.median(np.nonzero(mask)[1]))
        halves[0][:, middle:] = halves[1][:, :middle] = False
        return [as_label(half, phrase, kind) for half in halves if half.any()]
    return [as_label(mask, phrase, kind)]


def plant_errors(
    scenes: list[list[SceneObject]], phrases: list[str], share: float, seed: int, kinds: tuple[str, ...] = PLANTED
) -> list[Scene]:
    """Corrupt a share of all labels in each way; no label has two errors.

    Args:
        scenes (`list[list[SceneObject]]`): Objects of each scene.
        phrases (`list[str]`): All phrases.
        share (`float`): Share of the labels for each way.
        seed (`int`): Random seed.
        kinds (`tuple[str, ...]`): Kinds of the errors.

    Returns:
        `list[Scene]`: Labels without predictions yet.
    """
    rng = keyed_draws(seed, 0, "", "label errors")
    positions = [(s, o) for s, objects in enumerate(scenes) for o in range(len(objects))]
    number = max(round(share * len(positions)), 1)
    order = rng.permutation(len(positions))
    error_of = {
        positions[p]: kind
        for k, kind in enumerate([kind for kind in kinds if kind != SPURIOUS])
        for p in order[k * number : (k + 1) * number]
    }
    planted = []
    for s, objects in enumerate(scenes):
        labels, removed = [], []
        for o, scene_object in enumerate(objects):
            kind = error_of.get((s, o))
            (removed if kind == MISSING else labels).extend(make_labels(scene_object, kind, phrases, rng))
        planted.append(Scene(ReviewedImage(scenes[s][0].mask.shape, labels, []), removed))
    added = 0
    while added < number:
        s, (donor, o) = int(rng.integers(len(scenes))), positions[rng.integers(len(positions))]
        candidate = scenes[donor][o]
        if not any((candidate.mask & scene_object.mask).any() for scene_object in scenes[s]) and donor != s:
            planted[s].image.labels.append(as_label(candidate.mask, candidate.shape, SPURIOUS))
            added += 1
    return planted


def auroc(scores: np.ndarray, is_positive: np.ndarray) -> float:
    """Compute the area under the ROC curve; equal scores count half."""
    values, ranks = np.unique(scores, return_inverse=True)
    counts = np.bincount(ranks, minlength=len(values))
    middle = np.cumsum(counts) - (counts - 1) / 2
    positives = int(is_positive.sum())
    total = middle[ranks][is_positive].sum() - positives * (positives + 1) / 2
    return float(total / (positives * (len(scores) - positives)))


def measure(scenes: list[Scene], reviews: list[ImageReview] | None = None) -> dict[str, dict[str, float]]:
    """Return `AUROC` and `precision` by kind, and `precision` of all findings together."""
    if reviews is None:
        calibration = calibrate(scene.image for scene in scenes)
        reviews = [review_image(scene.image, calibration) for scene in scenes]
    planted = np.array([label["planted"] or "" for scene in scenes for label in scene.image.labels])
    scores = np.stack([np.concatenate([review.labels[kind] for review in reviews]) for kind in LABEL_KINDS])
    missing = [
        (found.score, is_removed(scene, review, k))
        for scene, review in zip(scenes, reviews, strict=True)
        for k, found in enumerate(review.missing)
    ]
    images = np.array([review.scores()[MISSING] for review in reviews])
    number = sum(len(scene.removed) for scene in scenes)
    result = {
        MISSING: {
            "AUROC": auroc(images, np.array([bool(scene.removed) for scene in scenes])),
            "precision": share_of_first(*zip(*missing, strict=True), number),
        }
    }
    for kind, values in zip(LABEL_KINDS, scores, strict=True):
        is_kind = planted == kind
        if is_kind.any():
            precision = share_of_first(values, is_kind, int(is_kind.sum()))
            result[kind] = {"AUROC": auroc(values, is_kind), "precision": precision}
    is_right = np.array(LABEL_KINDS)[scores.argmax(0)] == planted
    together = [*zip(scores.max(0), is_right, strict=True), *missing]
    number += int((planted != "").sum())
    return result | {"all": {"precision": share_of_first(*zip(*together, strict=True), number)}}


def share_of_first(scores: Sequence[float], is_right: Sequence[bool], number: int) -> float:
    """Return the share of right findings among the `number` highest scores."""
    first = np.argsort(-np.asarray(scores), kind="stable")[:number]
    return float(np.asarray(is_right)[first].sum() / number)


def is_removed(scene: Scene, review: ImageReview, index: int) -> bool:
    """Return whether a missing object is a removed one: of its phrase, and at least half overlapping."""
    found = review.missing[index]
    if found.detection is None:
        return any(label["phrase"] == found.phrase for label in scene.removed)
    overlaps = measure_overlaps([scene.image.detections[found.detection]], scene.removed)
    return bool((overlaps >= 0.5).any())


def draw_scenes(options: SceneOptions, args: argparse.Namespace) -> tuple[list[Scene], list[Image.Image]]:
    """Draw scenes and plant errors in their labels; `args` are those of the benchmark."""
    drawn = [draw_scene(keyed_draws(options.seed, 0, f"val-{i}", "review"), options) for i in range(args.scenes)]
    kinds = PLANTED + MORE_KINDS * args.more_kinds
    scenes = plant_errors([objects for _, objects in drawn], list(options.shapes), args.share, options.seed, kinds)
    return scenes, [image for image, _ in drawn]


def predict(predictor: Sam3Predictor, options: SceneOptions, args: argparse.Namespace) -> list[Scene]:
    """Draw scenes, plant errors in their labels, and predict them; `args` are those of the benchmark."""
    scenes, pictures = draw_scenes(options, args)
    for scene, image in zip(scenes, pictures, strict=True):
        prediction = predictor(image, list(options.shapes))
        scene.image.presence = prediction.presence
        scene.image.detections = [
            detection | {"phrase": phrase} for phrase, found in prediction.detections.items() for detection in found
        ]
        if args.boxes:
            for region in [*scene.image.labels, *scene.image.detections, *scene.removed]:
                del region["segmentation"]
    images = {str(i): scene.image for i, scene in enumerate(scenes)}
    for name, index in find_uncertain(images) if args.crops else ():
        images[name].crops[index] = predict_crop(predictor, pictures[int(name)], images[name], index)
    return scenes


def to_row(index: int, scene: Scene, image: Image.Image, phrases: list[str]) -> dict:
    """Convert a scene with its corrupted labels to a row."""
    labels = scene.image.labels
    fixed = {"area": 0.0, "is_crowd": False}
    instances = [
        {"bbox": label["bbox"], "segmentation": label["segmentation"]["counts"].decode(), **fixed} for label in labels
    ]
    listed = [
        {"text": text, "instances": [i for i, one in enumerate(labels) if one["phrase"] == text], "exhaustive": True}
        for text in phrases
    ]
    size = {"width": image.width, "height": image.height}
    return {"example_id": str(index), "image": image, **size, "instances": instances, "phrases": listed}


def review_by_command(options: SceneOptions, args: argparse.Namespace) -> tuple[list[Scene], list[ImageReview]]:
    """Write scenes and corrupted labels to files, run `sam-ft review` on them, and read its findings."""
    scenes, images = draw_scenes(options, args)
    rows = [to_row(i, *pair, list(options.shapes)) for i, pair in enumerate(zip(scenes, images, strict=True))]
    with tempfile.TemporaryDirectory() as folder:
        config = args.config or f"{folder}/keys.yaml"
        if args.config is None:
            Path(config).write_text(yaml.safe_dump({"model_name_or_path": args.model, **FOLD_KEYS}))
        write_coco(to_dataset(rows), f"{folder}/data", "train")
        keys = {"config": config, "dataset_name": f"{folder}/data", "review_dir": f"{folder}/review"}
        keys |= {"num_folds": args.folds, "min_finding_score": 0, "max_findings": 0}
        words = [word for name, value in keys.items() for word in (f"--{name}", str(value))]
        recipe = Path(__file__).resolve().parents[1] / "recipes" / "review_labels.py"
        subprocess.run([sys.executable, str(recipe), *words], check=True)
        findings = json.loads(Path(folder, "review", "findings.json").read_text())["findings"]
    return scenes, read_reviews(scenes, findings)


def read_reviews(scenes: list[Scene], findings: list[dict]) -> list[ImageReview]:
    """Convert the findings of all scenes to the scores of each scene; detections of missing objects are added."""
    reviews = []
    for scene in scenes:
        labels = {kind: np.zeros(len(scene.image.labels)) for kind in LABEL_KINDS}
        reviews.append(ImageReview(labels, np.zeros(0), [], []))
    for finding in findings:
        scene, review = scenes[int(finding["example_id"])], reviews[int(finding["example_id"])]
        if finding["kind"] != MISSING:
            assert scene.image.labels[finding["instance"]]["phrase"] == finding["phrase"]
            for kind in LABEL_KINDS:
                review.labels[kind][finding["instance"]] = finding["scores"][kind]
            continue
        proposal = finding["proposal"]
        index = None if proposal is None else len(scene.image.detections)
        scene.image.detections += [] if proposal is None else [proposal]
        review.missing.append(MissingObject(finding["phrase"], index, finding["score"]))
    return reviews


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sam-ft/tiny", help="Folder, Hub id or packaged model.")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--share", type=float, default=0.05, help="Share of the labels for each kind of error.")
    parser.add_argument("--more_kinds", action="store_true", help="Also plant split labels and near duplicates.")
    parser.add_argument("--boxes", action="store_true", help="Remove all masks.")
    parser.add_argument("--crops", action="store_true", help="Also predict crops of probably wrong phrases.")
    parser.add_argument("--folds", type=int, help="Number of folds of `sam-ft review`. Default: no training.")
    parser.add_argument("--config", help="YAML file of the folds. Default: concepts of the packaged model.")
    parser.add_argument("--seeds", nargs="+", type=int, default=[101, 102, 103, 104, 105])
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    if not args.folds:
        predictor = Sam3Predictor.from_pretrained(args.model, options=PredictOptions(score_threshold=MIN_SCORE))
    for seed in args.seeds:
        options = SceneOptions(seed=seed)
        if args.folds:
            results.append(measure(*review_by_command(options, args)))
        else:
            results.append(measure(predict(predictor, options, args)))
        print(seed, {k: {n: round(v, 3) for n, v in r.items()} for k, r in results[-1].items()}, flush=True)
    rows = [
        [kind, *(format_mean([result[kind][name] for result in results if name in result[kind]])
                 for name in ("AUROC", "precision"))]
        for kind in (*KINDS, "all")
        if kind in results[0]
    ]  # fmt: skip
    print(format_table(["kind", "AUROC", "precision"], rows))


def format_mean(values: list[float]) -> str:
    """Format mean and range of a metric over seeds."""
    return f"{statistics.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else ""


if __name__ == "__main__":
    main()
