r"""Conversion of any data set that this package reads to COCO with phrases, or to a data set of rows for the Hub.

    python recipes/convert_data.py --dataset_name path/to/labelme --target_dir out/coco
    python recipes/convert_data.py --dataset_name path/to/yolo --target_dir out/rows --output_format rows \
        --push_to_hub me/nuts
    python recipes/convert_data.py --dataset_name path/to/coco --target_dir out/unseen \
        --hold_out_phrases "traffic light" boat

The keys are the data keys of sam3_ft.py and sam2_ft.py, from the same YAML file with `--config`.
"""

import logging
from pathlib import Path

from sam_ft.arguments import SAM2_ARGUMENTS, SAM3_ARGUMENTS, ConvertArguments, DataArguments
from sam_ft.arguments.parser import RecipeParser
from sam_ft.utils.console import as_program, stage


logger = logging.getLogger("sam_ft.run")


def make_parser() -> RecipeParser:
    """Build the parser of the data keys and of the conversion's keys."""
    return RecipeParser((DataArguments, ConvertArguments), ignored=(*SAM3_ARGUMENTS, *SAM2_ARGUMENTS))


def main(data_args: DataArguments, convert_args: ConvertArguments):
    """Read, split, filter and write a data set.

    Args:
        data_args (`DataArguments`): Data to read.
        convert_args (`ConvertArguments`): Splits, phrases and format to write.

    Raises:
        ValueError: If `splits` contains a split that does not exist, or no row of a split remains.
    """
    from sam_ft.data.loading import find_phrase_splits
    from sam_ft.data.sources import read_splits
    from sam_ft.data.splits import all_rows, known_phrases, split_by_image, split_by_phrase, subset
    from sam_ft.data.writers.conversion import check_target, conversion_target, push_rows, write_coco, write_rows

    folder = Path(convert_args.target_dir)
    check_target(folder, data_args.places(), overwrite=convert_args.overwrite)
    with stage("data"):
        sources, notes = find_phrase_splits(data_args.dataset(), data_args.reading())
        names = convert_args.splits or list(sources)
        unknown = [name for name in names if name not in sources]
        if unknown:
            raise ValueError(f"`splits` has no split {unknown[0]!r}. Use one of: {', '.join(sources)}")
        read = read_splits(sources, data_args.reading(), only=names)
        for line in [*notes, *(line for _, report in read.values() for line in report.lines())]:
            logger.info("%s", line)
    splits = {name: rows for name, (rows, _) in read.items()}
    if convert_args.new_validation_fraction:
        splits = split_by_image(all_rows(splits), convert_args.new_validation_fraction, convert_args.split_seed)
    if convert_args.hold_out_phrases:
        splits = split_by_phrase(all_rows(splits), convert_args.hold_out_phrases)
    phrases = known_phrases(splits, convert_args.keep_phrases, "keep_phrases")
    for name, rows in splits.items():
        splits[name] = subset(rows, phrases=phrases or None, limit=convert_args.max_rows)
        if not len(splits[name]):
            raise ValueError(f"split {name!r} has no rows left after filtering. Check `keep_phrases`")
    target = conversion_target(folder, overwrite=convert_args.overwrite)
    with stage("writing"), target as draft:
        if convert_args.output_format == "coco":
            for name, rows in splits.items():
                file = write_coco(rows, draft, name, polygons=convert_args.polygons)
                logger.info("%s", folder / file.relative_to(draft))
        else:
            write_rows(splits, draft, str(data_args.dataset_name))
            logger.info("%s", folder)
    if convert_args.push_to_hub:
        with stage("push"):
            push_rows(folder, convert_args.push_to_hub, private=convert_args.private)


if __name__ == "__main__":
    with as_program():
        main(*make_parser().parse())
