"""Fine-tuning command of SAM 3 and SAM 2: an end-to-end training run."""

import contextlib
import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ..arguments import ParsedTraining
from ..data.loading import PhraseData
from ..models.concept_switch import disable_concepts
from ..models.family_spec import resolve
from ..reporting.run_summary import format_line
from ..training.checkpoints import check_checkpoint
from ..training.data_record import DATA_FILE, DataRecord
from ..training.trackers import RunTracking
from ..utils.console import NOTE, comparison_table, log_to_file_only, logging_to_file, read_metrics, stage
from ..utils.library_bars import hidden_library_bars
from ..utils.text import list_some
from .build import load_data, load_sam
from .build_concepts import add_concepts_of_run
from .retention_probe import Retention, build_retention
from .run import Run, build_run
from .run_card import publish
from .run_family import get_family_of_run
from .run_folder import ClaimedRun, claim_run
from .run_overview import describe_data, describe_notes, describe_run_setup
from .run_report import report_run
from .run_summary import describe_run


logger = logging.getLogger("sam_ft.run")

LOG_FILE, BEFORE_FILE = "training.log", "before_results.json"


def run_fine_tuning(model_args, data_args, loss_args, training: ParsedTraining) -> None:
    """
    Run [`fine_tune`] with parsed keys.

    Args:
        model_args (`SharedModelArguments`): Keys of the model.
        data_args (`SharedDataArguments`): Keys of the data.
        loss_args (`LossArguments` or `Sam2LossArguments`): Keys of the loss.
        training (`ParsedTraining`): Keys of the training.

    Raises:
        ValueError: As in [`fine_tune`].
    """
    # Without a dry run, the console shows only the errors of the stages; their list is in the log file.
    with stage("config") if training.keys.dry_run else contextlib.nullcontext():
        run = build_run(model_args, data_args, loss_args, training)
        run.training.check_trackers()
    fine_tune(run)


def fine_tune(run: Run, data: PhraseData | None = None, *, is_part: bool = False) -> None:
    """
    Train, evaluate, save, report and publish; with `dry_run`, run each stage once and remove all output.

    The console shows a summary of the run, its progress and its result; the log file in its folder contains more.

    Args:
        run (`Run`): Keys of the run.
        data (`PhraseData`, *optional*): Data of the run, which are read from the keys by default.
        is_part (`bool`): Whether the run is a part of another command, so that the console shows its progress alone.

    Raises:
        ValueError: If keys, data, model or folder are not valid; raised before the first step if possible.
    """
    args = run.training
    if not args.dry_run:
        with contextlib.ExitStack() as claims:  # The folder is locked until the run ends.
            with args.main_process_first(desc="output folder"):
                claimed = claims.enter_context(claim_run(run))
            claims.enter_context(logging_to_file(claimed.folder / LOG_FILE, is_main=args.process_index == 0))
            return _fine_tune(run, claimed, claims.enter_context(RunTracking()), data, is_part=is_part)
    with tempfile.TemporaryDirectory() as folder:
        args.reduce_to_dry_run(f"{folder}/run")
        run.data.reduce_to_dry_run(folder)
        with claim_run(run) as claimed, RunTracking() as tracking:
            _fine_tune(run, claimed, tracking, data)
    logger.info("✓ dry run: every stage works here")
    return None


def _fine_tune(
    run: Run, claimed: ClaimedRun, tracking: RunTracking, data: PhraseData | None, *, is_part: bool = False
) -> None:
    model_args, data_args, loss_args, training_args = run.groups()
    is_main, output_dir, checkpoint = training_args.process_index == 0, claimed.folder, claimed.checkpoint
    if training_args.resume_from_checkpoint:
        checkpoint = check_checkpoint(training_args.resume_from_checkpoint)
    log_file, with_overview = output_dir / LOG_FILE, not (is_part or training_args.dry_run)
    if with_overview:
        resumed = f", resuming from {Path(checkpoint).name}" if checkpoint else ""
        logger.log(NOTE, "%s", format_line("output folder", f"{output_dir}{resumed}; full log: {log_file}"))
    logger.info("%s", training_args.summary(model_args.model_name_or_path, data_args.source_name))

    with stage("data"):
        with training_args.main_process_first(desc="data"):
            data = load_data(data_args) if data is None else data
        if with_overview and is_main:
            _log([*describe_data(data, data_args.source_name), *describe_notes(data, log_file)])
        record = _record_data(data, output_dir, checkpoint, data_args.verify_images) if is_main else None

    with stage("model"):
        model, processor = load_sam(model_args, training_args.seed)
        add_concepts_of_run(model, processor, data, model_args, training_args.seed)
        build_trainer = resolve(get_family_of_run(run).build_trainer)
        trainer = build_trainer(model, processor, data, data_args, loss_args, training_args, log_file=str(log_file))
        trainer.data_record = record
        retention = build_retention(trainer, data, data_args)
        if with_overview:
            _log(describe_run_setup(run, trainer, retention))
        tracking.begin(trainer)
    with hidden_library_bars():
        _train(run, trainer, retention, checkpoint)
    if record is not None:
        _check_data(record, trainer)
    _finish(run, trainer, data, retention, tracking, with_summary=with_overview)


