"""Check of a data set: its contents, its defects, and a page with pictures and charts; no weights, no GPU."""

import json
import logging
import shlex
import sys
from pathlib import Path

from ..arguments import CheckArguments, DataArguments
from ..data.loading import find_phrase_splits
from ..data.samples.collators import warn_long_phrases
from ..data.samples.pipeline import EvaluationSamples, TrainingSamples
from ..data.samples.sample import Sample
from ..data.validation.inspection import Inspection, add_training_refusal, inspect_splits
from ..models.processors import load_processor
from ..options.model_names import TINY
from ..reporting.check_page import CheckPage, write_check_page
from ..utils.program_path import find_program
from .key_conversion import (
    to_dataset_options,
    to_phrase_options,
    to_prompt_options,
    to_read_options,
    to_transform_options,
)


logger = logging.getLogger("sam_ft.run")


def check_data(data_args: DataArguments, check_args: CheckArguments) -> bool:
    """
    Check the data, and log or print the result.

    Args:
        data_args (`DataArguments`): Data to check.
        check_args (`CheckArguments`): Output format, number of findings and of pictures.

    Returns:
        `bool`: Whether the data are usable.

    Raises:
        ValueError: If the data cannot be read.
    """
    options, reading = to_dataset_options(data_args), to_read_options(data_args)
    splits, notes = find_phrase_splits(options, reading)
    # The packaged tokenizer splits rare words into more tokens than SAM 3's own, never into fewer.
    tokenizer = load_processor(TINY).tokenizer
    inspection = inspect_splits(
        splits,
        reading,
        check_args.resolution,
        lambda texts: warn_long_phrases(tokenizer, texts),
        train_split=data_args.train_split,
        num_proc=check_args.num_proc,
    )
    inspection.notes += notes
    add_training_refusal(inspection, options, reading, check_args.num_proc)
    if data_args.extra_datasets:
        inspection.notes.append("`extra_datasets` are not checked; check each in a separate call")
    page = _write_page(inspection, data_args, check_args) if check_args.num_pictures else None
    if check_args.json:
        sys.stdout.write(json.dumps(inspection.plain(), indent=1) + "\n")
    *lines, verdict = inspection.lines(check_args.max_findings)
    for line in () if check_args.json else lines:
        logger.info("%s", line)
    if not check_args.json:
        logger.info("%s", verdict)
    if page is not None:
        logger.info("pictures and charts: %s", page)
    if inspection.usable and data_args == DataArguments(dataset_name=data_args.dataset_name):
        words = ["finetune", "--dry_run", "--config", "sam3_lora_24gb", "--dataset_name", data_args.dataset_name]
        logger.info("next: %s %s", find_program(), shlex.join(map(str, words)))
    return inspection.usable


def _write_page(inspection: Inspection, data_args: DataArguments, check_args: CheckArguments) -> Path:
    """Write the page of the check, with training samples evenly spaced over the rows."""
    makers = {}

    def make_sample(split: str, index: int) -> Sample:
        """Make the model's input: augmented for the training split, the whole image for others."""
        if split not in makers:
            makers[split] = _make_samples(inspection, split, data_args, check_args)
        return makers[split][(0, index) if split == inspection.train_split else index]

    num_rows = len(inspection.splits.get(inspection.train_split, ()))
    number = min(check_args.num_pictures, num_rows)
    title = f"Data check of {data_args.source_name}"
    page = CheckPage(inspection, make_sample, title)
    return write_check_page(page, [i * num_rows // number for i in range(number)], Path(check_args.gallery_dir))


def _make_samples(
    inspection: Inspection, split: str, data_args: DataArguments, check_args: CheckArguments
) -> TrainingSamples | EvaluationSamples:
    rows = inspection.splits[split]
    if split != inspection.train_split:
        return EvaluationSamples(rows, resolution=check_args.resolution, geometry_token=True)
    return TrainingSamples(
        rows,
        seed=check_args.seed,
        phrases=to_phrase_options(data_args),
        transforms=to_transform_options(data_args, check_args.resolution),
        prompts=to_prompt_options(data_args),
    )
