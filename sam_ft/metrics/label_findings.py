"""Findings of a label review: one for each label that is probably wrong, and one for each probable missing object."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import numpy as np

from .label_overlap import Calibration, ReviewedImage, area_of, measure_overlaps
from .label_review import (
    BAD_BOUNDARY,
    DUPLICATE,
    KINDS,
    MERGED_OR_SPLIT,
    MISSING,
    WRONG_PHRASE,
    ImageReview,
    calibrate,
    review_image,
)


@dataclass
class LabelFinding:
    """
    Probable error of a label, or a probable object without a label.

    Attributes:
        kind (`str`): Kind with the highest score, of `KINDS`.
        score (`float`): Score of this kind in `[0, 1]`.
        scores (`dict[str, float]`): Scores of all kinds of this label; of a missing object, its score alone.
        example_id (`str`): Example.
        phrase (`str`): Phrase of the label or of the missing object.
        instance (`int`, *optional*): Index of the annotation in the image; `None` for a missing object.
        bbox (`list[float]`, *optional*): Box `(x, y, w, h)` of the label or of the missing object, px; `None` for an
            object without a location.
        proposal (`dict`, *optional*): Proposed label with `phrase`, `bbox`, optionally `segmentation`, and the `score`
            of the detection; `None` if the label is to be deleted or drawn again.
        other (`int`, *optional*): Annotation that a near duplicate is a copy of.
    """

    kind: str
    score: float
    scores: dict[str, float]
    example_id: str
    phrase: str
    instance: int | None
    bbox: list[float] | None
    proposal: dict | None
    other: int | None = None

    @property
    def id(self) -> str:
        """Identifier that is the same in a later review with the same finding."""
        box = None if self.bbox is None else [round(value) for value in self.bbox]
        text = repr((self.example_id, self.kind, self.phrase, box))
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    def to_plain(self) -> dict:
        """Return plain values for JSON; scores have four digits."""
        rounded = {"score": round(self.score, 4), "scores": {k: round(v, 4) for k, v in self.scores.items()}}
        return {"id": self.id, **asdict(self), **rounded}


def to_reviewed_image(row: dict, detections: dict[str, list[dict]], presence: dict[str, float]) -> ReviewedImage:
    """
    Combine the labels of a row with the predictions of its image.

    Args:
        row (`dict`): Row of `sam_ft/data/row_schema.py`; its image is not read. Phrases that it does not list, or not
            exhaustively, are never reported as missing.
        detections (`dict[str, list[dict]]`): Detections by phrase.
        presence (`dict[str, float]`): Predicted presence of each prompted phrase.
    """
    size = row["height"], row["width"]
    labels = []
    for phrase in row["phrases"]:
        for index in phrase["instances"]:
            instance = row["instances"][index]
            label = {"phrase": phrase["text"], "instance": index, "bbox": list(instance["bbox"])}
            if instance["segmentation"] is not None:
                label["segmentation"] = {"size": list(size), "counts": instance["segmentation"]}
            labels.append(label | {"iscrowd": instance["is_crowd"]})
    exhaustive = {phrase["text"] for phrase in row["phrases"] if phrase["exhaustive"]}
    found = [{**detection, "phrase": phrase} for phrase, group in detections.items() for detection in group]
    return ReviewedImage(size, labels, found, presence, (presence.keys() | detections.keys()) - exhaustive)


def find_label_errors(
    images: dict[str, ReviewedImage], kinds: Iterable[str] = KINDS, min_score: float = 0.0
) -> tuple[list[LabelFinding], Calibration]:
    """
    Review all images together.

    Args:
        images (`dict[str, ReviewedImage]`): Labels and out-of-fold predictions by example.
        kinds (`Iterable[str]`): Kinds that are reported, of `KINDS`.
        min_score (`float`): Minimum score of a finding.

    Returns:
        `tuple[list[LabelFinding], Calibration]`: Findings, highest score first, and the statistics of all images.
    """
    calibration, kinds = calibrate(images.values()), tuple(kinds)
    findings: list[LabelFinding] = []
    for example, image in images.items():
        review = review_image(image, calibration)
        findings += _label_findings(example, image, review, [kind for kind in KINDS if kind in kinds])
        if MISSING in kinds:
            findings += _missing_objects(example, image, review)
    chosen = [finding for finding in findings if finding.score >= max(min_score, np.finfo(float).tiny)]
    return sorted(chosen, key=lambda f: (-f.score, f.example_id, f.phrase)), calibration


def _label_findings(
    example: str, image: ReviewedImage, review: ImageReview, kinds: list[str]
) -> Iterator[LabelFinding]:
    """Yield the finding of each label that is no crowd region, of its highest score; ties in the order of `KINDS`."""
    kinds = [kind for kind in kinds if kind != MISSING]
    for i, label in enumerate(image.labels if kinds else ()):
        if label.get("iscrowd"):
            continue
        scores = {kind: float(values[i]) for kind, values in review.labels.items()}
        kind = max(kinds, key=scores.__getitem__)
        yield LabelFinding(
            kind,
            scores[kind],
            scores,
            example,
            label["phrase"],
            label["instance"],
            label["bbox"],
            _propose(kind, image, review, i),
            _find_original(image, i) if kind == DUPLICATE else None,
        )


def _missing_objects(example: str, image: ReviewedImage, review: ImageReview) -> Iterator[LabelFinding]:
    for missing in review.missing:
        detection = None if missing.detection is None else image.detections[missing.detection]
        box = None if detection is None else detection["bbox"]
        scores = {MISSING: missing.score}
        yield LabelFinding(MISSING, missing.score, scores, example, missing.phrase, None, box, detection)


def _propose(kind: str, image: ReviewedImage, review: ImageReview, index: int) -> dict | None:
    """Return the proposed label: another phrase, the outline of a detection, or none."""
    label, nearest = image.labels[index], int(review.detections[index])
    if kind == WRONG_PHRASE:
        phrase = review.phrases[index]
        if phrase is None:
            return None
        region = {name: label[name] for name in ("bbox", "segmentation") if name in label}
        same = [d for d in image.detections if d["phrase"] == phrase]
        overlaps = measure_overlaps([label], same)[0] if same else []
        scores = [d["score"] for d, u in zip(same, overlaps, strict=True) if u > 0]
        score = max([*scores, image.crops.get(index, {}).get(phrase, 0.0)])
        return {"phrase": phrase, **region, "score": score}
    if nearest < 0 or kind not in (BAD_BOUNDARY, MERGED_OR_SPLIT):
        return None
    detection = image.detections[nearest]
    # A part of a merged label is no label for all of its instances.
    if kind == MERGED_OR_SPLIT and area_of(detection) < area_of(label):
        return None
    return {**detection, "phrase": label["phrase"]}


def _find_original(image: ReviewedImage, index: int) -> int | None:
    """Return the annotation of the same phrase that overlaps a near duplicate most."""
    label = image.labels[index]
    others = [other for other in image.labels if other["phrase"] == label["phrase"] and other is not label]
    return others[int(measure_overlaps([label], others)[0].argmax())]["instance"] if others else None