def _train(run: Run, trainer, retention: Retention, checkpoint: str | None) -> None:
    """Evaluate the initial model, and train it or resume its training."""
    training_args, output_dir = run.training, Path(run.training.output_dir)
    with stage("one batch"):
        batch = next(iter(trainer.get_train_dataloader()))
        logger.info("  %s", trainer.describe(batch))

    with stage("evaluation before training"):
        is_evaluated = (output_dir / BEFORE_FILE).is_file()
        if training_args.eval_before and not is_evaluated and trainer.can_evaluate_before_training:
            with disable_concepts(trainer.model):
                trainer.save_metrics("before", trainer.evaluate(metric_key_prefix="before"), combined=False)
        retention.measure_initial_model()

    with stage("one optimizer step" if training_args.dry_run else "training"):
        if checkpoint:
            logger.info("  resuming from %s", checkpoint)
        trainer.save_metrics("train", trainer.train(resume_from_checkpoint=checkpoint).metrics)


def _finish(
    run: Run, trainer, data: PhraseData, retention: Retention, tracking: RunTracking, *, with_summary: bool
) -> None:
    """Evaluate, save, report and publish a trained model."""
    model_args, data_args, _, training_args = run.groups()
    output_dir = Path(training_args.output_dir)
    with stage("evaluation"):
        metrics = trainer.evaluate() | retention.compare(log=True)
        trainer.save_metrics("eval", metrics)
    if not training_args.dry_run:
        with stage("saving"), hidden_library_bars():
            trainer.save_model()
            trainer.save_state()
    with stage("report"):
        warnings = [*data.warnings, *(trainer.data_record.list_warnings() if trainer.data_record is not None else [])]
        report = report_run(trainer, metrics, retention, data, data_args, warnings)
        measured = {"before": read_metrics(output_dir / BEFORE_FILE, "before_"), "after": metrics}
        log_to_file_only([*report.notes, *comparison_table(measured)])
        tracking.log_report(report.page, report.picture)
    publish(trainer, report, data, model_args, data_args)
    _log(warnings)
    if not training_args.dry_run:
        _warn_of_left_out(data, output_dir / LOG_FILE)
    if with_summary:
        _log(describe_run(trainer, report, data))


def _log(lines: Iterable[str]) -> None:
    """Log lines that the console shows."""
    for line in lines:
        logger.log(NOTE, "%s", line)


def _warn_of_left_out(data: PhraseData, log_file: Path) -> None:
    """Warn of rows and annotations that were left out, with all messages in the log file."""
    rows = [message for report in data.reports for message in report.skipped]
    annotations = [message for report in data.reports for message in report.dropped]
    if rows or annotations:
        log_to_file_only([f"left out: {message}" for message in (*rows, *annotations)], logging.WARNING)
        logger.warning(
            "%d rows and %d annotations of the data were left out, such as %s; all: %s",
            len(rows), len(annotations), list_some([*rows, *annotations], 1), log_file,
        )  # fmt: skip


def _check_data(record: DataRecord, trainer) -> None:
    """Raise if images were replaced during training; the weights are saved before."""
    try:
        record.check_unchanged()
    except ValueError:
        trainer.save_model()
        raise


def _record_data(data, output_dir: Path, checkpoint: str | None, with_images: bool) -> DataRecord:
    """Compare the data with the records of the run and the checkpoint, then write the record of the run."""
    record = DataRecord(data, with_images=with_images)
    file = output_dir / DATA_FILE
    record.check(file)
    if checkpoint is not None:
        record.check(Path(checkpoint) / DATA_FILE)
    if not file.is_file() or record.with_images:  # A record without image digests must not replace one with them.
        record.write(file)
    return record
