"""Selection of the unlabelled images to label next, from the predictions of the fold models of a label review."""

import logging
import os
from collections import Counter

import numpy as np

from ..arguments import ReviewArguments
from ..data.fingerprint import ImageContents
from ..data.image_entries import ImageEntry
from ..data.writers.image_names import source_paths
from ..inference.image_list import ImageList
from ..inference.image_sources import find_images
from ..inference.label_proposals import PROPOSAL_FILES, open_proposals
from ..inference.label_studio_input import check_label_studio_input
from ..inference.output_target import OutputTarget
from ..inference.prediction_records import PredictionRecords
from ..inference.predictor import ImagePrediction
from ..metrics.label_acquisition import CommitteePredictions, RankedImage, select_images
from ..utils.json_files import read_json_file, to_json
from ..utils.owned_files import OwnedFiles
from ..utils.text import list_some
from .review_committee import Committee, CommitteeMember
from .review_data import ReviewData
from .review_folds import FoldRuns


logger = logging.getLogger("sam_ft.run")

NEXT_FILE, NEXT_FOLDER = "next.json", "next"
_ARGUMENT, _MAX_PHRASES_LISTED = "review_dir", 5


def check_next_outputs(owned: OwnedFiles) -> None:
    """
    Check that the outputs of a selection may be written.

    Args:
        owned (`OwnedFiles`): Files of the review's folder.

    Raises:
        ValueError: If a file of such a name exists that no review wrote, or that was edited since.
    """
    owned.check_free([NEXT_FILE], _ARGUMENT)
    _next_files(owned).check_free([name for names in PROPOSAL_FILES.values() for name in names], _ARGUMENT)


def _next_files(owned: OwnedFiles) -> OwnedFiles:
    return OwnedFiles(owned.folder / NEXT_FOLDER, "review")


def find_unlabelled(review_args: ReviewArguments, data: ReviewData) -> ImageList:
    """
    Find the unlabelled images, without those that are labelled already.

    Args:
        review_args (`ReviewArguments`): Keys of the review.
        data (`ReviewData`): Labelled images.

    Raises:
        ValueError: If a source does not exist or contains no image, or all images are labelled.
    """
    images = find_images(review_args.unlabelled, argument="unlabelled")
    paths = {os.path.realpath(path) for path in source_paths(data.rows) if path is not None}
    has_labelled_path = [image.is_file and os.path.realpath(image.file) in paths for image in images]
    contents = ImageContents(data.rows)
    is_copy = [
        not is_same_file and contents.has_copy(image)
        for is_same_file, image in zip(has_labelled_path, images, strict=True)
    ]
    labelled = [is_same_file or copy for is_same_file, copy in zip(has_labelled_path, is_copy, strict=True)]
    others = ImageList(image for image, is_labelled in zip(images, labelled, strict=True) if not is_labelled)
    if not len(others):
        raise ValueError(f"`unlabelled`: all {len(images)} images are labelled already. Give other images")
    if any(labelled):
        numbers = sum(labelled), len(images)
        copies = f", {sum(is_copy)} of them as copies under another name" if any(is_copy) else ""
        logger.info("note: %d of %d images are labelled already and left out%s", *numbers, copies)
    if review_args.next > len(others):
        logger.info("note: `next` is %d, but there are %d unlabelled images", review_args.next, len(others))
    return others


