"""The folder of a training run: claimed by one run and one process, resumed by the same settings, started over on request."""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..arguments import Run
from ..training.checkpoints import (
    CHECKPOINT_FILES,
    MODEL_FILES,
    RUN_KIND,
    STATE_FILE,
    choose_checkpoint,
    find_checkpoints,
    matches,
    names_below,
)
from ..utils.output_folders import FolderKind, check_unclaimed, claim_settings, is_claimed, lock_folder
from ..utils.owned_files import RECORD, OwnedFiles
from ..utils.text import list_some
from ..utils.yaml_files import read_yaml_mapping
from .build import run_settings


logger = logging.getLogger("sam_ft.run")

RUN_FILE = "run.yaml"
RUN_FOLDER = FolderKind(
    "output_dir",
    RUN_FILE,
    "training run",
    "set `start_over: true` to replace this run, or `model_name_or_path` to it to go on from its weights",
    ("adam_beta1", "ddp_backend", "full_determinism", "gradient_checkpointing_kwargs", "output_dir", "weight_decay"),
)
IMAGES_PER_STEP = "images_per_step"
PROCESSES = "processes"
_BATCH_KEYS = ("per_device_train_batch_size", "gradient_accumulation_steps")
# keys that may differ between a run and its resumption, because no result depends on them
FREE_KEYS = frozenset(
    {
        *_BATCH_KEYS,  # their product with the processes is compared
        PROCESSES, "config", "output_dir", "resume_from_checkpoint", "start_over", "dataloader_num_workers", "dataloader_prefetch_factor",
        "dataloader_persistent_workers", "disable_tqdm", "dry_run", "logging_strategy", "logging_steps", "logging_first_step", "num_pictures",
        "report_to", "save_total_limit", "project", "run_name", "log_level", "log_level_replica", "verify_images", "push_to_hub",
        "hub_always_push", "hub_base", "hub_merged", "hub_model_id", "hub_pictures", "hub_private_repo", "hub_revision", "hub_strategy",
        "hub_token", "dataset_license",
    }
)  # fmt: skip
_EVALUATION_FILES = ("results.json", "ground_truth.json", "presence.json", "phrases.json", "objects.json")
# what an attempt writes before its first checkpoint, and a later attempt with other settings must not reuse
ATTEMPT_FILES = (
    "before_results.json", "data.json", "retention/base.json", *(f"before/{name}" for name in _EVALUATION_FILES), "before/pictures.png",
    "before/pictures/*.png",
)  # fmt: skip
RUN_FILES = (
    *ATTEMPT_FILES, *MODEL_FILES, *(f"base/{name}" for name in MODEL_FILES), STATE_FILE, "all_results.json", "train_results.json",
    "eval_results.json", "training.log", *(f"eval/{name}" for name in _EVALUATION_FILES), "eval/pictures.png", "eval/pictures/*.png",
    "runs/*/events.out.tfevents.*",
)  # fmt: skip
# names of which a user's own file is no collision: by example, by time and process
_UNIQUE_FILES = ("before/pictures/*.png", "eval/pictures/*.png", "runs/*/events.out.tfevents.*")


@dataclass
class ClaimedRun:
    """
    A run's folder under this process's lock.

    Attributes:
        folder (`Path`): The folder.
        checkpoint (`str`, *optional*): The checkpoint that the run resumes from.
    """

    folder: Path
    checkpoint: str | None


@contextlib.contextmanager
def claim_run(run: Run) -> Iterator[ClaimedRun]:
    """
    Claim `output_dir` for a run while the context is open: a new folder is marked with the run's settings, one of the same run is resumed.

    With another number of processes than before, the accumulation is changed so that a step sees as many images.

    Args:
        run (`Run`): The run's keys; `gradient_accumulation_steps` may change. Processes other than the first only read.

    Raises:
        `ValueError`: If the folder is in use, belongs to another run, or to no run; names the keys that differ.
    """
    args = run.training
    folder, is_main = Path(args.output_dir), args.process_index == 0
    with lock_folder(folder, RUN_FOLDER) if is_main else contextlib.nullcontext():
        checkpoint = prepare_run_folder(folder, collect_settings(run), is_main=is_main, start_over=args.start_over)
        try:
            yield ClaimedRun(folder, checkpoint)
        finally:
            if is_main:
                record_run(folder)


def collect_settings(run: Run) -> dict:
    """
    Collect what a run's results depend on, as plain values, with the images of an optimizer step in place of their factors.

    Args:
        run (`Run`): The run's keys. Its accumulation is adapted to a recorded run of another number of processes.
    """
    args = run.training
    keep_images_per_step(args)
    images = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    return run_settings(*run.groups()) | {IMAGES_PER_STEP: images, PROCESSES: args.world_size}


