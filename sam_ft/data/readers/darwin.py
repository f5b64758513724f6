"""Reader of Darwin JSON 2.0 (V7): one JSON file of annotations for each image."""

from functools import partial, reduce
from itertools import chain
from pathlib import Path

import numpy as np

from ...options.data import ReadOptions
from ...utils.text import short_repr
from ..reading_report import Remark
from ..row_schema import DatasetFormatError
from .files import example_id_of, group_by_split
from .images import ImageError, file_name_text, find_image
from .json_files import read_json
from .outlines import draw_polygons, flatten_points
from .records import Record, Shape, Split
from .supervisely import UNREAD_KIND


FORM = "NAME.json with `item` and `annotations`, images beside them or in images/ (Darwin 2.0 of V7)"
_PLACES = ("*.json", "*/*.json", "releases/*/annotations/*.json", "releases/*/annotations/*/*.json")
_POINT_KINDS = ("line", "keypoint", "skeleton")
_NO_KINDS = ("tag", "raster_layer")  # facts of the image, and the pixels of all masks


def find(folder: Path) -> dict[str, partial] | None:
    """Return a function that reads each split of a folder of Darwin files; `None` for another layout."""
    candidates = chain.from_iterable(sorted(folder.glob(pattern))[:3] for pattern in _PLACES)
    if not any(_is_darwin(file) for file in candidates):
        return None
    files = [
        f for f in sorted(folder.rglob("*.json")) if not any(p.startswith(".") for p in f.relative_to(folder).parts)
    ]
    files = _of_one_release(folder, files)
    return {split: partial(_read, folder, chosen) for split, chosen in group_by_split(files, folder).items()}


