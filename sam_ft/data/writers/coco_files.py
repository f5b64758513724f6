"""Writer of rows as a COCO data set with phrases."""

import io
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, Image
from PIL import ExifTags
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
from .image_names import SUFFIXES, ImageNames, kept_suffix, source_names, source_paths


SHORT_SPLITS = {"validation": "val"}  # split names of COCO folders
_KEPT_MODES = ("RGB", "L", "RGBA", "P")  # of images whose file is copied


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
    names, paths, labels = list(source_names(rows)), list(source_paths(rows)), _summarize_labels(rows)
    entries, annotations, namer = [], [], _ImageNamer(images)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".images-") as parts:
        writer = _ChunkWriter(rows, labels, names, _first_rows(paths), Path(parts), polygons=polygons)
        with (
            progress_bar(total=len(rows), caption=f"writing {split}") as bar,
            mapped_chunks(writer, len(rows), num_proc) as chunks,
        ):
            for images_of_chunk, annotations_of_chunk in chunks:
                for part, entry in images_of_chunk:
                    index = len(entries)
                    place = namer.place(part, names[index], writer.first_rows[index])
                    entries.append({"id": index + 1, **place, **entry})
                annotations += annotations_of_chunk
                bar.update(len(images_of_chunk))
    files = {name: f"{stem}_coco.json" for name, stem in stems.items()}
    categories = [{"id": number, "name": text, "supercategory": "phrase"} for text, number in labels.ids.items()]
    content = {"info": to_json(ConversionInfo(split, files).to_json()), "images": to_json(entries)}
    content |= {"annotations": f"[{', '.join(annotations)}]", "categories": to_json(categories)}
    text = ", ".join(f'"{name}": {value}' for name, value in content.items())
    return write_text(folder / "annotations" / files[split], f"{{{text}}}")


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


def _first_rows(paths: list[str | None]) -> list[int]:
    """Return the first row with the image file of each row; an embedded image, without a path, is the row's own."""
    first: dict[str, int] = {}
    return [index if path is None else first.setdefault(path, index) for index, path in enumerate(paths)]


def _split_stems(splits: tuple[str, ...]) -> dict[str, str]:
    """Return the beginning of the file names of each split, without characters that a file name may not have."""
    names = ImageNames()
    stems = (re.sub(r"[^\w.-]+", "_", SHORT_SPLITS.get(split, split)) for split in splits)
    return {split: names.assign(stem, "") for split, stem in zip(splits, stems, strict=True)}


@dataclass
class _Part:
    """
    Written image that has no name yet.

    Attributes:
        file (`Path`): The file.
        preferred (`str`): Name that it should have.
        suffix (`str`): Suffix that it must have.
    """

    file: Path
    preferred: str
    suffix: str


class _ChunkWriter:
    """
    Conversion of consecutive rows to images without names and to texts of annotations, in a worker process.

    Args:
        rows (`datasets.Dataset`): All rows.
        labels (`_Labels`): Their phrases.
        names (`list[str | None]`): Name of each image in the source.
        first_rows (`list[int]`): Result of [`_first_rows`].
        folder (`Path`): Folder of the images without names.
        polygons (`bool`): Write masks as polygons if these are exact.
    """

    def __init__(
        self,
        rows: Dataset,
        labels: _Labels,
        names: list[str | None],
        first_rows: list[int],
        folder: Path,
        *,
        polygons: bool,
    ):
        self.rows, self.labels, self.names = rows.cast_column("image", Image(decode=False)), labels, names
        self.first_rows, self.folder, self.polygons = first_rows, folder, polygons

    def __call__(self, indices: range) -> tuple[list[tuple[_Part | None, dict]], list[str]]:
        """Return the image of each row, `None` if an earlier row has it, with its entry, and texts of annotations."""
        images, annotations = [], []
        for index, row in zip(indices, self.rows.select(indices), strict=True):
            part = self._write_image(index, row) if self.first_rows[index] == index else None
            entry = {name: row[name] for name in ("width", "height", "example_id")}
            entry |= {} if self.labels.is_closed else label_completeness(row["phrases"], self.labels.ids)
            images.append((part, entry))
            of_row = list(self._annotations(index, row))
            annotations += [to_json(of_row)[1:-1]] if of_row else []
        return images, annotations

    def _annotations(self, index: int, row: dict) -> Iterator[dict]:
        number = int(self.labels.begins[index])
        for phrase in row["phrases"]:
            for i in phrase["instances"]:
                number += 1
                annotation = _annotation(row, row["instances"][i], polygons=self.polygons)
                annotation |= {"id": number, "image_id": index + 1, "instance": i}
                yield annotation | {"category_id": self.labels.ids[phrase["text"]], "noun_phrase": phrase["text"]}

    def _write_image(self, index: int, row: dict) -> _Part:
        """Write the image of a row: the original bytes if they are upright and 8 bits, otherwise as PNG."""
        value, file = row["image"], self.folder / f"{index}.png"
        content = value["bytes"] or Path(value["path"]).read_bytes()
        preferred = self.names[index] or re.sub(r"[^\w.-]+", "_", row["example_id"]) + ".png"
        with PILImage.open(io.BytesIO(content)) as image:
            is_upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
            is_kept = is_upright and image.mode in _KEPT_MODES and image.format in SUFFIXES
            if is_kept:
                file.write_bytes(content)
            else:
                to_rgb(image).save(file)
            return _Part(file, preferred, kept_suffix(preferred, image) if is_kept else ".png")


class _ImageNamer:
    """
    Assignment of names to the images of one split, in the order of its rows.

    Args:
        folder (`Path`): Folder of the images.
    """

    def __init__(self, folder: Path):
        self.folder, self.names = folder, ImageNames()
        self._folders: set[str] = set()
        self._places: dict[int, dict[str, str]] = {}  # by row: rows may share an image file

    def place(self, part: _Part | None, name: str | None, row: int) -> dict[str, str]:
        """
        Give an image its name.

        Args:
            part (`_Part`, *optional*): The image; `None` if it has its name already.
            name (`str`, *optional*): Its name in the source.
            row (`int`): First row that has the image.

        Returns:
            `dict[str, str]`: `file_name`, and `original_file_name` if it differs.
        """
        if part is not None:
            file_name = self.names.assign(part.preferred, part.suffix)
            parent = os.path.dirname(file_name)
            if parent not in self._folders:
                (self.folder / parent).mkdir(parents=True, exist_ok=True)
                self._folders.add(parent)
            os.replace(part.file, self.folder / file_name)
            renamed = {} if name in (None, file_name) else {"original_file_name": to_printable(name)}
            self._places[row] = {"file_name": file_name, **renamed}
        return self._places[row]


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
