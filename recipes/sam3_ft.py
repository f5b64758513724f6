"""
Fine-tune SAM 3 on phrases and masks.

    accelerate launch recipes/sam3_ft.py                        # the embedded default: a tiny model learns new shapes
    accelerate launch recipes/sam3_ft.py --config recipes/configs/sam3_full_24gb.yaml --dataset_name path/to/coco
    accelerate launch recipes/sam3_ft.py --config … --dry_run   # every stage once, on whatever device there is

Keys: `--help`. A second run with the same `output_dir` resumes the first.
"""

import logging
import sys
import tempfile
from pathlib import Path

from sam_ft.arguments import SAM3_ARGUMENTS, DataArguments, LossArguments, ModelArguments, Sam3TrainingArguments
from sam_ft.parser import RecipeParser
from sam_ft.report.stages import as_program, comparison_table, log_to_console_and_file, stage


logger = logging.getLogger("sam_ft.run")

DEFAULT = Path(__file__).parent / "configs" / "demo.yaml"


def make_parser() -> RecipeParser:
    return RecipeParser(SAM3_ARGUMENTS)


def main(
    model_args: ModelArguments,
    data_args: DataArguments,
    loss_args: LossArguments,
    training_args: Sam3TrainingArguments,
):
    from sam_ft.training.build import build_sam3_trainer, load_data, load_sam3, run_settings
    from sam_ft.training.card import publish
    from sam_ft.training.checkpoints import check_checkpoint, prepare_output_dir
    from sam_ft.training.comparison import report_run
    from sam_ft.training.retention import build_retention

    # ---- Output folder: a new one, or the same run's
    is_main, output_dir = training_args.process_index == 0, Path(training_args.output_dir)
    settings = run_settings(model_args, data_args, loss_args, training_args)
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
        model, processor = load_sam3(model_args, training_args.seed)
        trainer = build_sam3_trainer(
            model, processor, data, data_args, loss_args, training_args, log_file=str(log_file)
        )
    with stage("one batch"):
        batch = next(iter(trainer.get_train_dataloader()))
        logger.info("  %d images, %d phrases asked", len(batch["labels"]), len(batch["pair_image"]))

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


def run(arguments: list[str] | None = None):
    """Parses and runs; without any argument the embedded default. A dry run leaves nothing behind."""
    arguments = sys.argv[1:] if arguments is None else arguments
    with stage("config"):
        model_args, data_args, loss_args, training_args = make_parser().parse(arguments or ["--config", str(DEFAULT)])
    if not arguments:
        logger.info("no arguments: running %s", DEFAULT)
    if not training_args.dry_run:
        return main(model_args, data_args, loss_args, training_args)
    with tempfile.TemporaryDirectory() as folder:
        training_args.make_dry(f"{folder}/run")
        data_args.make_dry(folder)
        main(model_args, data_args, loss_args, training_args)
        log_to_console_and_file(None, is_main=training_args.process_index == 0)
    logger.info("✓ dry run: every stage works here")


if __name__ == "__main__":
    with as_program():
        run()
