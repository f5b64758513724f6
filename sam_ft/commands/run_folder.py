"""Output folder of a training run: lock, comparison of settings, resumption and removal of earlier files."""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..models.families import FAMILIES
from ..models.family_spec import resolve
from ..training.checkpoints import (
    CHECKPOINT_FILES,
    MODEL_FILES,
    RUN_KIND,
    STATE_FILE,
    choose_checkpoint,
    find_checkpoints,
    list_file_names,
    matches,
)
from ..utils.output_folders import FolderKind, check_unclaimed, claim_settings, is_claimed, lock_folder
from ..utils.owned_files import OwnedFiles
from ..utils.text import list_some
from ..utils.yaml_files import read_yaml_mapping
from .build import collect_plain_settings
from .run import Run


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
# These keys may differ between a run and its resumption, because they do not change any result.
FREE_KEYS = frozenset(
    {
        *_BATCH_KEYS,  # The images per step, their product with the processes, are compared instead.
        PROCESSES, "config", "output_dir", "resume_from_checkpoint", "start_over", "dataloader_num_workers",
        "dataloader_prefetch_factor",
        "dataloader_persistent_workers", "disable_tqdm", "dry_run", "logging_strategy", "logging_steps",
        "logging_first_step", "num_pictures",
        "report_to", "save_total_limit", "project", "run_name", "log_level", "log_level_replica", "verify_images",
        "push_to_hub",
        "hub_always_push", "hub_base", "hub_merged", "hub_model_id", "hub_pictures", "hub_private_repo",
        "hub_revision", "hub_strategy",
        "hub_token", "dataset_license",
    }
)  # fmt: skip
EVALUATION_FILES = ("results.json", "ground_truth.json", "presence.json", "phrases.json", "objects.json")
# A run writes these files before its first checkpoint. A later run with other settings must not reuse them.
ATTEMPT_FILES = (
    "before_results.json", "data.json", "retention/base.json", *(f"before/{name}" for name in EVALUATION_FILES),
    "before/pictures.png",
    "before/pictures/*.png",
)  # fmt: skip
RUN_FILES = (
    *ATTEMPT_FILES, *MODEL_FILES, *(f"base/{name}" for name in MODEL_FILES), STATE_FILE, "all_results.json",
    "train_results.json",
    "eval_results.json", "training.log", *(f"eval/{name}" for name in EVALUATION_FILES), "eval/pictures.png",
    "eval/pictures/*.png",
    "runs/*/events.out.tfevents.*",
)  # fmt: skip
# These names contain an example id or a time, so that a file of the user with such a name is no collision.
_UNIQUE_FILES = ("before/pictures/*.png", "eval/pictures/*.png", "runs/*/events.out.tfevents.*")


@dataclass
class ClaimedRun:
    """
    Folder of a run, locked by this process.

    Attributes:
        folder (`Path`): Folder of the run.
        checkpoint (`str`, *optional*): Checkpoint from which the run resumes.
    """

    folder: Path
    checkpoint: str | None


@contextlib.contextmanager
def claim_run(run: Run) -> Iterator[ClaimedRun]:
    """
    Lock `output_dir` for a run while the context is open.

    The settings are written into a new folder; a folder with the same settings is resumed. With another number of
    processes than before, the accumulation is changed so that a step has the same number of images. Only the first
    process writes.

    Args:
        run (`Run`): Keys of the run; `gradient_accumulation_steps` may change.

    Raises:
        ValueError: If the folder is in use, or contains another run or other files. The message names the keys that
            differ.
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
    Return the keys of a run as plain values, with the number of images per step and of processes.

    Args:
        run (`Run`): Keys of the run; the accumulation is changed for a recorded run with another number of processes.
    """
    args = run.training
    keep_images_per_step(args)
    images = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    return collect_plain_settings(*run.groups()) | {IMAGES_PER_STEP: images, PROCESSES: args.world_size}


