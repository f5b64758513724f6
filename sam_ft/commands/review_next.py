"""Selection of the unlabelled images to label next, from the predictions of the fold models of a label review."""

import dataclasses
import logging
import os
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from ..arguments import ReviewArguments
from ..data.image_entries import ImageEntry
from ..data.samples.feature_store import FeatureStore, fingerprint_of
from ..data.samples.pipeline import EvaluationSamples
from ..data.writers.image_names import source_paths
from ..inference.batch_prediction import run_job
from ..inference.coco_output import CocoOutput
from ..inference.image_list import ImageList
from ..inference.image_sources import find_images
from ..inference.label_studio_output import LabelStudioOutput, check_label_studio_input
from ..inference.prediction_job import PredictionJob
from ..inference.prediction_records import PredictionRecords, open_records
from ..inference.predictor import ImagePrediction
from ..inference.sam3_predictor import Sam3Predictor
from ..inference.tiling import ImageViews
from ..inference.weights_fingerprint import compute_weights_fingerprint
from ..metrics.label_acquisition import CommitteePredictions, RankedImage, select_images
from ..metrics.label_overlap import LOWEST_SCORE
from ..metrics.thresholds import FILE as THRESHOLDS
from ..metrics.thresholds import Thresholds, read_thresholds
from ..models.lora import unwrap_sam
from ..models.model_files import find_saved_file
from ..options.prediction import PredictOptions
from ..utils.json_files import read_json_file, to_json
from ..utils.owned_files import OwnedFiles
from ..utils.text import list_some
from .key_conversion import to_model_options
from .review_data import ReviewData
from .review_folds import UNTRAINED, FoldRuns, list_fold_models
from .review_outputs import PROPOSAL_FILES


logger = logging.getLogger("sam_ft.run")

NEXT_FILE, NEXT_FOLDER, UNLABELLED_FOLDER = "next.json", "next", "unlabelled"
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
    try:
        images = find_images(review_args.unlabelled)
    except ValueError as error:
        raise ValueError(str(error).replace("`images`", "`unlabelled`").replace("--images", "--unlabelled")) from error
    paths = {os.path.realpath(path) for path in source_paths(data.rows) if path is not None}
    others = ImageList(image for image in images if not (image.is_file and os.path.realpath(image.file) in paths))
    if not len(others):
        raise ValueError(f"`unlabelled`: all {len(images)} images are labelled already. Give other images")
    if len(others) < len(images):
        logger.info("note: %d of %d images are labelled already and left out", len(images) - len(others), len(images))
    if review_args.next > len(others):
        logger.info("note: `next` is %d, but there are %d unlabelled images", review_args.next, len(others))
    return others


@dataclasses.dataclass
class CommitteeMember:
    """
    Model of a committee.

    Attributes:
        name (`str`): Name of its folder.
        loading (`ModelOptions`): Options that load it.
        device (`torch.device`): Its device.
    """

    name: str
    loading: object
    device: torch.device

    def load(self) -> Sam3Predictor:
        """Load the model; low scores count for the selection."""
        return Sam3Predictor.load(
            self.loading, options=PredictOptions(score_threshold=LOWEST_SCORE), device=self.device
        )

    def read_thresholds(self) -> Thresholds:
        """Return the score thresholds that are saved with the model."""
        file = find_saved_file(self.loading.model_name_or_path, THRESHOLDS, self.loading.revision)
        return (file and read_thresholds(file.parent)) or Thresholds()

    def fingerprint(self) -> str:
        """Return a fingerprint of the weights."""
        return compute_weights_fingerprint(self.loading.model_name_or_path, self.loading.revision)

    def predict(self, images: ImageList, phrases: list[str], folder: Path) -> PredictionRecords:
        """Predict the images without a record; an unreadable image is left out."""
        records = open_records(folder / self.name, images)
        starts = range(0, len(images), records.block_size)
        blocks = (range(start, min(start + records.block_size, len(images))) for start in starts)
        if any(len(records.find_missing(block)) for block in blocks):
            settings = {"model": self.loading.model_name_or_path, "weights": self.fingerprint()}
            job = PredictionJob(images, phrases, folder / self.name, ["coco"], skip_bad=True, settings=settings)
            lines = run_job(self.load(), job)
            for line in lines:
                if line.startswith("skipped"):
                    logger.info("  %s", line)
        return records