def keep_images_per_step(args) -> None:
    """
    Change the accumulation so that a resumed run with another number of processes has as many images a step as before.

    Args:
        args (`SamTrainingArguments`): The run's keys, changed in place.

    Raises:
        `ValueError`: If the number of images cannot be kept.
    """
    folder = Path(args.output_dir)
    if args.start_over or not is_claimed(folder, RUN_FOLDER):
        return
    before = read_yaml_mapping(str(folder / RUN_FILE), "output_dir")
    images, processes = before.get(IMAGES_PER_STEP), before.get(PROCESSES)
    if (
        not images
        or processes in (None, args.world_size)
        or any(before.get(k) != getattr(args, k) for k in _BATCH_KEYS)
    ):
        return
    batch = args.per_device_train_batch_size * args.world_size
    if images % batch:
        raise ValueError(
            f"`output_dir`: the run in {args.output_dir} has {images} images a step with {processes} processes, which {args.world_size} processes "
            f"of {args.per_device_train_batch_size} images cannot keep. Start as many processes as before, or set `start_over: true`"
        )
    args.gradient_accumulation_steps = images // batch
    logger.info(
        "%d processes instead of %d: `gradient_accumulation_steps` is %d, so that a step still has %d images",
        args.world_size, processes, args.gradient_accumulation_steps, images,
    )  # fmt: skip


def prepare_run_folder(folder: Path, settings: dict, *, is_main: bool = True, start_over: bool = False) -> str | None:
    """
    Mark a run's folder with its settings, or compare them with the recorded ones; see [`claim_run`].

    Args:
        folder (`Path`): `output_dir`.
        settings (`dict`): Of [`collect_settings`]; those of `FREE_KEYS` may differ.
        is_main (`bool`): Whether this process writes.
        start_over (`bool`): Remove the files of the earlier run in this folder and start at the beginning. Files that no run wrote are kept.

    Returns:
        `str` or `None`: The checkpoint to resume from.

    Raises:
        `ValueError`: As [`claim_run`].
    """
    check_unclaimed(folder, RUN_FOLDER)
    if not is_main:  # the first process has marked the folder and removed what it had to
        chosen = choose_checkpoint(folder)
        return None if chosen is None else str(chosen)
    was_claimed = is_claimed(folder, RUN_FOLDER)
    owned = OwnedFiles(folder, RUN_KIND)
    if was_claimed:
        _adopt_unrecorded(owned)
        owned.check_free((name for name in _names_of_run(folder) if not matches(name, _UNIQUE_FILES)), "output_dir")
        if start_over:
            remove_run(owned)
    recorded = {k: v for k, v in settings.items() if k not in FREE_KEYS or k in (*_BATCH_KEYS, PROCESSES)}
    again = claim_settings(
        folder, RUN_FOLDER, _compared_settings(folder, settings), has_results=_has_results(folder), defaults=_defaults(settings),
        recorded=recorded, replace=start_over,
    )  # fmt: skip
    if not again and was_claimed:
        owned.remove(name for name in owned.names if matches(name, ATTEMPT_FILES))
    owned.begin(owned.find_foreign())
    chosen = choose_checkpoint(folder) if again else None
    return None if chosen is None else str(chosen)


def _has_results(folder: Path) -> bool:
    weights = any(matches(name, MODEL_FILES[:3]) for name in names_below(folder))
    return weights or any((p / STATE_FILE).is_file() for p in find_checkpoints(folder))


def _compared_settings(folder: Path, settings: dict) -> dict:
    """Settings that are compared: images a step instead of their factors, but for a record of a release without them."""
    compared = {k: v for k, v in settings.items() if k not in FREE_KEYS}
    if is_claimed(folder, RUN_FOLDER):
        before = read_yaml_mapping(str(folder / RUN_FILE), "output_dir")
        if IMAGES_PER_STEP not in before and any(key in before for key in _BATCH_KEYS):
            compared.pop(IMAGES_PER_STEP, None)
            compared |= {key: settings[key] for key in _BATCH_KEYS if key in settings}
    return compared


def _names_of_run(folder: Path) -> list[str]:
    """Names of all files in a run's folder that a run may have written, or would write."""
    names = {name for name in names_below(folder) if matches(name, RUN_FILES)}
    for checkpoint in find_checkpoints(folder):
        names |= {f"{checkpoint.name}/{name}" for name in names_below(checkpoint) if matches(name, CHECKPOINT_FILES)}
    return sorted(names)


def _adopt_unrecorded(owned: OwnedFiles) -> None:
    """Record what a killed process wrote since its last record, or a run of a release without records."""
    foreign = owned.foreign_when_opened
    if foreign is None and (owned.folder / RECORD).is_file():
        return
    owned.add(name for name in _names_of_run(owned.folder) if name not in (foreign or ()))


def record_run(folder: Path) -> None:
    """Record all files that a run has written, at its end."""
    owned = OwnedFiles(folder, RUN_KIND)
    foreign = set(owned.foreign_when_opened or ())
    owned.add(name for name in _names_of_run(folder) if name not in foreign)
    owned.end()


def _defaults(settings: dict) -> dict:
    """Defaults of all keys, for a record of an earlier release that lacks some."""
    from ..arguments import SAM2_ARGUMENTS, SAM3_ARGUMENTS

    groups = SAM2_ARGUMENTS if "eval_clicks" in settings else SAM3_ARGUMENTS
    defaults = {IMAGES_PER_STEP: settings.get(IMAGES_PER_STEP)}
    for field in (field for group in groups for field in dataclasses.fields(group)):
        if field.default is not dataclasses.MISSING:
            defaults[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = field.default_factory()
    return defaults


def remove_run(owned: OwnedFiles) -> None:
    """
    Remove the recorded files of a run, checkpoints included; other files, and those that the user edited, are kept.

    Args:
        owned (`OwnedFiles`): Of the run's folder.
    """
    kept = owned.remove(owned.names)
    if kept:
        logger.warning("%s: kept, because they were edited: %s", owned.folder, list_some(kept))
