"""Evaluation command of SAM 3 and SAM 2: one or several models on one data set, in one report."""

import contextlib
import copy
import json
import logging
from pathlib import Path

from ..arguments import EvalArguments, ParsedTraining
from ..models.model_files import read_trained_phrases
from ..reporting.metric_specs import METRICS
from ..training.checkpoints import list_file_names, matches
from ..training.data_record import DATA_FILE, DataRecord
from ..utils.console import comparison_table, log_to_console_and_file, stage
from ..utils.json_files import write_json
from ..utils.output_folders import FolderKind, claim_settings, is_claimed, lock_folder
from ..utils.owned_files import OwnedFiles
from .build import collect_plain_settings, load_data
from .candidates import evaluate_model, evaluate_results, get_short_name, parse_candidates
from .key_conversion import to_model_options
from .run import Run, build_run
from .run_folder import EVALUATION_FILES, RUN_FOLDER
from .run_report import write_report


logger = logging.getLogger("sam_ft.run")


RESULTS_FILE = "eval_results.json"
EVALUATION_FOLDER = FolderKind(
    "output_dir", "evaluation.yaml", "evaluation", "set `overwrite: true` to replace the earlier evaluation's files"
)
# These keys do not change any result, so they may differ when an evaluation is repeated.
_FREE_KEYS = ("output_dir", "overwrite", "report_title", "num_pictures", "dataloader_num_workers", "disable_tqdm")


def run_evaluation(model_args, data_args, loss_args, training: ParsedTraining, eval_args: EvalArguments):
    """
    Run [`score_models`] with parsed keys.

    Args:
        model_args (`SharedModelArguments`): Keys of the model.
        data_args (`SharedDataArguments`): Keys of the data.
        loss_args (`LossArguments` or `Sam2LossArguments`): Keys of the loss.
        training (`ParsedTraining`): Keys of the training; an `output_dir` in a YAML file is that of the training run
            and is not used.
        eval_args (`EvalArguments`): Keys of the evaluation.

    Returns:
        `dict[str, float]`: As in [`score_models`].

    Raises:
        ValueError: As in [`score_models`].
    """
    output_dir = training.keys.output_dir if "output_dir" in training.command_line_keys else None
    return score_models(build_run(model_args, data_args, loss_args, training), eval_args, output_dir)


def score_models(run: Run, eval_args: EvalArguments, output_dir: str | None = None) -> dict[str, float]:
    """
    Evaluate the model of the run and the candidates of `compare`, and write one report.

    Args:
        run (`Run`): Keys; their `output_dir` is that of the training run and is not used.
        eval_args (`EvalArguments`): Keys of the evaluation.
        output_dir (`str`, *optional*): Folder of the report; by default `out/eval/NAME` of the model.

    Returns:
        `dict[str, float]`: Metrics of the run's model, with the prefix `eval_`.

    Raises:
        ValueError: If a model or a results file cannot be read.
    """
    model_args, training_args = run.model, run.training
    training_args.report_to, training_args.push_to_hub = [], False
    is_main = training_args.process_index == 0
    log_to_console_and_file(None, is_main=is_main)
    folder = Path(output_dir or Path("out/eval", get_short_name(model_args.model_name_or_path)))
    training_args.output_dir = str(folder)
    with contextlib.ExitStack() as claims:
        with training_args.main_process_first(desc="output folder"):
            if is_main:
                _claim(claims, folder, run, eval_args)
        return _score_models(run, eval_args, folder)


