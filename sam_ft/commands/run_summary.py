"""Closing lines of a training run, with the files that it wrote."""

from pathlib import Path

from ..models.families import get_family_of_model
from ..models.lora import unwrap_sam
from ..options.concepts import CONCEPT_WEIGHTS
from ..reporting.run_summary import RunOutcome, summarize_run
from ..training.base_trainer import SamTrainer
from .candidates import count_unchanged_pairs
from .run_report import RunReport


# Weights by the kind of the run; the first kind whose files exist is that of the run.
_WEIGHTS = {"concepts": CONCEPT_WEIGHTS, "adapter": "adapter_model*.safetensors", "model": "model*.safetensors"}


def describe_run(trainer: SamTrainer, report: RunReport) -> list[str]:
    """
    Describe a run in its closing lines; see [`summarize_run`].

    Args:
        trainer (`SamTrainer`): Trainer after the model was saved.
        report (`RunReport`): Report of the run.

    Returns:
        `list[str]`: The lines; empty in all processes but the first.
    """
    if not report.columns:
        return []
    trained, kind, model = trainer.trained_phrases or set(), *_describe_weights(Path(trainer.args.output_dir))
    files = {kind: model, "picture": report.picture, "report": report.page}
    outcome = RunOutcome(
        columns=report.columns,
        trained=trained,
        unchanged_pairs=count_unchanged_pairs(report.evaluated, trained),
        are_new=kind == "concepts",
        takes_phrases=get_family_of_model(unwrap_sam(trainer.unwrapped_model)).takes_phrases,
        files={name: str(file) for name, file in files.items() if file is not None},
    )
    return summarize_run(outcome)


def _describe_weights(folder: Path) -> tuple[str, str]:
    """Return the kind of a run, and the path of its weights with their size."""
    for kind, pattern in _WEIGHTS.items():
        files = sorted(folder.glob(pattern))
        size = sum(file.stat().st_size for file in files)
        if files:
            path = files[0] if len(files) == 1 else folder
            return kind, f"{path}, {size / 1e6:.1f} MB" if size >= 1e6 else f"{path}, {size / 1e3:.1f} KB"
    return "model", str(folder)