def select_next(
    runs: FoldRuns, data: ReviewData, images: ImageList, owned: OwnedFiles, review_args: ReviewArguments
) -> None:
    """
    Select the images to label next, and write `next.json` and pre-annotations.

    Args:
        runs (`FoldRuns`): Keys of the runs, whose folds are complete.
        data (`ReviewData`): Labelled images.
        images (`ImageList`): Unlabelled images.
        owned (`OwnedFiles`): Files of the review's folder.
        review_args (`ReviewArguments`): Keys of the selection.

    Raises:
        ValueError: If no image can be read, or an output was edited.
    """
    committee = Committee(runs, data)
    counts = Counter(p["text"] for phrases in data.rows["phrases"] for p in phrases if p["instances"])
    phrases = sorted(counts)
    readable, records = committee.predict(images, phrases)
    entries = list(readable)
    predictions = CommitteePredictions.collect(
        phrases, [[_summarize(prediction) for _, prediction, _ in store.read()] for store in records]
    )
    labelled, features = committee.pool_features(readable)
    ranked = select_images(
        predictions,
        review_args.next,
        phrase_counts=np.array([counts[text] for text in phrases]),
        features=features,
        labelled_features=labelled,
    )
    content = {
        "images": len(images),
        "unreadable": len(images) - len(entries),
        "models": [member.name for member in committee.members],
        "labelled_images": {text: counts[text] for text in phrases},
        "proposals": review_args.proposals,
        "next": [_describe(rank, image, entries, predictions, phrases) for rank, image in enumerate(ranked, 1)],
    }
    _write(owned, content, _annotate(ranked, entries, predictions, records, committee.members), phrases)
    logger.info("label next: %s", list_some([entries[image.index].path for image in ranked], 3))


def _summarize(prediction: ImagePrediction) -> tuple[dict[str, float], dict[str, list[float]]]:
    scores = {text: [d["score"] for d in found] for text, found in prediction.detections.items()}
    return prediction.presence, scores


def _describe(
    rank: int, image: RankedImage, entries: list[ImageEntry], committee: CommitteePredictions, phrases: list[str]
) -> dict:
    presence = committee.presence[:, image.index].mean(0)
    first = np.argsort(-presence, kind="stable")[:_MAX_PHRASES_LISTED]
    return {
        "rank": rank,
        "image": entries[image.index].path,
        "score": round(image.score, 4),
        "parts": {name: round(value, 6) for name, value in image.parts.items()},
        "distance": round(image.distance, 4),
        "presence": {phrases[t]: round(float(presence[t]), 4) for t in first.tolist()},
    }


def _annotate(
    ranked: list[RankedImage],
    entries: list[ImageEntry],
    committee: CommitteePredictions,
    records: list[PredictionRecords],
    members: list[CommitteeMember],
) -> list[tuple[ImageEntry, ImagePrediction]]:
    """Return the detections of the selected images above the thresholds of the model nearest to the mean presence."""
    nearest = np.abs(committee.presence - committee.presence.mean(0)).sum(2).argmin(0)
    predictions: dict[int, ImagePrediction] = {}
    for m, (member, store) in enumerate(zip(members, records, strict=True)):
        chosen = {image.index for image in ranked if nearest[image.index] == m}
        thresholds = member.read_thresholds()
        for i, (_, prediction, _) in enumerate(store.read() if chosen else ()):
            if i in chosen:
                for text, found in prediction.detections.items():
                    prediction.detections[text] = [d for d in found if d["score"] >= thresholds.of(text)]
                predictions[i] = prediction
    return [(entries[image.index], predictions[image.index]) for image in ranked]


def _write(
    owned: OwnedFiles, content: dict, annotated: list[tuple[ImageEntry, ImagePrediction]], phrases: list[str]
) -> None:
    """Write the pre-annotations, then `next.json`; nothing if an earlier call wrote the same."""
    outputs, formats = _next_files(owned), content["proposals"]
    files = [name for kind in formats for name in PROPOSAL_FILES[kind]]
    is_complete = all(map(outputs.is_owned, files)) and owned.is_owned(NEXT_FILE)
    if is_complete and read_json_file(owned.folder / NEXT_FILE, _ARGUMENT) == content:
        logger.info("  the selection is up to date")
        return
    outputs.folder.mkdir(exist_ok=True)
    root = os.path.commonpath([os.path.dirname(entry.path) for entry, _ in annotated])
    if "label_studio" in formats:
        check_label_studio_input([entry for entry, _ in annotated], phrases, "proposals")
    target = OutputTarget(outputs, phrases, root, "pre-annotations of images to label next")
    for kind in formats:
        with open_proposals(kind, target) as output:
            for entry, prediction in annotated:
                output.add(entry, prediction)
    outputs.remove([name for name in outputs.names if name not in files])
    owned.write_text(NEXT_FILE, to_json(content, NEXT_FILE, indent=1), _ARGUMENT)
