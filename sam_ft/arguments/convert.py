"""Keys of a conversion."""

from dataclasses import dataclass

from .base import arg


@dataclass
class ConvertArguments:
    """What is written, and where."""

    target_dir: str = arg("out/converted", "Folder that is written.")
    output_format: str = arg(
        "coco",
        "coco: annotations/{train,val}_coco.json beside {train,val}_images/; rows: parquet with a data set card, ready for the Hub.",
        choices=["coco", "rows"],
    )
    polygons: bool = arg(False, "coco: masks as polygons where these can say them exactly, instead of RLE.")
    splits: list[str] = arg([], "Splits to convert. Default: all that are there.")
    new_validation_fraction: float | None = arg(
        None, "Put all splits together and draw this share of the images for validation."
    )
    hold_out_phrases: list[str] = arg(
        [],
        "Put all splits together; images that show one of these phrases are validation, and training never asks them.",
    )
    keep_phrases: list[str] = arg([], "Ask these phrases alone; images without any of them are left out.")
    max_rows: int | None = arg(None, "At most so many images of each split.")
    split_seed: int = arg(0, "Another number draws another split.")
    push_to_hub: str | None = arg(None, "rows: also push to this data set, owner/name.")
    private: bool = arg(True, "Whether a pushed data set is private.")
    overwrite: bool = arg(False, "Replace what an earlier conversion wrote to `target_dir`.")

    def __post_init__(self):
        if self.new_validation_fraction is not None and not 0 < self.new_validation_fraction < 1:
            raise ValueError(
                f"`new_validation_fraction` is {self.new_validation_fraction}; it must lie between 0 and 1"
            )
        if self.new_validation_fraction is not None and self.hold_out_phrases:
            raise ValueError("`new_validation_fraction` and `hold_out_phrases` are two ways to split; give one")
        if self.max_rows is not None and self.max_rows < 1:
            raise ValueError(f"`max_rows` is {self.max_rows}; it must be 1 or more")
        if self.polygons and self.output_format != "coco":
            raise ValueError("`polygons` is for `output_format: coco`; rows hold RLE")
        if self.push_to_hub and self.output_format != "rows":
            raise ValueError("`push_to_hub` needs `output_format: rows`")
