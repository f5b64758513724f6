"""Fine-tuning command of SAM 3 and SAM 2: an end-to-end training run."""

import contextlib
import logging
import tempfile
from pathlib import Path

from ..arguments import ParsedTraining
from ..data.loading import PhraseData
from ..models.concept_switch import disable_concepts
from ..models.family_spec import resolve
from ..training.checkpoints import check_checkpoint
from ..training.data_record import DATA_FILE, DataRecord
from ..training.trackers import RunTracking
from ..utils.console import comparison_table, log_to_file_only, logging_to_file, read_metrics, stage
from .build import load_data, load_sam
from .build_concepts import add_concepts_of_run
from .retention_probe import build_retention
from .run import Run, build_run
from .run_card import publish
from .run_family import get_family_of_run
from .run_folder import ClaimedRun, claim_run
from .run_report import report_run
from .run_summary import describe_run


logger = logging.getLogger("sam_ft.run")

LOG_FILE = "training.log"


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
    with stage("config"):
        run = build_run(model_args, data_args, loss_args, training)
        run.training.check_trackers()
    fine_tune(run)


def fine_tune(run: Run, data: PhraseData | None = None) -> None:
    """
    Train, evaluate, save, report and publish; with `dry_run`, run each stage once and remove all output.

    Args:
        run (`Run`): Keys of the run.
        data (`PhraseData`, *optional*): Data of the run, which are read from the keys by default.

    Raises:
        ValueError: If keys, data, model or folder are not valid; raised before the first step if possible.
    """
    args = run.training
    if not args.dry_run:
        with contextlib.ExitStack() as claims:  # The folder is locked until the run ends.
            with args.main_process_first(desc="output folder"):
                claimed = claims.enter_context(claim_run(run))
            claims.enter_context(logging_to_file(claimed.folder / LOG_FILE, is_main=args.process_index == 0))
            return _fine_tune(run, claimed, claims.enter_context(RunTracking()), data)
    with tempfile.TemporaryDirectory() as folder:
        args.reduce_to_dry_run(f"{folder}/run")
        run.data.reduce_to_dry_run(folder)
        with claim_run(run) as claimed, RunTracking() as tracking:
            _fine_tune(run, claimed, tracking, data)
    logger.info("✓ dry run: every stage works here")
    return None


def _fine_tune(run: Run, claimed: ClaimedRun, tracking: RunTracking, data: PhraseData | None) -> None:
    model_args, data_args, loss_args, training_args = run.groups()
    is_main, output_dir, checkpoint = training_args.process_index == 0, claimed.folder, claimed.checkpoint
    if training_args.resume_from_checkpoint:
        checkpoint = check_checkpoint(training_args.resume_from_checkpoint)
    log_file = output_dir / LOG_FILE
    logger.info("%s", training_args.summary(model_args.model_name_or_path, data_args.source_name))

    with stage("data"):
        with training_args.main_process_first(desc="data"):
            data = load_data(data_args) if data is None else data
        record = _record_data(data, output_dir, checkpoint, data_args.verify_images) if is_main else None

    with stage("model"):
        model, processor = load_sam(model_args, training_args.seed)
        add_concepts_of_run(model, processor, data, model_args, training_args.seed)
        build_trainer = resolve(get_family_of_run(run).build_trainer)
        trainer = build_trainer(model, processor, data, data_args, loss_args, training_args, log_file=str(log_file))
        trainer.data_record = record
        tracking.begin(trainer)
    with stage("one batch"):
        batch = next(iter(trainer.get_train_dataloader()))
        logger.info("  %s", trainer.describe(batch))

    before_file = output_dir / "before_results.json"
    with stage("evaluation before training"):
        if training_args.eval_before and not before_file.is_file() and trainer.can_evaluate_before_training:
            with disable_concepts(model):
                trainer.save_metrics("before", trainer.evaluate(metric_key_prefix="before"), combined=False)
        retention = build_retention(trainer, data, data_args)
        retention.measure_initial_model()

    with stage("one optimizer step" if training_args.dry_run else "training"):
        if checkpoint:
            logger.info("  resuming from %s", checkpoint)
        trainer.save_metrics("train", trainer.train(resume_from_checkpoint=checkpoint).metrics)

    if record is not None:
        _check_data(record, trainer)
    with stage("evaluation"):
        metrics = trainer.evaluate() | retention.compare(log=True)
        trainer.save_metrics("eval", metrics)
    if not training_args.dry_run:
        with stage("saving"):
            trainer.save_model()
            trainer.save_state()
    with stage("report"):
        warnings = [*data.warnings, *(record.list_warnings() if record is not None else [])]
        report = report_run(trainer, metrics, retention, data, data_args, warnings)
        for line in warnings:
            logger.info("%s", line)
        measured = {"before": read_metrics(before_file, "before_"), "after": metrics}
        log_to_file_only([*report.notes, *comparison_table(measured)])
        tracking.log_report(report.page, report.picture)
    publish(trainer, report, data, model_args, data_args)
    for message in [message for report in data.reports for message in (*report.skipped, *report.dropped)]:
        logger.warning("left out: %s", message)
    if not training_args.dry_run:
        for line in describe_run(trainer, report):
            logger.info("%s", line)


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
