"""Report of one or several evaluations: metrics with confidence intervals, differences and pictures."""

import fnmatch
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import transformers

from .. import __version__
from ..arguments import EvalArguments
from ..arguments.dataset import SharedDataArguments
from ..data.loading import PhraseData
from ..evaluation.predictions import read_evaluation, read_objects, score_results
from ..reporting.html_report import RunDetails, as_page
from ..reporting.metric_table import Column, as_markdown, as_plain
from ..reporting.retention_summary import describe_retention
from ..training.base_trainer import SamTrainer
from ..training.checkpoints import RUN_KIND
from ..utils.console import read_metrics
from ..utils.json_files import to_json
from ..utils.owned_files import OwnedFiles
from ..utils.secrets import redact
from ..utils.text import count_noun
from .candidates import CandidateEvaluation, count_unchanged_pairs
from .report_columns import build_columns
from .report_pictures import draw_before_and_after, draw_pictures, list_evaluated_phrases, save_picture
from .retention_probe import Retention


logger = logging.getLogger("sam_ft.run")

BEFORE_AND_AFTER = "before_after.png"


def write_report(
    evaluated: list[CandidateEvaluation],
    data: PhraseData,
    data_args: SharedDataArguments,
    eval_args: EvalArguments,
    folder: Path,
    *,
    num_pictures: int,
    run: RunDetails | None = None,
) -> list[Column]:
    """
    Write `report.html`, `report.md` and `report.json` into a folder.

    Args:
        evaluated (`list[CandidateEvaluation]`): Evaluations of the same images.
        data (`PhraseData`): Data of the evaluations.
        data_args (`SharedDataArguments`): Keys of the data.
        eval_args (`EvalArguments`): Keys of the evaluation.
        folder (`Path`): Output folder.
        num_pictures (`int`): Number of pictures of each kind.
        run (`RunDetails`, *optional*): Facts of the run, for the report of a run.

    Returns:
        `list[Column]`: Columns of the report.
    """
    columns, pictures = build_columns(evaluated, eval_args), draw_pictures(evaluated, data, num_pictures)
    if run is not None:
        # Without an evaluation before training, the retention metrics still contain the values of the initial model.
        retention = columns[-1].notes or describe_retention(columns[-1].metrics, {})
        columns[-1].notes = [*run.warnings, *retention]
    source = data_args.source_name
    source_name = Path(source).name if Path(source).exists() else source  # The path of a local folder is private.
    prompts = _describe_prompts(evaluated) or [data_args.describe_prompts()]
    footer = [
        f"{source_name}; {'; '.join(prompts)}; sam-ft {__version__}, transformers {transformers.__version__}.",
        "AP is computed by pycocotools, with sizes by the areas of masks. cgF1, pmF1 and IL_MCC of models that take "
        "phrases are computed as in the official evaluator, from detections with a score of at least 0.5. Mean IoU, "
        "Dice and boundary F1 compare the union of a phrase's detections with the union of its objects where it is "
        "present.",
    ]
    contents = {
        "report.html": as_page(
            columns,
            pictures,
            eval_args.report_title,
            footer,
            phrases=list_evaluated_phrases(evaluated),
            subtitle=_describe_data(evaluated[-1]),
            run=run,
        ),
        "report.md": as_markdown(columns, eval_args.report_title),
        "report.json": to_json(as_plain(columns), "report.json", indent=1),
    }
    owned = OwnedFiles(folder, "evaluation" if run is None else RUN_KIND)
    for name, content in contents.items():
        file, is_replaced = owned.write_unless_edited(name, redact(content))
        if not is_replaced:
            logger.warning("%s was edited and is kept; the new one is %s", name, file)
    return columns


def _describe_data(candidate: CandidateEvaluation) -> str:
    """Describe the evaluated images, such as `24 validation images, 3 phrases`."""
    pairs = candidate.scored.pairs
    images, phrases = len({pair.image_id for pair in pairs}), len({pair.phrase for pair in pairs})
    return f"{count_noun(images, 'validation image')}, {count_noun(phrases, 'phrase')}"


def _describe_prompts(evaluated: list[CandidateEvaluation]) -> list[str]:
    """Return the prompts of the evaluations, with names where they differ."""
    names_of: dict[str, list[str]] = {candidate.prompts: [] for candidate in evaluated if candidate.prompts}
    for candidate in evaluated:
        if candidate.prompts:
            names_of[candidate.prompts].append(candidate.name)
    if len(names_of) == 1 and len(next(iter(names_of.values()))) == len(evaluated):
        return list(names_of)
    return [f"{', '.join(names)}: {prompts}" for prompts, names in names_of.items()]