def _claim(claims: contextlib.ExitStack, folder: Path, run: Run, eval_args: EvalArguments) -> None:
    """Lock the folder and compare its settings; raise if it is in the folder of a training run."""
    folders = (folder.absolute(), *folder.absolute().parents)
    run_folder = next((path for path in folders if is_claimed(path, RUN_FOLDER)), None)
    if run_folder is not None:
        raise ValueError(
            f"`output_dir`: {folder} belongs to the training run in {run_folder}, whose report an evaluation "
            "would replace. Set `--output_dir` to a folder outside it"
        )
    claims.enter_context(lock_folder(folder, EVALUATION_FOLDER))
    settings = collect_plain_settings(run.model, run.data, eval_args)
    settings = json.loads(json.dumps({key: value for key, value in settings.items() if key not in _FREE_KEYS}))
    was_claimed, has_results = is_claimed(folder, EVALUATION_FOLDER), (folder / RESULTS_FILE).is_file()
    candidates = parse_candidates(eval_args.compare, run.model.model_name_or_path)
    prefixes = ["", *(f"{candidate.name}/" for candidate in candidates)]
    names = [name for prefix in prefixes for name in _names_of_evaluation(folder, prefix)]
    owned = OwnedFiles(folder, "evaluation")
    if was_claimed:
        owned.adopt(names)
        # Pictures are named by example, so a picture of the user does not collide.
        owned.check_free((name for name in names if "/pictures/" not in name), EVALUATION_FOLDER.argument)
    claim_settings(folder, EVALUATION_FOLDER, settings, has_results=has_results, replace=eval_args.overwrite)
    owned.begin(owned.find_foreign())
    claims.callback(_record, folder, prefixes)


def _names_of_evaluation(folder: Path, prefix: str) -> list[str]:
    """List the existing files that an evaluation writes below `folder`, for the candidate with this prefix."""
    outputs = (*EVALUATION_FILES, "pictures.png", "pictures/*.png")
    patterns = (DATA_FILE, RESULTS_FILE, *(f"eval/{name}" for name in outputs))
    return sorted(prefix + name for name in list_file_names(folder / prefix) if matches(name, patterns))


def _record(folder: Path, prefixes: list[str]) -> None:
    """Record the files of an evaluation at its end."""
    names = [name for prefix in prefixes for name in _names_of_evaluation(folder, prefix)]
    OwnedFiles(folder, "evaluation").end(names)


def _score_models(run: Run, eval_args: EvalArguments, output_dir: Path) -> dict[str, float]:
    model_args, data_args, training_args = run.model, run.data, run.training
    is_main = training_args.process_index == 0
    candidates = parse_candidates(eval_args.compare, model_args.model_name_or_path)
    with stage("data"), training_args.main_process_first(desc="data"):
        data = load_data(data_args, with_train=False)
        if is_main:
            DataRecord(data, with_images=data_args.verify_images).write(output_dir / DATA_FILE)
    with_masks = to_model_options(model_args, training_args.seed).with_masks
    trained, evaluated = read_trained_phrases(model_args.model_name_or_path, model_args.model_revision), []
    for candidate in candidates:
        with stage(f"evaluation of {candidate.name}"):
            if candidate.is_results:
                result = evaluate_results(candidate, data, trained, with_masks=with_masks)
            else:
                # With several models, the results of each are in a folder of its own.
                training_args.output_dir = str(output_dir / candidate.name if eval_args.compare else output_dir)
                result = evaluate_model(candidate, copy.copy(data), trained, run)
            evaluated.append(result)
    training_args.output_dir = str(output_dir)
    metrics = evaluated[-1].metrics
    if is_main:
        with stage("report"):
            columns = write_report(
                evaluated, data, data_args, eval_args, output_dir, num_pictures=training_args.num_pictures
            )
            write_json(output_dir / RESULTS_FILE, metrics, indent=4)
    names = [name for name, spec in METRICS.items() if spec.in_card]
    for line in comparison_table({result.name: result.metrics for result in evaluated}, names):
        logger.info("%s", line)
    for column in columns if is_main else ():
        for note in column.notes:
            logger.info("%s: %s", column.name, note)
    logger.info(
        "all metrics: %s; results, ground truth and pictures of each model: eval/ in %s",
        " and ".join(str(output_dir / name) for name in ("report.html", RESULTS_FILE)), output_dir,
    )  # fmt: skip
    return metrics
