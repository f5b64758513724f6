"""Label review: out-of-fold predictions of all labelled images, findings, a page with pictures, and proposals."""

import contextlib
import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from ..arguments import DataArguments, LossArguments, ModelArguments, ParsedTraining, ReviewArguments
from ..data.writers.image_names import source_paths
from ..evaluation.predictions import PredictionStore
from ..metrics.label_findings import LabelFinding, find_label_errors, to_reviewed_image
from ..metrics.label_overlap import Calibration, ReviewedImage
from ..metrics.label_review import KINDS
from ..training.checkpoints import find_checkpoints
from ..utils.console import log_to_console_and_file, stage
from ..utils.json_files import to_json
from ..utils.output_folders import FolderKind, claim_settings, lock_folder
from ..utils.owned_files import OwnedFiles
from .review_data import FOLDS_FILE, ReviewData, assign_review_folds, read_review_data
from .review_folds import FoldRuns
from .run_folder import FREE_KEYS, collect_settings


logger = logging.getLogger("sam_ft.run")

FINDINGS_FILE, _ARGUMENT = "findings.json", "review_dir"
REVIEW_FOLDER = FolderKind(
    _ARGUMENT, "review.yaml", "label review", "repeat the command with the settings of that review"
)
# Keys of a training run that a review sets itself or that have no meaning for it.
_RUN_KEYS = ("output_dir", "resume_from_checkpoint", "start_over", "dry_run")


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
    for name in _RUN_KEYS:
        if name in training.command_line_keys:
            raise ValueError(f"`{name}` has no effect on a review, which continues by itself. Set `review_dir` alone")
    runs = FoldRuns(model_args, data_args, loss_args, training, Path(review_args.review_dir))
    log_to_console_and_file(None, is_main=True)
    with stage("data"):
        data = read_review_data(data_args)
    with claim_review(runs, review_args) as owned:
        with stage("folds"):
            assign_review_folds(data, review_args, owned)
        store, fold_of = runs.predict(data, owned)
        with stage("findings"):
            images = combine_predictions(data, store)
            findings, calibration = find_label_errors(images, review_args.finding_kinds, review_args.min_finding_score)
            content = describe_findings(data, findings, calibration, fold_of)
            owned.write_text(FINDINGS_FILE, to_json(content, FINDINGS_FILE, indent=1), _ARGUMENT)
    for line in summarize(findings):
        logger.info("%s", line)
    return findings


@contextlib.contextmanager
def claim_review(runs: FoldRuns, review_args: ReviewArguments) -> Iterator[OwnedFiles]:
    """
    Lock the folder of a review while the context is open, and compare its settings with those of an earlier call.

    Args:
        runs (`FoldRuns`): Keys of the runs.
        review_args (`ReviewArguments`): Keys of the review; those of findings and outputs may differ between calls.

    Raises:
        ValueError: If the folder is in use or contains other files, or predictions of other settings.
    """
    folder, run = runs.folder, runs.build(None)
    if run.training.world_size > 1:
        raise ValueError("a review runs in one process. Start it without `accelerate launch`, or with one process")
    free = (*FREE_KEYS, "feature_cache", "cache_engine")
    settings = {name: value for name, value in collect_settings(run).items() if name not in free}
    settings |= {name: getattr(review_args, name) for name in ("num_folds", "group_by", "untrained")}
    with lock_folder(folder, REVIEW_FOLDER):
        owned = OwnedFiles(folder, "review")
        owned.check_free([FOLDS_FILE, FINDINGS_FILE], _ARGUMENT)
        is_same = claim_settings(
            folder, REVIEW_FOLDER, json.loads(json.dumps(settings)), has_results=_has_predictions(folder)
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


def describe_findings(
    data: ReviewData, findings: list[LabelFinding], calibration: Calibration, fold_of: dict[str, int | None]
) -> dict:
    """Return the content of `findings.json`."""
    paths = dict(zip(data.rows["example_id"], source_paths(data.rows), strict=True))
    listed = [
        finding.to_plain()
        | {"split": data.split_of[finding.example_id], "image": paths[finding.example_id]}
        | {"fold": None if fold_of[finding.example_id] is None else fold_of[finding.example_id] + 1}
        for finding in findings
    ]
    return {
        "images": len(data.rows),
        "labels": sum(len(p["instances"]) for phrases in data.rows["phrases"] for p in phrases),
        "num_folds": None if data.folds is None else data.folds.num_folds,
        "untrained_phrases": [] if data.folds is None else data.folds.untrained_phrases,
        "calibration": asdict(calibration),
        "notes": data.notes,
        "findings": listed,
    }


def summarize(findings: list[LabelFinding]) -> list[str]:
    """Return the number of findings of each kind as lines."""
    counts = Counter(finding.kind for finding in findings)
    return [f"{kind}: {counts[kind]}" for kind in KINDS if counts[kind]] or ["no findings"]
