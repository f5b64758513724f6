"""
Score SAM 3: one model, or several models and other programs' results side by side.

    accelerate launch recipes/sam3_eval.py --config recipes/configs/demo.yaml --model_name_or_path out/demo --output_dir out/score
    accelerate launch recipes/sam3_eval.py --config … --model_name_or_path out/mine --compare base=facebook/sam3 other=results.json

Takes the keys and YAML files of sam3_ft.py; those of training are not used. Writes `report.html`, `report.md` and `report.json` to `output_dir`, and
results, ground truth and pictures of each model below it.
"""

import json
import logging
from pathlib import Path

from sam_ft.arguments import (
    SAM3_ARGUMENTS,
    DataArguments,
    EvalArguments,
    LossArguments,
    ModelArguments,
    Sam3TrainingArguments,
)
from sam_ft.parser import RecipeParser
from sam_ft.report.stages import as_program, comparison_table, log_to_console_and_file, stage


logger = logging.getLogger("sam_ft.run")


def make_parser() -> RecipeParser:
    return RecipeParser((*SAM3_ARGUMENTS, EvalArguments))


def main(
    model_args: ModelArguments,
    data_args: DataArguments,
    loss_args: LossArguments,
    training_args: Sam3TrainingArguments,
    eval_args: EvalArguments,
) -> dict[str, float]:
    from sam_ft.models.load import read_trained_phrases
    from sam_ft.training.build import load_data
    from sam_ft.training.candidates import candidates_of, evaluate_model, evaluate_results
    from sam_ft.training.comparison import write_report

    training_args.report_to, training_args.push_to_hub = [], False
    is_main, output_dir = training_args.process_index == 0, Path(training_args.output_dir)
    log_to_console_and_file(None, is_main=is_main)
    candidates = candidates_of(eval_args.compare, model_args.model_name_or_path)
    with stage("data"), training_args.main_process_first(desc="data"):
        data = load_data(data_args, with_train=False)
    trained, evaluated = read_trained_phrases(model_args.model_name_or_path, model_args.model_revision), []
    for candidate in candidates:
        with stage(f"evaluation of {candidate.name}"):
            if candidate.is_results:
                one = evaluate_results(candidate, data, trained, with_masks=model_args.train_masks)
            else:
                # each model's results beside the others'; those of one model where they always were
                training_args.output_dir = str(output_dir / candidate.name if eval_args.compare else output_dir)
                one = evaluate_model(candidate, data, trained, model_args, data_args, loss_args, training_args)
            evaluated.append(one)
    training_args.output_dir = str(output_dir)
    metrics = evaluated[-1].metrics
    if is_main:
        with stage("report"):
            columns = write_report(
                evaluated, data, data_args, eval_args, output_dir, num_pictures=training_args.num_pictures
            )
            (output_dir / "eval_results.json").write_text(json.dumps(metrics, indent=4), encoding="utf-8")
    for line in comparison_table(None, metrics):
        logger.info("%s", line)
    for one in columns if is_main else ():
        for note in one.notes:
            logger.info("%s: %s", one.name, note)
    logger.info("report: %s; results, ground truth and pictures of each model: eval/", output_dir / "report.html")
    return metrics


if __name__ == "__main__":
    with as_program():
        main(*make_parser().parse())
