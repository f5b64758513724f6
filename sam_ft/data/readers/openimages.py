"""Reader of the instance masks of Open Images: a CSV file of masks, mask images, and a CSV file of class names."""

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ...options.data import ReadOptions
from ...utils.text import short_repr
from ..reading_report import Remark
from ..row_schema import DatasetFormatError
from .files import images_in, split_of_folder, split_of_name
from .images import bare_name, upright_size
from .mask_values import read_mask_file
from .records import Record, Shape, Split


FORM = (
    "train-annotations-object-segmentation.csv, class-descriptions*.csv, masks and images in any folders (Open Images)"
)
_PLACES = ("*.csv", "*/*.csv", "*/*/*.csv")
_MASK_COLUMNS = ("MaskPath", "ImageID", "LabelName")
_LABEL_COLUMNS = ("ImageID", "Source", "LabelName", "Confidence")
_BOX_COLUMNS = ("BoxXMin", "BoxYMin", "BoxXMax", "BoxYMax")


def find(folder: Path) -> dict[str, partial] | None:
    """Return a function that reads each split of a folder of Open Images; `None` for another layout."""
    files = [f for pattern in _PLACES for f in sorted(folder.glob(pattern)) if f.is_file()]
    headers = {file: _header(file) for file in files}
    masks = [f for f, columns in headers.items() if set(_MASK_COLUMNS) <= set(columns)]
    if not masks:
        return None
    labels = [f for f, columns in headers.items() if set(_LABEL_COLUMNS) <= set(columns)]
    splits: dict[str, tuple[list[Path], list[Path]]] = {}
    for kind, chosen in enumerate((masks, labels)):
        for file in chosen:
            split = split_of_name(file.name) or split_of_folder(file, folder)
            splits.setdefault(split, ([], []))[kind].append(file)
    names = [f for f in files if "class" in f.name.lower() and f not in masks and f not in labels]
    return {split: partial(_read, folder, *chosen, names) for split, chosen in splits.items() if chosen[0]}


def _header(file: Path) -> list[str]:
    with file.open(encoding="utf-8-sig", errors="replace") as stream:
        return stream.readline(1000).strip().split(",")


def _rows(file: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict]]:
    """Yield the line number and the values of each row of a CSV file, which may have millions."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            for row in reader:
                missing = [column for column in columns if not row.get(column)]
                if missing or None in row:
                    reason = f"`{missing[0]}` is empty" if missing else "it has more values than columns"
                    raise DatasetFormatError(
                        f"{reason}; download the file again", file=str(file), record=f"line {reader.line_num}"
                    )
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetFormatError(
            f"the CSV file cannot be read ({error}); download it again", file=str(file)
        ) from error


def _read(
    folder: Path, mask_files: list[Path], label_files: list[Path], name_files: list[Path], _options: ReadOptions
) -> Split:
    names, split = _class_names(folder, name_files), Split(str(folder), [], {})
    images, masks = _index_files(folder, split)
    records: dict[str, Record] = {}
    missing = set()
    for file, (number, row) in ((f, pair) for f in mask_files for pair in _rows(f, _MASK_COLUMNS)):
        name = row["ImageID"]
        if name not in images:
            missing.add(name)
            continue
        _add_label(split, row["LabelName"], names, file, number)
        record = records.setdefault(name, Record(name, f"image {name!r}", images[name], [], absent=[]))
        shape = _shape(f"{file.name}, line {number}", row, masks, images[name])
        record.shapes.append(shape)
        record.not_exhaustive |= {shape.label}
    _add_absences(split, records, images, label_files, names)
    split.records = list(records.values())
    if missing:
        split.notes.append(f"{len(missing)} listed images have no file and are left out, such as {min(missing)!r}")
    if not records:
        raise DatasetFormatError(
            f"none of {len(missing)} listed images is below this folder; put them there as ImageID.jpg",
            file=str(folder),
        )
    split.notes.append("Open Images has no mask for some objects: present phrases are not exhaustive")
    split.notes.append("a mask of another size than its image is resized to it, if the aspect ratio is the same")
    return split


def _index_files(folder: Path, split: Split) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return the images by id, and the PNG files, which may be masks, by name."""
    images, masks, repeated = {}, {}, []
    for file in sorted(images_in(folder), key=lambda file: file.suffix.lower() == ".png"):
        is_png = file.suffix.lower() == ".png"
        image = images.setdefault(file.stem, file)
        if (masks.setdefault(file.name, file) if is_png else image) is not file:
            repeated.append(file)
    if repeated:
        split.notes.append(f"{len(repeated)} files have the name of another and are not read, such as {repeated[0]}")
    return images, masks


