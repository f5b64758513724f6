"""Checkpoints of a run: completeness, choice of the one to resume from, and removal."""

import fnmatch
import json
import logging
import re
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers import TrainerState

from ..utils.owned_files import OwnedFiles
from ..utils.text import list_some


logger = logging.getLogger("sam_ft.run")

RUN_KIND = "run"  # Kind of the files of a training run in `OwnedFiles`.
STATE_FILE = "trainer_state.json"
MODEL_FILES = (
    "model*.safetensors", "model*.safetensors.index.json", "adapter_model*.safetensors", "pytorch_model*.bin",
    "config.json",
    "generation_config.json", "adapter_config.json", "base_fingerprint.json", "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json",
    "concepts.safetensors", "concepts.json",
    "merges.txt", "chat_template.jinja", "chat_template.json", "thresholds.json", "trained_phrases.json",
    "training_args.bin",
)  # fmt: skip
# Trainer, PEFT, Accelerate, DeepSpeed and this package write these names into a checkpoint.
CHECKPOINT_FILES = (
    *MODEL_FILES, *(f"base/{name}" for name in MODEL_FILES), "optimizer*.pt", "optimizer*.bin", "scheduler.pt",
    "scaler.pt", "rng_state*.pth",
    STATE_FILE, "data.json", "latest", "zero_to_fp32.py", "pytorch_model_fsdp_*/*", "optimizer_*/*", "global_step*/*",
)  # fmt: skip


def find_damage(checkpoint: Path) -> str | None:
    """
    Describe why a checkpoint, or a run's folder, is incomplete.

    Trainer writes its state file last, so a folder with a readable state file was complete. Files that were truncated
    later are detected as well.

    Args:
        checkpoint (`Path`): The folder.

    Returns:
        `str` or `None`: The first problem, such as "optimizer.pt ends early".
    """
    state = checkpoint / STATE_FILE
    if not state.is_file():
        return f"{STATE_FILE} is missing"
    if _read_state(state) is None:
        return f"{STATE_FILE} ends early"
    weights = list(checkpoint.glob("*.safetensors"))
    if not weights and not any(checkpoint.glob("pytorch_model*")) and not any(checkpoint.glob("global_step*")):
        return "the weights are missing"
    for file in weights:
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError):
            return f"{file.name} ends early"
    archives = [file for pattern in ("*.pt", "*.pth") for file in sorted(checkpoint.glob(pattern))]
    truncated = next((file.name for file in archives if not zipfile.is_zipfile(file)), None)
    return None if truncated is None else f"{truncated} ends early"


def find_missing_state(checkpoint: Path) -> str | None:
    """
    Name the first file of optimizer, learning-rate schedule and random-number state that a checkpoint lacks.

    DeepSpeed writes all of them into a folder of its own, FSDP only the optimizer state.

    Args:
        checkpoint (`Path`): Folder of an undamaged checkpoint.

    Returns:
        `str` or `None`: `None` if the checkpoint is complete.
    """
    if any(checkpoint.glob("global_step*")):
        return None
    for pattern, name in (
        ("optimizer*", "optimizer.pt"),
        ("scheduler.pt", "scheduler.pt"),
        ("rng_state*", "rng_state.pth"),
    ):
        if not any(checkpoint.glob(pattern)):
            return name
    return None


def _read_state(file: Path) -> dict | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def read_finished_state(folder: Path, checkpoint: Path) -> TrainerState | None:
    """
    Read the last state of a finished run, which the run writes after all its other files.

    Args:
        folder (`Path`): The run's folder.
        checkpoint (`Path`): The checkpoint to resume from.

    Returns:
        `TrainerState` or `None`: `None` if the run is not finished, or `checkpoint` is not its newest one.
    """
    newest = find_checkpoints(folder)
    if not newest or newest[0].resolve() != checkpoint.resolve() or not is_finished(folder):
        return None
    return TrainerState.load_from_json(str(folder / STATE_FILE))


def is_finished(folder: Path) -> bool:
    """Return whether a folder contains the complete result of a run that is not behind its newest checkpoint."""
    newest = find_checkpoints(folder)
    if find_damage(folder):
        return False
    state = _read_state(folder / STATE_FILE) or {}
    return not newest or state.get("global_step", -1) >= _get_step(newest[0])


def find_checkpoints(folder: Path) -> list[Path]:
    """Return the `checkpoint-N` folders, complete or not, from the largest N to the smallest."""
    checkpoints = [p for p in folder.glob("checkpoint-*") if p.is_dir() and re.fullmatch(r"checkpoint-\d+", p.name)]
    return sorted(checkpoints, key=_get_step, reverse=True)


def _get_step(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[-1])


