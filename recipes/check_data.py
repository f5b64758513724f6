"""
What is in a data set, what is wrong with it, and what the model will be fed: no weights, no GPU.

    python recipes/check_data.py --dataset_name path/to/data
    python recipes/check_data.py --config recipes/configs/sam3_lora_24gb.yaml --dataset_name owner/name --json true

Takes the data keys of sam3_ft.py, and those of sam2_ft.py's YAML files that say what is read (pictures and phrases are SAM 3's view); keys of a YAML file that are not about data are ignored. Exit status 0: usable; 1: not; 2: cannot be read.
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
    return RecipeParser((DataArguments, CheckArguments), ignored=(*SAM3_ARGUMENTS, *SAM2_ARGUMENTS))


def main(data_args: DataArguments, check_args: CheckArguments) -> bool:
    from sam_ft.data.loading import find_phrase_splits
    from sam_ft.data.samples.collators import warn_long_phrases
    from sam_ft.data.validation.inspection import add_training_refusal, inspect_splits, with_a_bar
    from sam_ft.models.families import TINY
    from sam_ft.models.processors import load_processor

    splits, notes = find_phrase_splits(data_args.dataset(), data_args.reading())
    # the carried tokenizer splits rare words into more pieces than SAM 3's own, never into fewer
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
        inspection.notes.append("`extra_datasets` are not looked at; check each by itself")
    if check_args.json:
        print(json.dumps(inspection.plain(), indent=1))
    else:
        for line in inspection.lines(check_args.max_findings):
            logger.info("%s", line)
    shown = inspection.splits.get(data_args.train_split)
    if check_args.num_pictures and shown is not None:
        for file in write_pictures(shown, data_args, check_args):
            logger.info("%s", file)
    return inspection.usable


def write_pictures(rows, data_args: DataArguments, check_args: CheckArguments) -> list[Path]:
    from sam_ft.data.samples.pipeline import TrainingSamples
    from sam_ft.reporting.gallery import write_gallery

    transforms = data_args.transforms(check_args.resolution)
    samples = TrainingSamples(
        rows, seed=check_args.seed, phrases=data_args.phrases(), transforms=transforms, prompts=data_args.prompts()
    )
    number = min(check_args.num_pictures, len(rows))
    chosen = [i * len(rows) // number for i in range(number)]
    return write_gallery(
        samples, chosen, Path(check_args.gallery_dir), f"what the model is fed of {data_args.dataset_name}"
    )


if __name__ == "__main__":
    with as_program(failed=2):
        sys.exit(0 if main(*make_parser().parse()) else 1)
