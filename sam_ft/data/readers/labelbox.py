"""Reader of exports of Labelbox: a file with one JSON object for each image (NDJSON, or a JSON list of them)."""

import contextlib
from collections import Counter
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ...options.data import ReadOptions
from ...utils.text import short_repr
from ..reading_report import Remark
from ..row_schema import DatasetFormatError
from .files import folder_of_file, split_of_folder, split_of_name
from .images import ImageError, bare_name, count_bare_names, file_name_text, find_image
from .json_files import DuplicateKeyError, parse_json, read_json
from .outlines import flatten_points
from .records import Record, Shape, Split
from .supervisely import UNREAD_KIND


FORM = "NAME.ndjson of `data_row` and `projects`, images beside it or in images/ (Labelbox export v2)"
_SUFFIXES = (".ndjson", ".jsonl", ".json")
_POINT_KINDS = ("point", "line")


def find(folder: Path) -> dict[str, partial] | None:
    """Return a function that reads each split of a folder of Labelbox exports; `None` for another layout."""
    candidates = (f for f in (*folder.glob("*"), *folder.glob("*/*")) if f.suffix in _SUFFIXES)
    files = [file for file in sorted(candidates) if _is_labelbox(file)]
    if not files:
        return None
    splits: dict[str, list[Path]] = {}
    for file in files:
        splits.setdefault(split_of_name(file.stem) or split_of_folder(file, folder), []).append(file)
    return {split: partial(_read, folder, chosen) for split, chosen in splits.items()}


def find_file(file: Path) -> dict[str, partial] | None:
    """Return a function that reads a Labelbox export as training data; `None` for another file."""
    is_export = file.suffix in _SUFFIXES and _is_labelbox(file)
    return {"train": partial(_read, folder_of_file(file), [file])} if is_export else None


def _is_labelbox(file: Path) -> bool:
    if file.name.startswith(".") or not file.is_file():
        return False
    with file.open(encoding="utf-8", errors="replace") as stream:
        return '"data_row"' in stream.read(4000)


def _entries(file: Path) -> list[tuple[str, object]]:
    """Return pairs of a name for messages and the content of each image."""
    if file.suffix == ".json":
        content = read_json(file, "Labelbox")
        entries = content if isinstance(content, list) else [content]
        return [(f"entry {number}", entry) for number, entry in enumerate(entries)]
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetFormatError(
            f"the file cannot be read as UTF-8 text ({error}); export the project again", file=str(file)
        ) from error
    return [(f"line {number}", _parse(file, number, line)) for number, line in enumerate(lines, 1) if line.strip()]


def _parse(file: Path, number: int, line: str):
    try:
        return parse_json(line)
    except (DuplicateKeyError, RecursionError) as error:
        reason = str(error) or "it is nested too deeply"
    except ValueError as error:
        reason = f"it is not JSON ({error})"
    raise DatasetFormatError(f"{reason}; export the project again", file=str(file), record=f"line {number}")


def _read(folder: Path, files: list[Path], _options: ReadOptions) -> Split:
    split, labels = Split(str(folder if len(files) > 1 else files[0]), [], {}, has_inferred_labels=True), set()
    num_classified = num_unlabelled = 0
    for file in files:
        entries = _entries(file)
        name_counts = count_bare_names(name for _, entry in entries for name in _image_names(entry)[:1])
        for where, entry in entries:
            record, annotations = _record(file, folder, where, entry, name_counts)
            if annotations is None:
                num_unlabelled += 1
                continue
            num_classified += bool(annotations.get("classifications"))
            if not callable(record.shapes):
                objects = enumerate(annotations["objects"])
                record.shapes = [_shape(record.where, i, item, split) for i, item in objects]
                labels |= {shape.label for shape in record.shapes if shape.label is not None}
            split.records.append(record)
    split.labels = {label: label for label in sorted(labels)}
    if num_unlabelled:
        split.notes.append(f"{num_unlabelled} images have no label in any project and are left out")
    if num_classified:
        split.notes.append(f"{num_classified} images have classifications, which are facts of the image and not read")
    return split


def _image_names(entry) -> list[str]:
    """Return the names that the file of an image may have: its external id, and the name in its URL."""
    row = entry.get("data_row") if isinstance(entry, dict) else None
    row = row if isinstance(row, dict) else {}
    names = [file_name_text(row["external_id"])] if row.get("external_id") else []
    if isinstance(row.get("row_data"), str):
        with contextlib.suppress(ValueError):  # The URL is damaged; the external id is enough.
            names.append(bare_name(unquote(urlsplit(row["row_data"]).path)))
    return [name for name in names if name]