def _is_darwin(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open(encoding="utf-8", errors="replace") as stream:
        start = stream.read(4000)
    return '"item"' in start and ('"slots"' in start or "darwin_json" in start)


def _of_one_release(folder: Path, files: list[Path]) -> list[Path]:
    """Return the files of `releases/latest` or of the only release: several releases repeat the same images."""
    releases = sorted({f.relative_to(folder).parts[1] for f in files if f.relative_to(folder).parts[0] == "releases"})
    if not releases:
        return files
    if "latest" not in releases and len(releases) > 1:
        raise DatasetFormatError(
            f"there are the releases {', '.join(releases)}; keep one, or name it `latest`",
            file=str(folder / "releases"),
        )
    release = "latest" if "latest" in releases else releases[0]
    return [f for f in files if f.relative_to(folder).parts[:2] == ("releases", release)]


def _read(folder: Path, files: list[Path], _options: ReadOptions) -> Split:
    split, labels, num_tags = Split(str(folder), [], {}, has_inferred_labels=True), set(), 0
    for file in files:
        content = read_json(file, "Darwin")
        if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
            raise DatasetFormatError(
                "a Darwin file contains `item` and a list `annotations`, which are missing here; move the file away, "
                "or export it as Darwin JSON 2.0",
                file=str(file),
            )
        record, entries = _record(folder, file, content), content["annotations"]
        num_tags += sum(isinstance(entry, dict) and "tag" in entry for entry in entries)
        if not callable(record.shapes):
            record.shapes = _shapes(file, entries, record.size, split)
            labels |= {shape.label for shape in record.shapes if shape.label is not None}
        split.records.append(record)
    split.labels = {label: label for label in sorted(labels)}
    if num_tags:
        split.notes.append(f"{num_tags} annotations are tags, which are facts of the image and not read as phrases")
    return split


def _record(folder: Path, file: Path, content: dict) -> Record:
    """Return the record of a file without shapes; a function that raises an error if it is not one image."""
    item = content.get("item") if isinstance(content.get("item"), dict) else {}
    slots = item.get("slots")
    slot = slots[0] if isinstance(slots, list) and slots and isinstance(slots[0], dict) else {}
    name, path = file_name_text(item.get("name") or ""), file_name_text(item.get("path") or "").strip("/\\")
    try:
        folders = [file.parent, file.parent / "images", folder / "images", folder]
        image = find_image(f"{path}/{name}" if path else name, folders)
    except ImageError as error:
        image = error
    record = Record(example_id_of(file, folder), str(file), image, [], (slot.get("width"), slot.get("height")))
    is_image = slot.get("type", "image") == "image"
    has_frames = any(isinstance(entry, dict) and "frames" in entry for entry in content["annotations"])
    if not isinstance(slots, list) or len(slots) != 1 or not is_image or has_frames:
        kind = f"{len(slots)} slots" if isinstance(slots, list) and len(slots) != 1 else short_repr(slot.get("type"))
        message = (
            f"`item.slots` contains {'frames of a video' if has_frames else kind}; one image is read. Export the "
            "images of this item as items of their own, as Darwin JSON 2.0"
        )
        record.shapes = partial(_raise, message)
    return record


def _raise(message: str):
    raise ValueError(message)


def _shapes(file: Path, entries: list, size: tuple, split: Split) -> list[Shape]:
    layers = [entry["raster_layer"] for entry in entries if isinstance(entry, dict) and "raster_layer" in entry]
    shapes, mapped = [], {}
    for number, entry in enumerate(entries):
        kinds = [kind for kind in entry if kind in _NO_KINDS] if isinstance(entry, dict) else []
        if kinds:
            continue
        where = f"annotations[{number}]"
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name.strip():
            shapes.append(Shape(where, problem=f"`name` is {short_repr(name)}; expected a class name"))
            continue
        shape = Shape(where, name, attributes=_attributes(entry))
        try:
            is_read = _set_geometry(shape, entry, layers, size, mapped)
        except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
            reason = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else error
            shape.problem, is_read = f"its geometry cannot be read ({reason}); export the image again", True
        if not is_read and not any(kind in entry for kind in _POINT_KINDS):
            detail = f"its keys are {', '.join(map(str, entry))}; polygons, masks and boxes are read"
            split.remarks.append(Remark(UNREAD_KIND, f"{file}, {where}", short_repr(detail)))
        shapes.append(shape)
    return shapes + _check_layers(layers, mapped)


def _check_layers(layers: list, mapped: dict) -> list[Shape]:
    """Return a shape with a problem for pixels of a raster layer that no annotation has."""
    problem = None
    if len(layers) > 1:
        problem = f"the image has {len(layers)} raster layers; expected one"
    elif layers:
        try:
            unknown = sorted({*layers[0]["dense_rle"][::2]} - {0, *mapped})
            problem = f"the raster layer contains {short_repr(unknown[0])}, which no mask has" if unknown else None
        except (KeyError, TypeError) as error:
            problem = f"`dense_rle` of the raster layer cannot be read ({type(error).__name__}: {error})"
    return [Shape("raster layer", problem=f"{problem}; export the image again")] if problem else []


def _attributes(entry: dict) -> dict[str, str]:
    """Return the attributes of an annotation, each its own value, and its properties with a single value."""
    attributes, properties = entry.get("attributes"), entry.get("properties")
    result = {str(name): str(name) for name in attributes} if isinstance(attributes, list) else {}
    for value in properties if isinstance(properties, list) else []:
        if isinstance(value, dict) and isinstance(value.get("name"), str) and isinstance(value.get("value"), str):
            result[value["name"]] = value["value"]
    return result


def _set_geometry(shape: Shape, entry: dict, layers: list, size: tuple, mapped: dict) -> bool:
    """Set the geometry of a shape; return whether the annotation has one that is read."""
    box = entry.get("bounding_box")
    if box is not None:
        shape.box = [float(box[name]) for name in ("x", "y", "w", "h")]
    if "polygon" in entry:
        polygon = entry["polygon"]
        paths = polygon["paths"] if "paths" in polygon else [polygon["path"], *polygon.get("additional_paths", [])]
        parts = [flatten_points(path) for path in paths]
        if len(parts) == 1:
            shape.polygons = parts
        else:
            shape.mask = partial(_draw_even_odd, parts, size)
    elif "mask" in entry:
        if len(layers) != 1:
            raise ValueError("its pixels are in no raster layer")
        number = layers[0]["mask_annotation_ids_mapping"][entry["id"]]
        if number in mapped:
            raise ValueError(f"its number {short_repr(number)} of the raster layer belongs to another mask")
        mapped[number] = entry["id"]
        shape.mask = partial(_decode_layer, layers[0]["dense_rle"], number, size)
    return shape.box is not None or shape.polygons is not None or shape.mask is not None


def _draw_even_odd(parts: list, size: tuple) -> np.ndarray:
    """Return the mask of all paths of a polygon, filled by the even-odd rule as in V7: holes are paths too."""
    width, height = (int(side) for side in size)
    return reduce(np.logical_xor, (draw_polygons([part], width, height) for part in parts))


def _decode_layer(dense_rle: list, number, size: tuple) -> np.ndarray:
    """Return the mask of one number of a raster layer: pairs of number and run length, row by row."""
    width, height = (int(side) for side in size)
    numbers, runs = dense_rle[::2], dense_rle[1::2]
    if len(numbers) != len(runs) or not all(isinstance(run, int) and run >= 0 for run in runs):
        raise ValueError("`dense_rle` of the raster layer is damaged; expected pairs of a number and a run length")
    if sum(runs) != width * height:
        raise ValueError(f"`dense_rle` of the raster layer has {sum(runs)} pixels, its image {width}×{height}")
    return np.repeat(np.array([value == number for value in numbers], dtype=bool), runs).reshape(height, width)
