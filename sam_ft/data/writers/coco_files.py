"""Writer of rows as a COCO data set with phrases."""

import io
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, Image
from PIL import Image as PILImage

from ...ops.masks import decode_mask
from ...ops.outline import mask_to_polygons
from ...utils.console import progress_bar
from ...utils.files import write_text
from ...utils.json_files import to_json
from ...utils.parallel import mapped_chunks
from ..conversion_info import ConversionInfo
from ..row_schema import to_rgb
from ..safe_text import to_printable
from .image_names import ImageFile, ImageNames, name_images


SHORT_SPLITS = {"validation": "val"}  # split names of COCO folders


def write_coco(
    rows: Dataset,
    folder: str | Path,
    split: str,
    *,
    polygons: bool = False,
    splits: tuple[str, ...] | None = None,
    num_proc: int | None = None,
) -> Path:
    """
    Write one split as COCO: `annotations/SPLIT_coco.json` and `SPLIT_images/`.

    Categories are the phrases, and the file is marked so that its readers do not change them. An instance of several
    phrases has an annotation for each, with its number as `instance`. Images have the names and sub-folders of the
    source; `original_file_name` is that of an image whose name had to change. If the rows do not label every phrase of
    the split exhaustively, each image also has the fields `neg_category_ids` and `not_exhaustive_category_ids` of
    LVIS. Reading the files gives the same rows.

    Args:
        rows (`datasets.Dataset`): Rows as in `row_schema.py`.
        folder (`str` or `Path`): Folder of the data set.
        split (`str`): Name of the split.
        polygons (`bool`): Write masks as polygons if these are exact; RLE otherwise. Default: `False`.
        splits (`tuple[str, ...]`, *optional*): All splits of the conversion; only this one by default.
        num_proc (`int`, *optional*): Number of processes, see [`mapped_chunks`].

    Returns:
        `Path`: The annotation file, which is written last.
    """
    stems = _split_stems(splits or (split,))
    folder, images = Path(folder), Path(folder) / f"{stems[split]}_images"
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    images.mkdir(exist_ok=True)
    files, labels = name_images(rows, num_proc), _summarize_labels(rows)
    for parent in {os.path.dirname(file.name) for file in files}:
        (images / parent).mkdir(parents=True, exist_ok=True)
    entries, annotations = [], []
    with (
        progress_bar(total=len(rows), caption=f"writing {split}") as bar,
        mapped_chunks(_ChunkWriter(rows, labels, files, images, polygons=polygons), len(rows), num_proc) as chunks,
    ):
        for number, entries_of_chunk, annotations_of_chunk in chunks:
            entries.append(entries_of_chunk)
            annotations += annotations_of_chunk
            bar.update(number)
    names = {name: f"{stem}_coco.json" for name, stem in stems.items()}
    categories = [{"id": number, "name": text, "supercategory": "phrase"} for text, number in labels.ids.items()]
    content = {"info": to_json(ConversionInfo(split, names).to_json()), "images": f"[{', '.join(entries)}]"}
    content |= {"annotations": f"[{', '.join(annotations)}]", "categories": to_json(categories)}
    text = ", ".join(f'"{name}": {value}' for name, value in content.items())
    return write_text(folder / "annotations" / names[split], f"{{{text}}}")


@dataclass
class _Labels:
    """
    Phrases of a split.

    Attributes:
        ids (`dict[str, int]`): Category id of each phrase.
        is_closed (`bool`): Whether every row labels every phrase exhaustively.
        begins (`np.ndarray` of shape `(rows,)`): Number of annotations of all rows before each row.
    """

    ids: dict[str, int]
    is_closed: bool
    begins: np.ndarray


def _summarize_labels(rows: Dataset) -> _Labels:
    """Number the phrases of a split and the annotations of its rows."""
    of_rows = rows.select_columns("phrases").with_format("arrow")[:]["phrases"].combine_chunks()
    phrases = of_rows.flatten()
    texts = sorted(pc.unique(pc.struct_field(phrases, "text")).to_pylist())
    numbers = pc.list_value_length(of_rows).to_numpy(zero_copy_only=False)
    is_exhaustive = bool(pc.struct_field(phrases, "exhaustive").to_numpy(zero_copy_only=False).all())
    is_closed = is_exhaustive and bool((numbers == len(texts)).all())
    # Number of annotations before each phrase; those of the first phrases of the rows are the result.
    before = np.cumsum([0, *pc.list_value_length(pc.struct_field(phrases, "instances")).to_pylist()])
    begins = before[np.cumsum(numbers) - numbers]
    return _Labels({text: number for number, text in enumerate(texts, 1)}, is_closed, begins)


