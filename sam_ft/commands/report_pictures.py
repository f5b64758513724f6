"""Pictures of a report: the best and worst images, and those that changed most."""

import itertools
from collections import Counter
from pathlib import Path

from PIL import Image

from ..data.loading import PhraseData
from ..evaluation.predictions import ScoredEvaluation
from ..reporting.comparisons import Comparison, comparison_of, draw_examples, list_drawn_phrases
from ..reporting.phrase_colors import assign_colors
from ..utils.owned_files import OwnedFiles
from .candidates import CandidateEvaluation


BEST, WORST = "Best images", "Worst images"
MOST_IMPROVED, MOST_DEGRADED = "Most improved", "Most degraded"
EXAMPLES = 3  # lines of the sheet of examples


def draw_pictures(
    evaluated: list[CandidateEvaluation], data: PhraseData, number: int, only: set[str] | None = None
) -> dict[str, list[Comparison]]:
    """
    Draw the best and the worst images of the last evaluation, and those that changed most since the first one.

    Args:
        evaluated (`list[CandidateEvaluation]`): Evaluations of the same images.
        data (`PhraseData`): Data of the evaluations.
        number (`int`): Number of pictures of each kind.
        only (`set[str]`, *optional*): Phrases to score and draw, on images that contain one of them; by default all.

    Returns:
        `dict[str, list[Comparison]]`: Panels of each image by heading; no image is among both the best and the worst.
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
    objects = Counter(a["image_id"] for a in evaluated[-1].scored.ground_truth["annotations"])
    order = sorted(last, key=lambda image: (last[image], last[image] - first.get(image, 0.0), objects[image]))
    num_worst = min(number, len(order) // 2)
    chosen = {}
    if len(evaluated) > 1:  # Gains and losses come first, as in the headline.
        changed = sorted(last, key=lambda image: last[image] - first.get(image, 0.0))
        degraded = [image for image in changed if last[image] < first.get(image, 0.0)]
        improved = [image for image in changed[::-1] if last[image] > first.get(image, 0.0)]
        names = f"{evaluated[0].name} → {evaluated[-1].name}"
        chosen |= {f"{MOST_IMPROVED}: {names}": improved[:number], f"{MOST_DEGRADED}: {names}": degraded[:number]}
    chosen |= {BEST: order[num_worst:][::-1][:number], WORST: order[:num_worst]}
    rows = _RowsOfImages(evaluated[-1].scored, data)
    stages = {candidate.name: candidate.detections for candidate in evaluated}
    colors = assign_colors(list_evaluated_phrases(evaluated))
    drawn = {}
    for image in dict.fromkeys(image for images in chosen.values() for image in images):
        row = _select_phrases(rows[image], only)
        caption = f"{rows.examples[image]} · {metric}: {_scores(image, by_image)}"
        drawn[image] = Comparison(caption, comparison_of(row, stages, colors), list_drawn_phrases(row, stages))
    return {heading: [drawn[image] for image in images] for heading, images in chosen.items()}


def list_evaluated_phrases(evaluated: list[CandidateEvaluation]) -> list[str]:
    """List all phrases of the evaluated data, which define the colours of the pictures."""
    return [category["name"] for category in evaluated[-1].scored.ground_truth["categories"]]


def draw_before_and_after(
    evaluated: list[CandidateEvaluation], data: PhraseData, trained: set[str] | None
) -> Image.Image | None:
    """
    Draw the images whose trained phrases improved most from the first evaluation to the last one, or degraded least.

    Detections of trained phrases are drawn, and those of other phrases that are in the image.

    Args:
        evaluated (`list[CandidateEvaluation]`): Evaluations of the same images.
        data (`PhraseData`): Data of the evaluations.
        trained (`set[str]`, *optional*): Trained phrases; by default all phrases count.

    Returns:
        `PIL.Image.Image` or `None`: The sheet; `None` with one evaluation, or if no image contains a trained phrase.
    """
    if len(evaluated) < 2:
        return None
    first, last = evaluated[0].scored, evaluated[-1].scored
    before, after = (_mean_iou(s) if last.objects else _mean_f1(s, trained) for s in (first, last))
    gains = {image: value - before.get(image, 0.0) for image, value in after.items()}
    shown: dict[int, set[str]] = {image: set() for image in gains}
    for pair in last.pairs:
        if pair.image_id in shown and pair.objects and (trained is None or pair.phrase in trained):
            shown[pair.image_id].add(pair.phrase)
    chosen = _choose_examples(sorted(shown, key=lambda image: (-gains[image], -len(shown[image]), image)), shown)
    if not chosen:
        return None
    stages = {candidate.name: candidate.detections for candidate in (evaluated[0], evaluated[-1])}
    rows_of_images, rows = _RowsOfImages(last, data), []
    for image in chosen:
        row = rows_of_images[image]
        present = {phrase["text"] for phrase in row["phrases"] if phrase["instances"]}
        rows.append(_select_phrases(row, None if trained is None else trained | present))
    return draw_examples(rows, stages, list_evaluated_phrases(evaluated))


def _choose_examples(order: list[int], shown: dict[int, set[str]]) -> list[int]:
    """Choose the first images of an order; those with a phrase that no earlier one shows come first."""
    chosen: list[int] = []
    while len(chosen) < min(EXAMPLES, len(order)):
        remaining = [image for image in order if image not in chosen]
        covered = set().union(*(shown[image] for image in chosen))
        chosen.append(next((image for image in remaining if shown[image] - covered), remaining[0]))
    return chosen


class _RowsOfImages:
    """
    Rows of the validation split by image id.

    Attributes:
        examples (`dict[int, str]`): Example id of each image id.
    """

    def __init__(self, scored: ScoredEvaluation, data: PhraseData):
        self.examples = {image["id"]: image["example_id"] for image in scored.ground_truth["images"]}
        self._rows = data.validation
        self._indices = {example: i for i, example in enumerate(data.validation["example_id"])}

    def __getitem__(self, image: int) -> dict:
        return self._rows[self._indices[self.examples[image]]]


def save_picture(owned: OwnedFiles, name: str, picture: Image.Image) -> str:
    """
    Save a picture; if a file of that name is not owned, a number is added to the name.

    Args:
        owned (`OwnedFiles`): Files of the folder.
        name (`str`): Relative path of the picture.
        picture (`PIL.Image.Image`): The picture.

    Returns:
        `str`: Relative path of the file that was written.
    """
    path = Path(name)
    names = (path.with_stem(f"{path.stem}{'' if i == 0 else f'-{i}'}").as_posix() for i in itertools.count())
    free = next(candidate for candidate in names if owned.is_free(candidate))
    owned.write(free, picture.save, "output_dir")
    return free


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
