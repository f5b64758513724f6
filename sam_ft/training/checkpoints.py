"""A checkpoint is complete or it does not count; an output folder belongs to one run."""

import json
import logging
import shutil
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers import TrainerState

from ..ops.claims import claim_folder


logger = logging.getLogger(__name__)

RUN_FILE = "run.yaml"
STATE_FILE = "trainer_state.json"
# keys that may differ between a run and its resumption, because no result depends on them
FREE_KEYS = frozenset(
    {
        "config",
        "resume_from_checkpoint",
        "dataloader_num_workers",
        "dataloader_prefetch_factor",
        "dataloader_persistent_workers",
        "disable_tqdm",
        "dry_run",
        "logging_strategy",
        "logging_steps",
        "logging_first_step",
        "num_pictures",
        "report_to",
        "save_total_limit",
        "project",
        "run_name",
        "log_level",
        "log_level_replica",
        "verify_images",
        "push_to_hub",
        "hub_always_push",
        "hub_base",
        "hub_merged",
        "hub_model_id",
        "hub_pictures",
        "hub_private_repo",
        "hub_revision",
        "hub_strategy",
        "hub_token",
        "dataset_license",
    }
)


def what_is_missing(checkpoint: Path) -> str | None:
    """
    Why a checkpoint cannot be resumed from; `None` where it can. The trainer's state is written last, so a checkpoint that
    has it whole has everything.
    """
    state = checkpoint / STATE_FILE
    if not state.is_file():
        return f"{STATE_FILE} is missing"
    try:
        whole = isinstance(json.loads(state.read_text(encoding="utf-8")), dict)
    except ValueError:
        whole = False
    if not whole:
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
    return None


def read_finished(folder: Path, checkpoint: Path) -> TrainerState | None:
    """
    The last state of a run that ended; `None` where it was stopped before, or `checkpoint` is not its newest. The recipe writes that state into
    the run's own folder when everything else is there.
    """
    newest = find_checkpoints(folder)
    if not newest or newest[0].resolve() != checkpoint.resolve() or what_is_missing(folder):
        return None  # among them, what was half-written when it was killed: the end is gone through once more
    state = TrainerState.load_from_json(str(folder / STATE_FILE))
    return state if state.global_step >= int(checkpoint.name.split("-")[-1]) else None


def find_checkpoints(folder: Path) -> list[Path]:
    """The `checkpoint-N` folders, newest (largest N) first, complete or not."""
    found = [p for p in folder.glob("checkpoint-*") if p.is_dir() and p.name.split("-")[-1].isdecimal()]
    return sorted(found, key=lambda p: int(p.name.split("-")[-1]), reverse=True)


def check_checkpoint(checkpoint: str) -> str:
    """
    Returns the path of a checkpoint that can be resumed from.

    Raises:
        `ValueError`: where it is missing or half-written; says what is missing and which one to use instead.
    """
    path = Path(checkpoint)
    problem = what_is_missing(path) if path.is_dir() else "there is no such folder"
    if problem:
        whole = [str(p) for p in find_checkpoints(path.parent) if not what_is_missing(p)]
        instead = f"Resume from {whole[0]}, or leave the key out" if whole else "Start anew in another `output_dir`"
        raise ValueError(f"`resume_from_checkpoint`: {checkpoint} cannot be resumed from, {problem}. {instead}.")
    return checkpoint


def prepare_output_dir(output_dir: str, settings: dict, *, is_main: bool = True) -> str | None:
    """
    Claims an output folder for a run: a new one is marked with the run's settings, one of the same run is resumed,
    anything else is refused, so that two runs never mix. Half-written checkpoints of a killed run are removed.

    Args:
        output_dir (`str`).
        settings (`dict`): all effective arguments; what may change between resumptions is `FREE_KEYS`.
        is_main (`bool`): whether this process writes; the others only look.

    Returns:
        `str | None`: the checkpoint to resume from.

    Raises:
        `ValueError`: where the folder holds another run or something that is no run; names the keys that differ.
    """
    try:
        return _prepare(Path(output_dir), settings, is_main)
    except OSError as error:
        raise ValueError(
            f"`output_dir`: {output_dir} cannot be used ({error}). Choose a folder that can be written"
        ) from error


def _prepare(folder: Path, settings: dict, is_main: bool) -> str | None:
    settings = {k: v for k, v in settings.items() if k not in FREE_KEYS}
    has_results = bool(find_checkpoints(folder)) or any(folder.glob("*.safetensors"))
    try:
        again = claim_folder(
            folder, RUN_FILE, settings, key="output_dir", what="run of this recipe", has_results=has_results, is_main=is_main
        )  # fmt: skip
    except ValueError as error:
        hint = ". To go on from its weights, set `model_name_or_path` to it" if has_results else ""
        raise ValueError(f"{error}{hint}") from error
    if not again:
        return None
    problems = {checkpoint: what_is_missing(checkpoint) for checkpoint in find_checkpoints(folder)}
    for checkpoint, problem in problems.items():
        if problem and is_main:
            logger.warning("%s was left half-written (%s); removed", checkpoint, problem)
            shutil.rmtree(checkpoint)
    return next((str(checkpoint) for checkpoint, problem in problems.items() if not problem), None)