def _split_stems(splits: tuple[str, ...]) -> dict[str, str]:
    """Return the beginning of the file names of each split, without characters that a file name may not have."""
    names = ImageNames()
    stems = (re.sub(r"[^\w.-]+", "_", SHORT_SPLITS.get(split, split)) for split in splits)
    return {split: names.assign(stem, "") for split, stem in zip(splits, stems, strict=True)}


class _ChunkWriter:
    """
    Writer of the images of consecutive rows, and of texts of their entries, in a worker process.

    Args:
        rows (`datasets.Dataset`): All rows.
        labels (`_Labels`): Their phrases.
        files (`list[ImageFile]`): Result of [`name_images`].
        folder (`Path`): Folder of the images.
        polygons (`bool`): Write masks as polygons if these are exact.
    """

    def __init__(self, rows: Dataset, labels: _Labels, files: list[ImageFile], folder: Path, *, polygons: bool):
        self.rows, self.labels, self.files = rows.cast_column("image", Image(decode=False)), labels, files
        self.folder, self.polygons = folder, polygons

    def __call__(self, indices: range) -> tuple[int, str, list[str]]:
        """Write the images of rows; return their number, the text of their entries, and texts of annotations."""
        entries, annotations = [], []
        for index, row in zip(indices, self.rows.select(indices), strict=True):
            file = self.files[index]
            if file.first_row == index:
                _write_image(row["image"], self.folder / file.name, is_kept=file.is_kept)
            entry = {"id": index + 1, "file_name": file.name}
            if file.source_name not in (None, file.name):
                entry["original_file_name"] = to_printable(file.source_name)
            entry |= {name: row[name] for name in ("width", "height", "example_id")}
            entry |= {} if self.labels.is_closed else label_completeness(row["phrases"], self.labels.ids)
            entries.append(entry)
            of_row = list(self._annotations(index, row))
            annotations += [to_json(of_row)[1:-1]] if of_row else []
        return len(entries), to_json(entries)[1:-1], annotations

    def _annotations(self, index: int, row: dict) -> Iterator[dict]:
        number = int(self.labels.begins[index])
        for phrase in row["phrases"]:
            for i in phrase["instances"]:
                number += 1
                annotation = _annotation(row, row["instances"][i], polygons=self.polygons)
                annotation |= {"id": number, "image_id": index + 1, "instance": i}
                yield annotation | {"category_id": self.labels.ids[phrase["text"]], "noun_phrase": phrase["text"]}


def _write_image(value: dict, file: Path, *, is_kept: bool) -> None:
    """Write an undecoded image `{"bytes", "path"}`: its bytes, or converted to PNG."""
    if not is_kept:
        with PILImage.open(io.BytesIO(value["bytes"]) if value["bytes"] else value["path"]) as image:
            to_rgb(image).save(file)
    elif value["bytes"]:
        file.write_bytes(value["bytes"])
    else:
        shutil.copyfile(value["path"], file)


def label_completeness(phrases: list[dict], ids: dict[str, int]) -> dict[str, list[int]]:
    """
    Return the fields of LVIS for the absent phrases and for those that are not exhaustive.

    Args:
        phrases (`list[dict]`): Phrases of a row.
        ids (`dict[str, int]`): Category id of each phrase.
    """
    return {
        "neg_category_ids": [ids[p["text"]] for p in phrases if not p["instances"] and p["exhaustive"]],
        "not_exhaustive_category_ids": [ids[p["text"]] for p in phrases if not p["exhaustive"]],
    }


def _annotation(row: dict, instance: dict, *, polygons: bool) -> dict:
    counts, outlines = instance["segmentation"], None
    if counts is not None and polygons and not instance["is_crowd"]:
        outlines = mask_to_polygons(decode_mask(counts, row["height"], row["width"]))
    segmentation = [] if counts is None else {"size": [row["height"], row["width"]], "counts": counts}
    return {
        "segmentation": outlines or segmentation,
        "bbox": instance["bbox"],
        "area": instance["area"],
        "iscrowd": int(instance["is_crowd"]),
    }
