"""Conversion of a data set to COCO with phrases, or to a data set of rows for the Hub."""

import logging
import shlex
from pathlib import Path

from ..arguments import ConvertArguments, DataArguments
from ..data.loading import find_phrase_splits
from ..data.sources import read_splits
from ..data.splits import all_rows, match_phrases, split_by_image, split_by_phrase, subset
from ..data.writers.coco_files import write_coco
from ..data.writers.conversion import check_target, conversion_target, push_rows, write_rows
from ..utils.console import stage
from ..utils.program_path import find_program
from .key_conversion import list_inputs, to_dataset_options, to_read_options


logger = logging.getLogger("sam_ft.run")


def convert_data(data_args: DataArguments, convert_args: ConvertArguments) -> None:
    """
    Read, split, filter and write a data set.

    Args:
        data_args (`DataArguments`): Data to read.
        convert_args (`ConvertArguments`): Splits, phrases and format to write.

    Raises:
        ValueError: If `splits` contains a split that does not exist, or no row of a split remains.
    """
    folder = Path(convert_args.target_dir)
    check_target(folder, list_inputs(data_args), overwrite=convert_args.overwrite)
    with stage("data"):
        splits = _read(data_args, convert_args)
    splits = _split_and_filter(splits, convert_args)
    target = conversion_target(folder, overwrite=convert_args.overwrite, num_proc=convert_args.num_proc)
    written = []
    with stage("writing"), target as draft:
        if convert_args.output_format == "coco":
            for name, rows in splits.items():
                file = write_coco(
                    rows,
                    draft,
                    name,
                    polygons=convert_args.polygons,
                    splits=tuple(splits),
                    num_proc=convert_args.num_proc,
                )
                written.append(str(file.relative_to(draft)))
        else:
            write_rows(splits, draft, str(data_args.source_name), convert_args.num_proc)
    if convert_args.push_to_hub:
        with stage("push"):
            push_rows(folder, convert_args.push_to_hub, private=convert_args.private)
    logger.info("written to %s: %s", folder, ", ".join(written or splits))
    logger.info("next: %s check --dataset_name %s", find_program(), shlex.quote(str(folder)))


def _read(data_args: DataArguments, convert_args: ConvertArguments) -> dict:
    """Read the chosen splits, by default all, and log their contents."""
    reading = to_read_options(data_args)
    sources, notes = find_phrase_splits(to_dataset_options(data_args), reading)
    names = convert_args.splits or list(sources)
    unknown = [name for name in names if name not in sources]
    if unknown:
        raise ValueError(f"`splits` has no split {unknown[0]!r}. Use one of: {', '.join(sources)}")
    read = read_splits(sources, reading, only=names, num_proc=convert_args.num_proc)
    for line in [*notes, *(line for _, report in read.values() for line in report.lines())]:
        logger.info("%s", line)
    return {name: rows for name, (rows, _) in read.items()}


def _split_and_filter(splits: dict, convert_args: ConvertArguments) -> dict:
    """Divide the rows into new splits and keep the chosen phrases and rows."""
    if convert_args.new_validation_fraction:
        splits = split_by_image(all_rows(splits), convert_args.new_validation_fraction, convert_args.split_seed)
    if convert_args.hold_out_phrases:
        splits = split_by_phrase(all_rows(splits), convert_args.hold_out_phrases)
    phrases = match_phrases(splits, convert_args.keep_phrases, "keep_phrases")
    kept = {name: subset(rows, phrases=phrases or None, limit=convert_args.max_rows) for name, rows in splits.items()}
    for name, rows in kept.items():
        if not len(rows):
            raise ValueError(f"split {name!r} has no rows left after filtering. Check `keep_phrases`")
    return kept
