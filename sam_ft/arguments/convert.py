"""Keys of the data set conversion."""

from dataclasses import dataclass
from typing import ClassVar

from ..options.keys import key
from .base import Keys


@dataclass
class ConvertArguments(Keys):
    """Output format, splits and Hub upload of a data set conversion."""

    key_topic: ClassVar[str] = "Conversion"

    target_dir: str = key("out/converted", "Output folder of the converted data set.")
    output_format: str = key(
        "coco",
        "Output format. coco: annotations/{train,val}_coco.json and the images in {train,val}_images/; rows: parquet "
        "files with a data set card, which can be pushed to the Hub.",
        choices=("coco", "rows"),
    )
    polygons: bool = key(
        False, "With `output_format: coco`, write a mask as polygons if they reproduce it exactly, instead of RLE."
    )
    splits: list[str] = key([], "Splits to convert. Default: all splits of the data set.")
    new_validation_fraction: float | None = key(
        None,
        "Merge all splits and draw this fraction of the images, between 0 and 1, as the new validation split.",
        above=0,
        below=1,
    )
    hold_out_phrases: list[str] = key(
        [],
        "Merge all splits and use the images that contain one of these phrases for validation; training neither shows "
        "nor prompts these phrases.",
    )
    keep_phrases: list[str] = key(
        [], "Convert these phrases alone; images without any of them are left out. Default: all phrases."
    )
    max_rows: int | None = key(None, "Maximum number of images per split, at least 1. Default: all.", low=1)
    split_seed: int = key(0, "Random seed of the new validation split.")
    push_to_hub: str | None = key(
        None, "With `output_format: rows`, also push the result to this Hub data set, given as owner/name."
    )
    private: bool = key(True, "Create the Hub data set as private.")
    num_proc: int | None = key(
        None,
        "Number of processes, at least 1, which does not change the result. Default: one for each usable core.",
        low=1,
    )
    overwrite: bool = key(False, "Replace the files that an earlier conversion wrote to `target_dir`.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.new_validation_fraction is not None and self.hold_out_phrases:
            raise ValueError(
                "`new_validation_fraction` and `hold_out_phrases` both define the validation split. Set one of them"
            )
        if self.polygons and self.output_format != "coco":
            raise ValueError(
                f"`polygons` is true, but `output_format: {self.output_format}` stores masks as RLE. "
                "`polygons` is for `output_format: coco`"
            )
        if self.push_to_hub and self.output_format != "rows":
            raise ValueError("`push_to_hub` needs `output_format: rows`")