def keep_images_per_step(args) -> None:
    """
    Change the accumulation of a run that resumes with another number of processes, to keep the images per step.

    Args:
        args (`SamTrainingArguments`): Keys of the training, changed in place.

    Raises:
        ValueError: If the number of images per step cannot be kept.
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
            f"`output_dir`: the run in {args.output_dir} has {images} images per step with {processes} processes, "
            f"which {args.world_size} processes of {args.per_device_train_batch_size} images cannot keep. Start "
            f"{processes} processes, or set `start_over: true`"
        )
    args.gradient_accumulation_steps = images // batch
    logger.info(
        "%d processes instead of %d: `gradient_accumulation_steps` is set to %d, to keep %d images per step",
        args.world_size, processes, args.gradient_accumulation_steps, images,
    )  # fmt: skip


def prepare_run_folder(folder: Path, settings: dict, *, is_main: bool = True, start_over: bool = False) -> str | None:
    """
    Write the settings of a run into its folder, or compare them with the recorded ones; see [`claim_run`].

    Args:
        folder (`Path`): `output_dir`.
        settings (`dict`): Result of [`collect_settings`]; keys in `FREE_KEYS` may differ.
        is_main (`bool`): Whether this is the first process, which writes.
        start_over (`bool`): Whether to remove the files of the earlier run in this folder; other files are kept.

    Returns:
        `str` or `None`: Checkpoint to resume from; `None` to start from the beginning.

    Raises:
        ValueError: As [`claim_run`].
    """
    check_unclaimed(folder, RUN_FOLDER)
    if not is_main:  # The first process has written the settings and removed old files.
        chosen = choose_checkpoint(folder)
        return None if chosen is None else str(chosen)
    was_claimed = is_claimed(folder, RUN_FOLDER)
    owned = OwnedFiles(folder, RUN_KIND)
    if was_claimed:
        owned.adopt(_names_of_run(folder))
        owned.check_free((name for name in _names_of_run(folder) if not matches(name, _UNIQUE_FILES)), "output_dir")
        if start_over:
            remove_run(owned)
    recorded = {
        key: value for key, value in settings.items() if key not in FREE_KEYS or key in (*_BATCH_KEYS, PROCESSES)
    }
    is_same_run = claim_settings(
        folder, RUN_FOLDER, _compared_settings(folder, settings), has_results=_has_results(folder),
        defaults=list_defaults(settings),
        recorded=recorded, replace=start_over,
    )  # fmt: skip
    if not is_same_run and was_claimed:
        owned.remove(name for name in owned.names if matches(name, ATTEMPT_FILES))
    owned.begin(owned.find_foreign())
    chosen = choose_checkpoint(folder) if is_same_run else None
    return None if chosen is None else str(chosen)


def _has_results(folder: Path) -> bool:
    weights = any(matches(name, MODEL_FILES[:3]) for name in list_file_names(folder))
    return weights or any((p / STATE_FILE).is_file() for p in find_checkpoints(folder))


def _compared_settings(folder: Path, settings: dict) -> dict:
    """Return the settings to compare; records of older releases contain the batch keys instead of images per step."""
    compared = {key: value for key, value in settings.items() if key not in FREE_KEYS}
    if is_claimed(folder, RUN_FOLDER):
        before = read_yaml_mapping(str(folder / RUN_FILE), "output_dir")
        if IMAGES_PER_STEP not in before and any(key in before for key in _BATCH_KEYS):
            compared.pop(IMAGES_PER_STEP, None)
            compared |= {key: settings[key] for key in _BATCH_KEYS if key in settings}
    return compared


def _names_of_run(folder: Path) -> list[str]:
    """Return the relative paths of all files whose names are those of a run's files."""
    names = {name for name in list_file_names(folder) if matches(name, RUN_FILES)}
    for checkpoint in find_checkpoints(folder):
        files = (name for name in list_file_names(checkpoint) if matches(name, CHECKPOINT_FILES))
        names |= {f"{checkpoint.name}/{name}" for name in files}
    return sorted(names)


def record_run(folder: Path) -> None:
    """Record all files of a run at its end."""
    OwnedFiles(folder, RUN_KIND).end(_names_of_run(folder))


def list_defaults(settings: dict) -> dict:
    """
    Return the defaults of all keys of the run's family, because records of older releases lack some.

    Args:
        settings (`dict`): Settings of a run, from [`collect_settings`].
    """
    keys_of_families = (
        {field.name: field for group in resolve(family.arguments) for field in dataclasses.fields(group)}
        for family in FAMILIES.values()
    )
    keys = max(keys_of_families, key=lambda keys: len(settings.keys() & keys.keys()))
    defaults = {IMAGES_PER_STEP: settings.get(IMAGES_PER_STEP)}
    for field in keys.values():
        if field.default is not dataclasses.MISSING:
            defaults[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = field.default_factory()
    return defaults


def remove_run(owned: OwnedFiles) -> None:
    """
    Remove the recorded files of a run, checkpoints included; edited files and other files are kept.

    Args:
        owned (`OwnedFiles`): Recorded files of the run's folder.
    """
    edited = owned.remove(owned.names)
    if edited:
        logger.warning("%s: kept, because they were edited: %s", owned.folder, list_some(edited))
