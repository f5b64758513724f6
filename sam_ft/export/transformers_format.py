"""Folder for `Sam3Model.from_pretrained`."""

from pathlib import Path

from transformers import Sam3Model

from .checked_export import Export, check_loading_report, write_record
from .output_paths import open_draft


def write_transformers(export: Export, output: Path) -> float:
    """
    Write a folder for `Sam3Model.from_pretrained`, with processor and thresholds.

    Args:
        export (`Export`): Source.
        output (`Path`): Folder.

    Returns:
        `float`: Maximum absolute difference between the outputs of the loaded folder and of the source.
    """
    with open_draft(output) as draft:
        export.model.save_pretrained(draft)
        export.processor.save_pretrained(draft)
        loaded, report = Sam3Model.from_pretrained(draft, output_loading_info=True)
        check_loading_report(report)
        difference = export.check(loaded)
        write_record(draft, "transformers", export, difference)
    return difference