def choose_checkpoint(folder: Path) -> Path | None:
    """
    Choose the newest checkpoint from which a run can resume; damaged ones are skipped with a warning.

    Args:
        folder (`Path`): The run's folder.

    Returns:
        `Path` or `None`: `None` if the run starts from the beginning.

    Raises:
        ValueError: If the checkpoints are undamaged but lack the state of optimizer or schedule.
    """
    checkpoints = find_checkpoints(folder)
    if checkpoints and is_finished(folder):
        return checkpoints[0]
    without_state: list[tuple[Path, str]] = []
    for checkpoint in checkpoints:
        damage = find_damage(checkpoint)
        missing = None if damage else find_missing_state(checkpoint)
        if not damage and not missing:
            return checkpoint
        logger.warning("%s is not used: %s", checkpoint, damage or f"{missing} is missing")
        if missing:
            without_state.append((checkpoint, missing))
    if without_state:
        checkpoint, missing = without_state[0]
        raise ValueError(
            f"`output_dir`: {checkpoint} cannot be resumed from, because {missing} is missing and training would "
            "continue with a new optimizer or schedule. Set `start_over: true` to train again from the start, or set "
            "`model_name_or_path` to the checkpoint and choose another `output_dir`"
        )
    return None


def check_checkpoint(checkpoint: str) -> str:
    """
    Check a checkpoint that the user passes.

    Args:
        checkpoint (`str`): Its folder.

    Returns:
        `str`: The same path.

    Raises:
        ValueError: If it is missing, damaged or without optimizer state. The message names the problem and a complete
            checkpoint.
    """
    path = Path(checkpoint)
    problem = find_damage(path) if path.is_dir() else "there is no such folder"
    if not problem:
        missing = find_missing_state(path)
        problem = f"{missing} is missing" if missing else None
    if problem:
        complete = [str(p) for p in find_checkpoints(path.parent) if not find_damage(p) and not find_missing_state(p)]
        remedy = (
            f"Resume from {complete[0]}, or leave the key out" if complete else "Start anew in another `output_dir`"
        )
        raise ValueError(f"`resume_from_checkpoint`: {checkpoint} cannot be resumed from, {problem}. {remedy}.")
    return checkpoint


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Return whether a relative path matches one of the patterns; a `*` matches within one folder."""
    return any(name.count("/") == p.count("/") and fnmatch.fnmatchcase(name, p) for p in patterns)


def list_file_names(folder: Path) -> set[str]:
    """Return the relative paths of all files below a folder; an empty set if it does not exist."""
    return {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()} if folder.is_dir() else set()


def remove_checkpoint(owned: OwnedFiles, checkpoint: Path) -> None:
    """
    Remove the recorded files of a checkpoint, and its folder if it is then empty; other files are kept.

    Args:
        owned (`OwnedFiles`): Recorded files of the run's folder.
        checkpoint (`Path`): Checkpoint folder in it.
    """
    owned.remove(name for name in owned.names if name.startswith(f"{checkpoint.name}/"))
    if checkpoint.is_dir():
        names = list_some(sorted(path.name for path in checkpoint.iterdir()))
        logger.warning("%s: kept, because the run did not write it: %s", checkpoint, names)


def record_checkpoint(owned: OwnedFiles, checkpoint: Path, before: set[str]) -> None:
    """
    Record the files of a checkpoint that was just saved.

    Args:
        owned (`OwnedFiles`): Recorded files of the run's folder.
        checkpoint (`Path`): Checkpoint folder in it.
        before (`set[str]`): Result of [`list_file_names`] before it was saved.
    """
    names = {f"{checkpoint.name}/{name}": name for name in list_file_names(checkpoint)}
    earlier = set(owned.names)
    owned.add(full for full, name in names.items() if full in earlier or name not in before)


def remove_old_checkpoints(folder: Path, limit: int | None, best: str | None) -> None:
    """
    Remove old checkpoints beyond `limit`, as Trainer does; the newest and the best one are never removed.

    Args:
        folder (`Path`): The run's folder.
        limit (`int`, *optional*): Number of checkpoints to keep; all if it is `None` or not positive.
        best (`str`, *optional*): Path of the best checkpoint.
    """
    if not limit or limit < 1:
        return
    owned = OwnedFiles(folder, RUN_KIND)
    written = set(owned.names)
    complete = [p for p in find_checkpoints(folder) if f"{p.name}/{STATE_FILE}" in written]
    to_keep = set(complete[:1]) | {p for p in complete if best and p.resolve() == Path(best).resolve()}
    for checkpoint in complete:
        if len(to_keep) < limit:
            to_keep.add(checkpoint)
    for checkpoint in complete:
        if checkpoint not in to_keep:
            remove_checkpoint(owned, checkpoint)