def _class_names(folder: Path, files: list[Path]) -> dict[str, str]:
    """Return the class name of each label, such as `/m/0k4j`, from files with two columns."""
    names: dict[str, str] = {}
    for file in files:
        try:
            with file.open(encoding="utf-8-sig", newline="") as stream:
                pairs = [row for row in csv.reader(stream, strict=True) if len(row) == 2 and row[1].strip()]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DatasetFormatError(
                f"the CSV file cannot be read ({error}); download it again", file=str(file)
            ) from error
        for label, name in pairs:
            if names.setdefault(label, name.strip()) != name.strip():
                raise DatasetFormatError(
                    f"the label {label!r} is {name.strip()!r}, and {names[label]!r} before it; keep one file of class "
                    "names",
                    file=str(file),
                )
    if not names:
        raise DatasetFormatError(
            "the labels have no names. Put the file `oidv7-class-descriptions.csv` of Open Images into the folder",
            file=str(folder),
        )
    return names


def _add_label(split: Split, label: str, names: dict[str, str], file: Path, number: int) -> None:
    if label not in names:
        raise DatasetFormatError(
            f"the label {short_repr(label)} has no name in the class descriptions; use the file of the same release",
            file=str(file),
            record=f"line {number}",
        )
    split.labels.setdefault(label, names[label])


def _shape(where: str, row: dict, masks: dict[str, Path], image: Path) -> Shape:
    shape, file = Shape(where, row["LabelName"]), masks.get(bare_name(row["MaskPath"]))
    if file is None:
        shape.problem = (
            f"the mask {short_repr(row['MaskPath'])} is missing below the folder; download all mask archives"
        )
        return shape
    shape.mask = partial(_read_mask, file, image)
    if all(row.get(column) for column in _BOX_COLUMNS):
        try:
            x1, y1, x2, y2 = (float(row[column]) for column in _BOX_COLUMNS)
            shape.box, shape.relative_box = [x1, y1, x2 - x1, y2 - y1], True
        except ValueError as error:
            shape.problem = f"its box cannot be read ({error}); download the file again"
    return shape


def _read_mask(file: Path, image: Path) -> np.ndarray:
    """Return the mask of one object, resized to its image; Open Images annotated larger copies of some images."""
    mask = read_mask_file(file)
    width, height, _ = upright_size(image, decode=False)
    if mask.shape == (height, width):
        return mask
    # Each side is rounded to a whole pixel when an image is resized.
    if abs(mask.shape[1] * height - mask.shape[0] * width) > max(width, height, *mask.shape):
        raise ValueError(
            f"the mask {file} is {mask.shape[1]}×{mask.shape[0]} px, its image {width}×{height}, of another aspect "
            "ratio; the image must be that of Open Images, not cropped or rotated"
        )
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


def _add_absences(
    split: Split, records: dict[str, Record], images: dict[str, Path], files: list[Path], names: dict[str, str]
) -> None:
    """Add the labels that people verified as absent, and the images that have only such labels."""
    num_unverified = 0
    for file in files:
        for number, row in _rows(file, _LABEL_COLUMNS):
            name, confidence = row["ImageID"], row["Confidence"]
            if row["Source"] == "machine":
                num_unverified += 1
            elif confidence not in ("0", "1", "0.0", "1.0"):
                raise DatasetFormatError(
                    f"`Confidence` is {short_repr(confidence)}; a verified label has 0 or 1",
                    file=str(file),
                    record=f"line {number}",
                )
            elif float(confidence) == 0 and name in images:
                _add_label(split, row["LabelName"], names, file, number)
                record = records.setdefault(name, Record(name, f"image {name!r}", images[name], [], absent=[]))
                record.absent.append(row["LabelName"])
                if row["LabelName"] in record.not_exhaustive:
                    detail = f"{names[row['LabelName']]!r} is verified absent, but has a mask; the mask is used"
                    split.remarks.append(Remark("label absent and masked", f"{file.name}, line {number}", detail))
    if num_unverified:
        split.notes.append(f"{num_unverified} labels of a machine are not verified and not read")
