"""Check of a data set: its contents, its defects, and pictures of the model's input; no weights, no GPU.

    python recipes/check_data.py --dataset_name path/to/data
    python recipes/check_data.py --config recipes/configs/sam3_lora_24gb.yaml --dataset_name owner/name --json true

The keys are the data keys of sam3_ft.py and of sam2_ft.py's YAML files; pictures and phrases are those of SAM 3. Other
keys of a YAML file are ignored. Exit status 0: the data are usable; 1: they are not; 2: they cannot be read.
"""

import json
import logging
import sys
from pathlib import Path

from sam_ft.arguments import SAM2_ARGUMENTS, SAM3_ARGUMENTS, CheckArguments, DataArguments
from sam_ft.arguments.parser import RecipeParser
from sam_ft.utils.console import as_program


logger = logging.getLogger("sam_ft.run")


def make_parser() -> RecipeParser:
    """Build the parser of the data keys and of the check's keys."""
    return RecipeParser((DataArguments, CheckArguments), ignored=(*SAM3_ARGUMENTS, *SAM2_ARGUMENTS))


def main(data_args: DataArguments, check_args: CheckArguments) -> bool:
    """Check the data and log or print the result.

    Args:
        data_args (`DataArguments`): Data to check.
        check_args (`CheckArguments`): Output format, number of findings and of pictures.

    Returns:
        `bool`: Whether the data are usable.
    """
    from sam_ft.data.loading import find_phrase_splits
    from sam_ft.data.samples.collators import warn_long_phrases
    from sam_ft.data.validation.inspection import add_training_refusal, inspect_splits, with_a_bar
    from sam_ft.models.families import TINY
    from sam_ft.models.processors import load_processor

    splits, notes = find_phrase_splits(data_args.dataset(), data_args.reading())
    # The packaged tokenizer splits rare words into more tokens than SAM 3's own, never into fewer.
    tokenizer = load_processor(TINY).tokenizer
    inspection = inspect_splits(
        splits,
        data_args.reading(),
        check_args.resolution,
        lambda texts: warn_long_phrases(tokenizer, texts),
        train_split=data_args.train_split,
        progress=with_a_bar,
    )
    inspection.notes += notes
    add_training_refusal(inspection, data_args.dataset(), data_args.reading())
    if data_args.extra_datasets:
        inspection.notes.append("`extra_datasets` are not checked; check each in a separate call")
    if check_args.json:
        print(json.dumps(inspection.plain(), indent=1))
    else:
        for line in inspection.lines(check_args.max_findings):
            logger.info("%s", line)
    train_rows = inspection.splits.get(data_args.train_split)
    if check_args.num_pictures and train_rows is not None:
        for file in write_pictures(train_rows, data_args, check_args):
            logger.info("%s", file)
    return inspection.usable


def write_pictures(rows, data_args: DataArguments, check_args: CheckArguments) -> list[Path]:
    """Draw training samples, evenly spaced over the rows.

    Args:
        rows (`datasets.Dataset`): Rows of the training split.
        data_args (`DataArguments`): Phrases, prompts and augmentation of the samples.
        check_args (`CheckArguments`): Number of pictures, folder, resolution in px and random seed.

    Returns:
        `list[Path]`: The written files.
    """
    from sam_ft.data.samples.pipeline import TrainingSamples
    from sam_ft.reporting.gallery import write_gallery

    transforms = data_args.transforms(check_args.resolution)
    samples = TrainingSamples(
        rows, seed=check_args.seed, phrases=data_args.phrases(), transforms=transforms, prompts=data_args.prompts()
    )
    number = min(check_args.num_pictures, len(rows))
    chosen = [i * len(rows) // number for i in range(number)]
    return write_gallery(samples, chosen, Path(check_args.gallery_dir), f"model input from {data_args.dataset_name}")


if __name__ == "__main__":
    with as_program(failed=2):
        sys.exit(0 if main(*make_parser().parse()) else 1)
