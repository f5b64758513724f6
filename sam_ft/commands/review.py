"""Label review: out-of-fold predictions of all labelled images, findings, a page with pictures, and proposals."""

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path

from ..arguments import DataArguments, LossArguments, ModelArguments, ParsedTraining, ReviewArguments
from ..evaluation.predictions import PredictionStore
from ..metrics.label_findings import LabelFinding, find_label_errors, to_reviewed_image
from ..metrics.label_overlap import ReviewedImage
from ..metrics.label_review import WRONG_PHRASE
from ..options.keys import get_default, get_keys
from ..options.review import ReviewOptions
from ..training.checkpoints import find_checkpoints
from ..utils.console import log_to_console_and_file, stage
from ..utils.output_folders import FolderKind, claim_settings, lock_folder
from ..utils.owned_files import OwnedFiles
from .review_crops import predict_crops
from .review_data import FOLDS_FILE, ReviewData, assign_review_folds, read_review_data
from .review_folds import FIXED_KEYS, FoldRuns
from .review_next import NEXT_FILE, check_next_outputs, find_unlabelled, select_next
from .review_outputs import FINDINGS_FILE, PAGE, PROPOSALS_FOLDER, Review, check_outputs
from .run_folder import FREE_KEYS, collect_settings, list_defaults


logger = logging.getLogger("sam_ft.run")

_ARGUMENT = "review_dir"
REVIEW_FOLDER = FolderKind(
    _ARGUMENT, "review.yaml", "label review", "repeat the command with the settings of that review"
)
# Keys of the review that change predictions; those of findings and outputs may differ between calls.
_COMPARED_KEYS = ("review_splits", "num_folds", "group_by", "untrained")


def review_labels(
    model_args: ModelArguments,
    data_args: DataArguments,
    loss_args: LossArguments,
    training: ParsedTraining,
    review_args: ReviewArguments,
) -> list[LabelFinding]:
    """
    Review the labels of a data set, and write findings, page and proposals.

    Args:
        model_args (`ModelArguments`): Keys of the model.
        data_args (`DataArguments`): Keys of the data.
        loss_args (`LossArguments`): Keys of the loss.
        training (`ParsedTraining`): Keys of the training; an `output_dir` in a YAML file is that of a training run and
            is not used.
        review_args (`ReviewArguments`): Keys of the review.

    Returns:
        `list[LabelFinding]`: Findings, highest score first.

    Raises:
        ValueError: If a key has no effect on a review, the data cannot be reviewed, or the folder contains a review of
            other settings or other files.
    """
    for name in FIXED_KEYS:
        if name in training.command_line_keys:
            raise ValueError(f"`{name}` has no effect on a review, which sets it for its folds. Leave it out")
    runs = FoldRuns(model_args, data_args, loss_args, training, Path(review_args.review_dir))
    log_to_console_and_file(None, is_main=True)
    with stage("data"):
        data = read_review_data(data_args, review_args.review_splits)
        unlabelled = find_unlabelled(review_args, data) if review_args.unlabelled else None
    with claim_review(runs, review_args) as owned:
        with stage("folds"):
            assign_review_folds(data, review_args, owned)
        store, fold_of = runs.predict(data, owned)
        images = combine_predictions(data, store)
        if review_args.check_crops and WRONG_PHRASE in review_args.finding_kinds:
            with stage("enlarged crops"):
                predict_crops(runs, data, images, fold_of, owned)
        with stage("findings"):
            found = find_label_errors(images, review_args.finding_kinds, review_args.min_finding_score)
            review = Review(data, images, *found, fold_of)
        with stage("page and proposals"):
            review.write(owned, review_args, f"Label review of {data_args.source_name}")
        if unlabelled is not None:
            with stage("next images"):
                select_next(runs, data, unlabelled, owned, review_args)
    for line in review.summarize():
        logger.info("%s", line)
    outputs = [name for name in (PAGE, FINDINGS_FILE, PROPOSALS_FOLDER, NEXT_FILE) if (runs.folder / name).exists()]
    logger.info("written to %s: %s", runs.folder, ", ".join(outputs))
    return review.findings


@contextlib.contextmanager
def claim_review(runs: FoldRuns, review_args: ReviewArguments) -> Iterator[OwnedFiles]:
    """
    Lock the folder of a review while the context is open, and compare its settings with those of an earlier call.

    Args:
        runs (`FoldRuns`): Keys of the runs.
        review_args (`ReviewArguments`): Keys of the review.

    Raises:
        ValueError: If the folder is in use or contains other files, or predictions of other settings.
    """
    folder, run = runs.folder, runs.build(None)
    if run.training.world_size > 1:
        raise ValueError("a review runs in one process. Start it without `accelerate launch`, or with one process")
    free = (*FREE_KEYS, "feature_cache", "cache_engine")
    settings = {name: value for name, value in collect_settings(run).items() if name not in free}
    compared = {name: declared for name, declared in get_keys(ReviewOptions).items() if name in _COMPARED_KEYS}
    settings |= {name: getattr(review_args, name) for name in compared}
    defaults = list_defaults(settings) | {name: get_default(declared) for name, declared in compared.items()}
    with lock_folder(folder, REVIEW_FOLDER):
        owned = OwnedFiles(folder, "review")
        owned.check_free([FOLDS_FILE], _ARGUMENT)
        check_outputs(owned)
        check_next_outputs(owned)
        is_same = claim_settings(
            folder,
            REVIEW_FOLDER,
            json.loads(json.dumps(settings)),
            has_results=_has_predictions(folder),
            defaults=defaults,
        )
        if not is_same:  # of an attempt that ended before the first prediction
            owned.remove([FOLDS_FILE])
        yield owned


def _has_predictions(folder: Path) -> bool:
    """Return whether a review has predictions, or a checkpoint of a fold."""
    return any(folder.glob("predictions/*.json")) or any(map(find_checkpoints, folder.glob("fold-*")))


def combine_predictions(data: ReviewData, store: PredictionStore) -> dict[str, ReviewedImage]:
    """
    Combine the labels of all images with their predictions.

    Args:
        data (`ReviewData`): The images.
        store (`PredictionStore`): Predictions of all images.

    Returns:
        `dict[str, ReviewedImage]`: Labels and predictions by example, in the order of the rows.
    """
    detections: dict[str, dict[str, list[dict]]] = {}
    presence: dict[str, dict[str, float]] = {}
    for (example, phrase), found in store.detections.items():
        detections.setdefault(example, {})[phrase] = found
    for (example, phrase), probability in store.presence.items():
        presence.setdefault(example, {})[phrase] = probability
    return {
        row["example_id"]: to_reviewed_image(
            row, detections.get(row["example_id"], {}), presence.get(row["example_id"], {})
        )
        for row in data.rows.remove_columns("image")
    }
