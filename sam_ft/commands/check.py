"""Check of a data set: its contents, its defects, and pictures of the model's input; no weights, no GPU."""

import json
import logging
import sys
from pathlib import Path

from ..arguments import CheckArguments, DataArguments
from ..data.loading import find_phrase_splits
from ..data.samples.collators import warn_long_phrases
from ..data.samples.pipeline import TrainingSamples
from ..data.validation.inspection import add_training_refusal, inspect_splits
from ..models.processors import load_processor
from ..options.model_names import TINY
from ..reporting.gallery import write_gallery
from ..utils.console import progress_bar
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
        progress=progress_bar,
    )
    inspection.notes += notes
    add_training_refusal(inspection, options, reading)
    if data_args.extra_datasets:
        inspection.notes.append("`extra_datasets` are not checked; check each in a separate call")
    if check_args.json:
        sys.stdout.write(json.dumps(inspection.plain(), indent=1) + "\n")
    else:
        for line in inspection.lines(check_args.max_findings):
            logger.info("%s", line)
    train_rows = inspection.splits.get(data_args.train_split)
    if check_args.num_pictures and train_rows is not None:
        for file in _write_pictures(train_rows, data_args, check_args):
            logger.info("%s", file)
    return inspection.usable


def _write_pictures(rows, data_args: DataArguments, check_args: CheckArguments) -> list[Path]:
    """Draw training samples, evenly spaced over the rows, and return the written files."""
    samples = TrainingSamples(
        rows,
        seed=check_args.seed,
        phrases=to_phrase_options(data_args),
        transforms=to_transform_options(data_args, check_args.resolution),
        prompts=to_prompt_options(data_args),
    )
    number = min(check_args.num_pictures, len(rows))
    chosen = [i * len(rows) // number for i in range(number)]
    return write_gallery(samples, chosen, Path(check_args.gallery_dir), f"model input from {data_args.dataset_name}")
