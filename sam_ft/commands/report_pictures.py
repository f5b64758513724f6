"""Pictures of a report: the best and worst images, and those that changed most."""

from PIL import Image

from ..data.loading import PhraseData
from ..evaluation.predictions import ScoredEvaluation
from ..reporting.pictures import comparison_of, tile
from .candidates import CandidateEvaluation


MOST_IMPROVED, MOST_DEGRADED = "Most improved since", "Most degraded since"


def draw_pictures(
    evaluated: list[CandidateEvaluation], data: PhraseData, number: int, only: set[str] | None = None
) -> dict[str, list[tuple[str, Image.Image]]]:
    """
    Draw the best and the worst images of the last evaluation, and those that changed most since the first one.

    Args:
        evaluated (`list[CandidateEvaluation]`): Evaluations of the same images.
        data (`PhraseData`): Data of the evaluations.
        number (`int`): Number of pictures of each kind.
        only (`set[str]`, *optional*): Phrases to score and draw, on images that contain one of them; by default all.

    Returns:
        `dict[str, list[tuple[str, Image.Image]]]`: Captions and pictures by heading.
    """
    if not number:
        return {}
    with_objects = all(candidate.scored.objects for candidate in evaluated)
    by_image = {
        candidate.name: _mean_iou(candidate.scored) if with_objects else _mean_f1(candidate.scored, only)
        for candidate in evaluated
    }
    metric = "mean IoU of its objects" if with_objects else "mean F1 of its phrases"
    last, first = by_image[evaluated[-1].name], by_image[evaluated[0].name]
    order = sorted(last, key=last.get)
    chosen = {"Worst pictures": order[:number], "Best pictures": order[::-1][:number]}
    if len(evaluated) > 1:
        changed = sorted(last, key=lambda image: last[image] - first.get(image, 0.0))
        degraded = [image for image in changed if last[image] < first.get(image, 0.0)]
        improved = [image for image in changed[::-1] if last[image] > first.get(image, 0.0)]
        chosen[f"{MOST_DEGRADED} {evaluated[0].name}"] = degraded[:number]
        chosen[f"{MOST_IMPROVED} {evaluated[0].name}"] = improved[:number]
    examples = {image["id"]: image["example_id"] for image in evaluated[-1].scored.ground_truth["images"]}
    index_of_example = {example: i for i, example in enumerate(data.validation["example_id"])}
    stages = {candidate.name: candidate.detections for candidate in evaluated}
    return {
        heading: [
            (
                f"{examples[image]} · {metric}: {_scores(image, by_image)}",
                tile(
                    [comparison_of(_select_phrases(data.validation[index_of_example[examples[image]]], only), stages)]
                ),
            )
            for image in images
        ]
        for heading, images in chosen.items()
    }


def _select_phrases(row: dict, only: set[str] | None) -> dict:
    return row if only is None else row | {"phrases": [p for p in row["phrases"] if p["text"] in only]}


def _mean_f1(scored: ScoredEvaluation, only: set[str] | None = None) -> dict[int, float]:
    """Return the mean F1 of the pairs of each image; an absent phrase without detections has an F1 of 1."""
    values: dict[int, list[float]] = {}
    positive_images = {
        measured.pair.image_id
        for measured in scored.measured
        if only is not None and measured.pair.phrase in only and measured.pair.objects
    }
    for measured in scored.measured:
        pair, counts = measured.pair, measured.counts
        if only is not None and (pair.phrase not in only or pair.image_id not in positive_images):
            continue
        if counts is not None:
            is_empty = not counts.num_detections and not counts.num_objects
            values.setdefault(pair.image_id, []).append(1.0 if is_empty else float(counts.f1.mean()))
    return {image: sum(numbers) / len(numbers) for image, numbers in values.items()}


def _mean_iou(scored: ScoredEvaluation) -> dict[int, float]:
    """Return the mean IoU of the prompted objects of each image."""
    ids = {image["example_id"]: image["id"] for image in scored.ground_truth["images"]}
    values: dict[int, list[float]] = {}
    for (example, _), score in scored.objects.items():
        values.setdefault(ids[example], []).append(score.iou)
    return {image: sum(numbers) / len(numbers) for image, numbers in values.items()}


def _scores(image: int, by_image: dict[str, dict[int, float]]) -> str:
    return ", ".join(f"{name} {values.get(image, 0.0):.2f}" for name, values in by_image.items())
