"""A run from its first line to its last, of SAM 3 and of SAM 2: what recipes/sam3_ft.py and recipes/sam2_ft.py start."""

import logging
import tempfile
from pathlib import Path

from ..arguments import Run
from ..report.stages import comparison_table, log_to_console_and_file, stage
from .build import load_data, load_sam, run_settings
from .card import publish
from .checkpoints import check_checkpoint, prepare_output_dir
from .comparison import report_run
from .kinds import kind_of
from .retention import build_retention


logger = logging.getLogger("sam_ft.run")


def fine_tune(run: Run) -> None:
    """
    Trains, scores, saves, reports and publishes, or with `dry_run` goes through every stage once and leaves nothing behind.

    Raises:
        `ValueError`: for whatever is wrong with the keys, the data, the model or the folder, before the first step where it can be.
    """
    if not run.training.dry_run:
        return _fine_tune(run)
    with tempfile.TemporaryDirectory() as folder:
        run.training.make_dry(f"{folder}/run")
        run.data.make_dry(folder)
        _fine_tune(run)
        log_to_console_and_file(None, is_main=run.training.process_index == 0)
    logger.info("✓ dry run: every stage works here")
    return None


def _fine_tune(run: Run) -> None:
    model_args, data_args, loss_args, training_args = run.groups()

    # ---- Output folder: a new one, or the same run's
    is_main, output_dir = training_args.process_index == 0, Path(training_args.output_dir)
    settings = run_settings(*run.groups())
    with training_args.main_process_first(desc="output folder"):
        checkpoint = prepare_output_dir(str(output_dir), settings, is_main=is_main)
    if training_args.resume_from_checkpoint:
        checkpoint = check_checkpoint(training_args.resume_from_checkpoint)
    log_file = output_dir / "training.log"
    log_to_console_and_file(log_file, is_main=is_main)
    logger.info("%s", training_args.summary(model_args.model_name_or_path, data_args.dataset_name))

    # ---- Data
    with stage("data"), training_args.main_process_first(desc="data"):
        data = load_data(data_args)

    # ---- Model
    with stage("model"):
        model, processor = load_sam(model_args, training_args.seed)
        build = kind_of(run).build
        trainer = build(model, processor, data, data_args, loss_args, training_args, log_file=str(log_file))
    with stage("one batch"):
        batch = next(iter(trainer.get_train_dataloader()))
        logger.info("  %s", trainer.describe(batch))

    # ---- Score before
    before_file = output_dir / "before_results.json"
    with stage("evaluation before training"):
        if training_args.eval_before and not before_file.is_file() and trainer.can_evaluate_before_training:
            trainer.save_metrics("before", trainer.evaluate(metric_key_prefix="before"), combined=False)
        retention = build_retention(trainer, data, data_args)
        retention.remember()

    # ---- Train
    with stage("one optimizer step" if training_args.dry_run else "training"):
        if checkpoint:
            logger.info("  resuming from %s", checkpoint)
        trainer.save_metrics("train", trainer.train(resume_from_checkpoint=checkpoint).metrics)

    # ---- Score after, save
    with stage("evaluation"):
        metrics = trainer.evaluate() | retention.compare(log=True)
        trainer.save_metrics("eval", metrics)
    if not training_args.dry_run:
        with stage("saving"):
            trainer.save_model()
            trainer.save_state()
    with stage("report"):
        report = report_run(trainer, metrics, retention, data, data_args)
        for line in [*report.notes, *comparison_table(before_file, metrics)]:
            logger.info("%s", line)
    publish(trainer, report, data, model_args, data_args)
    for message in [message for report in data.reports for message in report.skipped]:
        logger.warning("left out: %s", message)
    if not training_args.dry_run:
        logger.info("model, its card (README.md), log, pictures (eval/pictures.png) and report.html: %s", output_dir)
