"""Closing lines of a training run, with the files that it wrote."""

import os
import shlex
from pathlib import Path

from ..data.loading import PhraseData
from ..data.writers.image_names import source_paths
from ..models.families import get_family_of_model
from ..models.unwrapping import unwrap_sam
from ..options.concepts import CONCEPT_WEIGHTS
from ..options.prediction import PREDICTIONS_DIR
from ..reporting.run_summary import RunOutcome, summarize_run
from ..training.base_trainer import SamTrainer
from ..utils.program_path import find_program
from .candidates import count_unchanged_pairs
from .run_report import RunReport


# Weights by the kind of the run; the first kind whose files exist is that of the run.
_WEIGHTS = {"concepts": CONCEPT_WEIGHTS, "adapter": "adapter_model*.safetensors", "model": "model*.safetensors"}


def describe_run(trainer: SamTrainer, report: RunReport, data: PhraseData) -> list[str]:
    """
    Describe a run in its closing lines; see [`summarize_run`].

    Args:
        trainer (`SamTrainer`): Trainer after the model was saved.
        report (`RunReport`): Report of the run.
        data (`PhraseData`): Data of the run.

    Returns:
        `list[str]`: The lines; empty in all processes but the first.
    """
    if not report.columns:
        return []
    folder = Path(trainer.args.output_dir)
    trained, kind, model = trainer.trained_phrases or set(), *_describe_weights(folder)
    takes_phrases = get_family_of_model(unwrap_sam(trainer.unwrapped_model)).takes_phrases
    pages = [report.page, report.picture] if report.page is not None else [folder / "eval_results.json"]
    outcome = RunOutcome(
        columns=report.columns,
        trained=trained,
        unchanged_pairs=count_unchanged_pairs(report.evaluated, trained),
        are_new=kind == "concepts",
        takes_phrases=takes_phrases,
        thresholds=trainer.evaluator.thresholds,
        files={"report": ", ".join(str(file) for file in pages if file is not None), kind: model},
        next_command=_format_next_command(folder, data, takes_phrases=takes_phrases),
    )
    return summarize_run(outcome)


def _format_next_command(folder: Path, data: PhraseData, *, takes_phrases: bool) -> str:
    """
    Return the command that predicts the images of the evaluation with the model.

    SAM 2 needs prompts: the boxes of the COCO file of these images, if there is one.
    """
    paths = [path for path in source_paths(data.validation) if path is not None]
    images = os.path.relpath(os.path.commonpath([os.path.dirname(path) for path in paths])) if paths else "photos/"
    words = ["--model_name_or_path", str(folder), "--images", images]
    if not takes_phrases:
        source = data.reports[-1].source if data.reports else ""
        words += ["--prompt_file", source if source.endswith(".json") else "prompts.json"]
    if Path(PREDICTIONS_DIR).is_dir():  # The default folder may contain the predictions of another model.
        words += ["--predictions_dir", f"{folder}-predictions"]
    return " ".join([find_program(), "predict", *map(shlex.quote, words)])


def _describe_weights(folder: Path) -> tuple[str, str]:
    """Return the kind of a run, and the path of its weights with their size."""
    for kind, pattern in _WEIGHTS.items():
        files = sorted(folder.glob(pattern))
        size = sum(file.stat().st_size for file in files)
        if files:
            path = files[0] if len(files) == 1 else folder
            return kind, f"{path}, {size / 1e6:.1f} MB" if size >= 1e6 else f"{path}, {size / 1e3:.1f} KB"
    return "model", str(folder)