@dataclass
class RunReport:
    """
    Report of a run.

    Attributes:
        notes (`list[str]`): Warnings and retention; see [`describe_retention`].
        evaluated (`list[CandidateEvaluation]`): Evaluations before, if there is one, and after; empty in all
            processes but the first.
        columns (`list[Column]`): Columns of these evaluations.
        page (`Path`, *optional*): The report; `None` without `num_pictures`.
        picture (`Path`, *optional*): Sheet of the most improved images; `None` if there is none.
    """

    notes: list[str]
    evaluated: list[CandidateEvaluation]
    columns: list[Column]
    page: Path | None = None
    picture: Path | None = None


def report_run(
    trainer: SamTrainer,
    metrics: dict[str, float],
    retention: Retention,
    data: PhraseData,
    data_args: SharedDataArguments,
    warnings: list[str] = (),
) -> RunReport:
    """
    Write the report of a run, before and after, into its folder; without `num_pictures` no file is written.

    Args:
        trainer (`SamTrainer`): Trainer after the last evaluation.
        metrics (`dict[str, float]`): Metrics of that evaluation, with the prefix `eval_`.
        retention (`Retention`): Retention after its comparison.
        data (`PhraseData`): Data of the run.
        data_args (`SharedDataArguments`): Keys of the data.
        warnings (`list[str]`): Notes that come first.
    """
    folder = Path(trainer.args.output_dir)
    numbers = {name.removeprefix("eval_"): value for name, value in metrics.items()}
    notes = [*warnings, *describe_retention(numbers, read_metrics(folder / "before_results.json", "before_"))]
    if not trainer.is_world_process_zero():
        return RunReport(notes, [], [])
    evaluated = collect_before_and_after(trainer, metrics, retention)
    if not trainer.num_pictures:
        columns = build_columns(evaluated, EvalArguments(bootstrap_samples=0))
        columns[-1].notes = [*warnings, *columns[-1].notes]
    else:
        arguments = EvalArguments(report_title=f"{folder.name}: before and after")
        columns = write_report(
            evaluated,
            data,
            data_args,
            arguments,
            folder,
            num_pictures=trainer.num_pictures,
            run=RunDetails(
                trainer.state.log_history,
                count_unchanged_pairs(evaluated, trainer.trained_phrases or set()),
                list(warnings),
            ),
        )
    columns[-1].notes = columns[-1].notes if len(evaluated) > 1 else notes
    if not trainer.num_pictures:
        return RunReport(notes, evaluated, columns)
    picture = _save_before_and_after(folder, evaluated, data, trainer.trained_phrases)
    return RunReport(notes, evaluated, columns, folder / "report.html", picture)


def _save_before_and_after(
    folder: Path, evaluated: list[CandidateEvaluation], data: PhraseData, trained: set[str] | None
) -> Path | None:
    """Save the sheet of the most improved images; that of an earlier call is removed unless it was edited."""
    owned = OwnedFiles(folder, RUN_KIND)
    owned.remove(name for name in owned.names if fnmatch.fnmatch(name, "before_after*.png"))
    sheet = draw_before_and_after(evaluated, data, trained)
    return None if sheet is None else folder / save_picture(owned, BEFORE_AND_AFTER, sheet)


def collect_before_and_after(
    trainer: SamTrainer, metrics: dict[str, float], retention: Retention
) -> list[CandidateEvaluation]:
    """
    Return the evaluations of a run before and after training.

    The first one is read from the run's folder and left out if it is missing or of other images.

    Args:
        trainer (`SamTrainer`): Trainer after the last evaluation.
        metrics (`dict[str, float]`): Metrics of that evaluation, with the prefix `eval_`.
        retention (`Retention`): Retention after its comparison.
    """
    folder, scored = Path(trainer.args.output_dir), trainer.evaluator.scored
    kinds, sizes, probes = {}, {}, (None, None)
    if retention.probe is not None:
        kinds, sizes = retention.probe.kinds, retention.sizes()
        probes = retention.before["probe"], retention.after["probe"]
    after = CandidateEvaluation("after", metrics, scored, trainer.evaluator.thresholds, probes[1], kinds, sizes)
    recorded = read_evaluation(folder / "before") if (folder / "before" / "presence.json").is_file() else None
    if recorded is None or recorded[0] != json.loads(json.dumps(scored.ground_truth)):
        return [after]
    truth, results, presence = recorded
    scored_before = score_results(
        truth, results, presence, with_masks=scored.kind == "mask", trained=trainer.trained_phrases,
        objects=read_objects(folder / "before"),
    )  # fmt: skip
    numbers = read_metrics(folder / "before_results.json", "before_")
    metrics_before = {f"eval_{name}": value for name, value in numbers.items()}
    return [CandidateEvaluation("before", metrics_before, scored_before, None, probes[0], kinds, sizes), after]
