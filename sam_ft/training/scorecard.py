"""Several models on one data set: what recipes/sam3_eval.py and recipes/sam2_eval.py start."""

import copy
import json
import logging
from pathlib import Path

from ..arguments import EvalArguments, Run
from ..models.files import read_trained_phrases
from ..report.stages import comparison_table, log_to_console_and_file, stage
from .build import load_data
from .candidates import candidates_of, evaluate_model, evaluate_results
from .comparison import write_report


logger = logging.getLogger("sam_ft.run")


def score_models(run: Run, eval_args: EvalArguments) -> dict[str, float]:
    """
    Scores the run's model and what it is compared with, and writes one report.

    Returns:
        `dict[str, float]`: the numbers of the run's own model, prefixed `eval_`.

    Raises:
        `ValueError`: where a model or a results file cannot be read; says which.
    """
    model_args, data_args, training_args = run.model, run.data, run.training
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
                one = evaluate_model(candidate, copy.copy(data), trained, run)
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
