"""Proposals of a label review: the labels with the corrections of its findings, for a labelling tool."""

import os
from collections.abc import Iterable
from dataclasses import replace

from datasets import Dataset

from ..data.image_entries import ImageEntry
from ..data.writers.coco_files import label_completeness
from ..metrics.label_findings import LabelFinding
from ..metrics.label_overlap import ReviewedImage
from ..metrics.label_review import BAD_BOUNDARY, DUPLICATE, MISSING, SPURIOUS, WRONG_PHRASE
from ..utils.owned_files import OwnedFiles
from .coco_output import CocoOutput
from .cvat_output import CvatOutput
from .label_studio_input import check_label_studio_input
from .label_studio_output import LabelStudioOutput
from .output_target import OutputTarget
from .predictor import ImagePrediction


PROPOSAL_FILES = {
    "coco": CocoOutput.FILES[:1],
    "label_studio": LabelStudioOutput.FILES,
    "cvat": CvatOutput.FILES,
}
_ARGUMENT = "review_dir"


def correct_labels(name: str, image: ReviewedImage, findings: Iterable[LabelFinding]) -> ImagePrediction:
    """
    Apply the corrections of findings to the labels of an image.

    A wrong phrase and a bad outline are replaced, a missing object is added, and spurious and duplicate labels are
    left out. Merged and split labels are not changed, because a person has to draw them.

    Args:
        name (`str`): Name of the image.
        image (`ReviewedImage`): Labels of the image.
        findings (`Iterable[LabelFinding]`): Findings of this image to apply.

    Returns:
        `ImagePrediction`: The labels as detections. A changed one has the entry `review` with the finding, and the
        score of the prediction; the others have the score 1.
    """
    by_label = {(f.instance, f.phrase): f for f in findings if f.instance is not None}
    labels: dict[str, list[dict]] = {}
    for label in image.labels:
        finding = by_label.get((label["instance"], label["phrase"]))
        if finding is not None and finding.kind in (SPURIOUS, DUPLICATE):
            continue
        if finding is not None and finding.kind in (WRONG_PHRASE, BAD_BOUNDARY) and finding.proposal is not None:
            labels.setdefault(finding.proposal["phrase"], []).append(_proposed(finding))
            continue
        kept = {key: label[key] for key in ("bbox", "segmentation", "instance") if key in label}
        kept |= {"score": 1.0, "iscrowd": int(bool(label.get("iscrowd")))}
        labels.setdefault(label["phrase"], []).append(kept)
    for finding in findings:
        if finding.kind == MISSING and finding.proposal is not None:
            labels.setdefault(finding.phrase, []).append(_proposed(finding))
    return ImagePrediction(name, *image.size, labels)


def _proposed(finding: LabelFinding) -> dict:
    review = {"id": finding.id, "kind": finding.kind, "score": round(finding.score, 4)}
    if finding.instance is not None:
        review["phrase"] = finding.phrase  # of the label
    return {key: value for key, value in finding.proposal.items() if key != "phrase"} | {"review": review}


def open_proposals(kind: str, target: OutputTarget) -> CocoOutput | CvatOutput | LabelStudioOutput:
    """
    Return the writer of proposals, a context manager with `add(image, prediction)`.

    Args:
        kind (`str`): Format, of `PROPOSALS`.
        target (`OutputTarget`): Folder of the proposals, and labels.
    """
    target = replace(target, argument=_ARGUMENT)
    if kind == "label_studio":
        return LabelStudioOutput(target, "label review")
    if kind == "cvat":
        return CvatOutput(target)
    return CocoOutput(target, with_results=False)


def write_proposals(
    owned: OwnedFiles,
    formats: list[str],
    rows: Dataset,
    paths: list[str],
    images: dict[str, ReviewedImage],
    findings: list[LabelFinding],
) -> None:
    """
    Write the proposals: COCO and CVAT with all images, tasks of Label Studio with the images of findings, worst first.

    Args:
        owned (`OwnedFiles`): Files of the folder of the proposals.
        formats (`list[str]`): Formats, of `PROPOSALS`.
        rows (`datasets.Dataset`): Rows of all images.
        paths (`list[str]`): Image file of each row.
        images (`dict[str, ReviewedImage]`): Labels of each example.
        findings (`list[LabelFinding]`): Findings to apply, highest score first.

    Raises:
        `ValueError`: If Label Studio cannot show the images or phrases, or a file was edited.
    """
    grouped: dict[str, list[LabelFinding]] = {}
    for finding in findings:
        grouped.setdefault(finding.example_id, []).append(finding)
    names = rows["example_id"][:]
    texts = dict(zip(names, rows["phrases"][:], strict=True))
    entries = {name: ImageEntry(name, path) for name, path in zip(names, paths, strict=True)}
    root = os.path.commonpath([os.path.dirname(entry.path) for entry in entries.values()])
    phrases = sorted(
        {p["text"] for row in texts.values() for p in row} | {f.proposal["phrase"] for f in findings if f.proposal}
    )
    if "label_studio" in formats:
        check_label_studio_input(entries.values(), phrases, "proposals")
    target = OutputTarget(owned, phrases, root, "proposals of a label review")
    for kind in formats:
        with open_proposals(kind, target) as output:
            for name in grouped if kind == "label_studio" else names:
                corrected = correct_labels(name, images[name], grouped.get(name, []))
                if kind == "coco":
                    is_closed = all(p["exhaustive"] for p in texts[name]) and len(texts[name]) == len(phrases)
                    fields = {} if is_closed else label_completeness(texts[name], output.category_ids)
                    output.add(entries[name], corrected, {"example_id": name, **fields})
                else:
                    output.add(entries[name], _without_crowds(corrected))


def _without_crowds(prediction: ImagePrediction) -> ImagePrediction:
    """Return a prediction without crowd regions, which only COCO distinguishes from instances."""
    detections = {
        phrase: [label for label in labels if not label.get("iscrowd")]
        for phrase, labels in prediction.detections.items()
    }
    return replace(prediction, detections=detections)
