"""
Score a SAM 3: all twelve COCO numbers for masks and boxes, results in COCO's format, pictures.

    accelerate launch recipes/sam3_eval.py --config recipes/configs/demo.yaml --model_name_or_path out/demo --output_dir out/score
    accelerate launch recipes/sam3_eval.py --model_name_or_path facebook/sam3 --dataset_name path/to/coco --output_dir out/base

Takes the keys and YAML files of sam3_ft.py; those of training are not used. Writes `output_dir/eval`.
"""

import logging
from pathlib import Path

from sam_ft.arguments import SAM3_ARGUMENTS, DataArguments, LossArguments, ModelArguments, Sam3TrainingArguments
from sam_ft.parser import RecipeParser
from sam_ft.report.stages import as_program, comparison_table, log_to_console_and_file, stage


logger = logging.getLogger("sam_ft.run")


def make_parser() -> RecipeParser:
    return RecipeParser(SAM3_ARGUMENTS)


def main(
    model_args: ModelArguments,
    data_args: DataArguments,
    loss_args: LossArguments,
    training_args: Sam3TrainingArguments,
) -> dict[str, float]:
    from sam_ft.training.build import build_sam3_trainer, load_data, load_sam3
    from sam_ft.training.sam3 import read_trained_phrases

    training_args.report_to = []
    log_to_console_and_file(None, is_main=training_args.process_index == 0)
    with stage("data"), training_args.main_process_first(desc="data"):
        data = load_data(data_args, with_train=False)
    with stage("model"):
        model, processor = load_sam3(model_args, training_args.seed, to_train=False)
        trained = read_trained_phrases(model_args.model_name_or_path)
        trainer = build_sam3_trainer(
            model, processor, data, data_args, loss_args, training_args, trained_phrases=trained
        )
    with stage("evaluation"):
        metrics = trainer.evaluate()
        trainer.save_metrics("eval", metrics, combined=False)
    for line in comparison_table(None, metrics):
        logger.info("%s", line)
    logger.info("results, ground truth and pictures: %s", Path(training_args.output_dir) / "eval")
    return metrics


if __name__ == "__main__":
    with as_program():
        main(*make_parser().parse())