def list_committee(runs: FoldRuns, data: ReviewData) -> list[CommitteeMember]:
    """
    List the models of a review: those of the folds, or the model as it is without them.

    Args:
        runs (`FoldRuns`): Keys of the runs.
        data (`ReviewData`): Data of the review.
    """
    loading, device = to_model_options(runs.model, seed=0), runs.build(None).training.device
    if data.folds is None:
        return [CommitteeMember(UNTRAINED, loading, device)]
    return [
        CommitteeMember(
            folder.name,
            dataclasses.replace(loading, model_name_or_path=str(folder), revision=None, concepts=[]),
            device,
        )
        for folder in list_fold_models(runs.folder, data.folds.num_folds)
    ]


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
    folder, members = runs.folder / UNLABELLED_FOLDER, list_committee(runs, data)
    counts = Counter(p["text"] for phrases in data.rows["phrases"] for p in phrases if p["instances"])
    phrases = sorted(counts)
    records = [member.predict(images, phrases, folder) for member in members]
    readable = [i for i, (_, prediction, _) in enumerate(records[0].read()) if prediction is not None]
    if not readable:
        raise ValueError(f"`unlabelled`: none of the {len(images)} images can be read. Give other images")
    is_readable = set(readable)
    committee = CommitteePredictions.collect(
        phrases,
        [
            [_summarize(prediction) for i, (_, prediction, _) in enumerate(store.read()) if i in is_readable]
            for store in records
        ],
    )
    entries = [images[i] for i in readable]
    labelled, features = _compute_features(members[0], data, entries, folder)
    ranked = select_images(
        committee,
        review_args.next,
        phrase_counts=np.array([counts[text] for text in phrases]),
        features=features,
        labelled_features=labelled,
    )
    content = {
        "images": len(images),
        "unreadable": len(images) - len(readable),
        "models": [member.name for member in members],
        "labelled_images": {text: counts[text] for text in phrases},
        "proposals": review_args.proposals,
        "next": [_describe(rank, image, entries, committee, phrases) for rank, image in enumerate(ranked, 1)],
    }
    _write(owned, content, _annotate(ranked, entries, committee, records, members, readable), phrases)
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


@torch.no_grad()
def _compute_features(
    member: CommitteeMember, data: ReviewData, entries: list[ImageEntry], folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean ViT features of the labelled and of the unlabelled images, which are stored for later calls."""
    store = FeatureStore(folder / "features", {"weights": member.fingerprint()})
    labelled = [f"labelled {name}" for name in data.rows["example_id"]]
    unlabelled = [f"unlabelled {fingerprint_of(map(str, entry.identity()))}" for entry in entries]
    missing = [index for index, _ in store.missing([*labelled, *unlabelled])]
    if missing:
        predictor = member.load()
        sam = unwrap_sam(predictor.model)
        rows = EvaluationSamples(data.rows, resolution=predictor.resolution, geometry_token=False)
        views = ImageViews(entries, predictor.resolution)
        for index in missing:
            number = index - len(labelled)
            canvas = rows.view(index, 0) if number < 0 else views[number].views[0].canvas
            with predictor.autocast():
                pooled = sam.encode_images(canvas[None].to(predictor.device)).float().mean((0, 1, 2))
            store.write([*labelled, *unlabelled][index], 0, pooled)
    return tuple(np.stack([store.read(name, 0).numpy() for name in names]) for names in (labelled, unlabelled))


def _annotate(
    ranked: list[RankedImage],
    entries: list[ImageEntry],
    committee: CommitteePredictions,
    records: list[PredictionRecords],
    members: list[CommitteeMember],
    readable: list[int],
) -> list[tuple[ImageEntry, ImagePrediction]]:
    """Return the detections of the selected images above the thresholds of the model nearest to the mean presence."""
    nearest = np.abs(committee.presence - committee.presence.mean(0)).sum(2).argmin(0)
    predictions: dict[int, ImagePrediction] = {}
    for m, (member, store) in enumerate(zip(members, records, strict=True)):
        chosen = {readable[image.index]: image.index for image in ranked if nearest[image.index] == m}
        thresholds = member.read_thresholds()
        for i, (_, prediction, _) in enumerate(store.read() if chosen else ()):
            if i in chosen:
                for text, found in prediction.detections.items():
                    prediction.detections[text] = [d for d in found if d["score"] >= thresholds.of(text)]
                predictions[chosen[i]] = prediction
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
    if "coco" in formats:
        description = "pre-annotations of images to label next"
        with CocoOutput(
            outputs, phrases, root, description=description, argument=_ARGUMENT, with_results=False
        ) as output:
            for entry, prediction in annotated:
                output.add(entry, prediction)
    if "label_studio" in formats:
        check_label_studio_input([entry for entry, _ in annotated], phrases)
        with LabelStudioOutput(outputs, phrases, root, "label review", _ARGUMENT) as output:
            for entry, prediction in annotated:
                output.add(entry, prediction)
    outputs.remove([name for name in outputs.names if name not in files])
    owned.write_text(NEXT_FILE, to_json(content, NEXT_FILE, indent=1), _ARGUMENT)