def _record(file: Path, folder: Path, where: str, entry, name_counts: Counter) -> tuple[Record, dict | None]:
    """Return the record of an image without shapes, and its annotations, `None` if it is not labelled."""
    if not isinstance(entry, dict) or not isinstance(entry.get("data_row"), dict):
        raise DatasetFormatError(
            f"expected an object with `data_row`, found {short_repr(entry)}; export the project again",
            file=str(file),
            record=where,
        )
    names, media = _image_names(entry), entry.get("media_attributes")
    folders = [file.parent, file.parent / "images", folder / "images", folder]
    size = (media.get("width"), media.get("height")) if isinstance(media, dict) else (None, None)
    name = names[0] if names else file_name_text(entry["data_row"].get("id"))
    image = _find_image(names, folders, name_counts)
    record = Record(name, f"{file.name}, {where}, image {short_repr(name)}", image, [], size)
    annotations, problem = _annotations(entry.get("projects"))
    if problem is not None:
        record.shapes = partial(_raise, problem)
    return record, annotations


def _find_image(names: list[str], folders: list[Path], name_counts: Counter) -> Path | ImageError:
    for name in names:
        try:
            return find_image(name, folders, by_bare_name=name_counts[bare_name(name)] <= 1)
        except ImageError:
            continue
    listing, searched = " or ".join(map(short_repr, names)), ", ".join(str(folder) for folder in folders)
    return ImageError(
        f"the image {listing or 'without `external_id`'} is missing (searched {searched}). "
        "Download the images of the project from their `row_data` links into images/; nothing is downloaded here"
    )


def _raise(message: str):
    raise ValueError(message)


def _annotations(projects) -> tuple[dict | None, str | None]:
    """Return the annotations of the only label of an image, `None` without a label, and why they cannot be used."""
    entries = list(projects.values()) if isinstance(projects, dict) else [projects]
    if not all(isinstance(entry, dict) and isinstance(entry.get("labels"), list) for entry in entries):
        return {}, f"`projects` is {short_repr(projects)}; expected the `labels` of each project; export it again"
    labels = [label for entry in entries for label in entry["labels"]]
    if not labels:
        return None, None
    if len(labels) > 1:
        return {}, (
            f"the image has {len(labels)} labels, of several annotators or projects; only one is read. Export one "
            "project with its consensus or benchmark label only"
        )
    annotations = labels[0].get("annotations") if isinstance(labels[0], dict) else None
    if not isinstance(annotations, dict) or not isinstance(annotations.get("objects"), list):
        return {}, f"`annotations` is {short_repr(annotations)}; expected `objects` and `classifications`"
    if annotations.get("frames") or annotations.get("segments"):
        return {}, "the label is one of a video; export its frames as images"
    return annotations, None


def _shape(record: str, number: int, entry, split: Split) -> Shape:
    where = f"objects[{number}]"
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name.strip():
        return Shape(where, problem=f"`name` is {short_repr(name)}; expected a class name")
    shape = Shape(where, name, attributes=_attributes(entry.get("classifications")))
    try:
        if entry.get("polygon") is not None:
            shape.polygons = [flatten_points(entry["polygon"])]
        elif entry.get("bounding_box") is not None:
            shape.box = [float(entry["bounding_box"][side]) for side in ("left", "top", "width", "height")]
        elif entry.get("mask") is not None or entry.get("composite_mask") is not None:
            detail = (
                "its pixels are behind a URL, which is never opened; its class is present without a mask. Export "
                "polygons, or masks as COCO"
            )
            split.remarks.append(Remark("mask behind a URL", f"{record}, {where}", detail))
        elif not any(kind in entry for kind in _POINT_KINDS):
            kind = entry.get("annotation_kind")
            detail = f"`annotation_kind` is {short_repr(kind)}; polygons and boxes are read"
            split.remarks.append(Remark(UNREAD_KIND, f"{record}, {where}", detail))
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        reason = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else error
        shape.problem = f"its geometry cannot be read ({reason}); export the project again"
    return shape


def _attributes(classifications) -> dict[str, str]:
    """Return the classifications of an object with a single answer as attributes."""
    result = {}
    for entry in classifications if isinstance(classifications, list) else []:
        name = entry.get("name") if isinstance(entry, dict) else None
        answer = entry.get("radio_answer") if isinstance(entry, dict) else None
        if isinstance(name, str) and isinstance(answer, dict) and isinstance(answer.get("name"), str):
            result[name] = answer["name"]
    return result
