"""Reader of COCO panoptic: a JSON file of segments, and a PNG for each image whose colors are segment ids."""

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ...options.data import ReadOptions
from ...utils.text import list_some, short_repr
from ..row_schema import DatasetFormatError
from .coco_tree import image_folders_of
from .files import folder_of_file, split_of_name
from .image_roots import ImageRoots
from .images import IMAGE_ERRORS, ImageError, count_bare_names, file_name_text, find_image, find_image_or_error
from .json_files import read_json
from .records import Record, Shape, Split


FORM = (
    "annotations/panoptic_train2017.json with annotations/panoptic_train2017/*.png, beside train2017/ (COCO panoptic)"
)
_VOID = 0  # segment id of pixels without a label


def find(folder: Path) -> dict[str, partial] | None:
    """Return a function that reads each split of a folder of panoptic files; `None` for another layout."""
    files = [f for f in sorted([*folder.glob("annotations/*.json"), *folder.glob("*.json")]) if is_panoptic(f)]
    splits: dict[str, list[Path]] = {}
    for file in files:
        splits.setdefault(split_of_name(file.stem) or "train", []).append(file)
    return {split: partial(_read, folder, split, chosen) for split, chosen in splits.items()} or None


def find_file(file: Path) -> dict[str, partial] | None:
    """Return a function that reads a panoptic file as training data; `None` for another file."""
    split = split_of_name(file.stem) or "train"
    return {"train": partial(_read, folder_of_file(file), split, [file])} if is_panoptic(file) else None


def is_panoptic(file: Path) -> bool:
    """Return whether a file has the name of a COCO panoptic file, `panoptic_*.json`."""
    return file.name.startswith("panoptic_") and file.suffix == ".json" and file.is_file()


def _read(folder: Path, split: str, files: list[Path], options: ReadOptions) -> Split:
    return _PanopticReader(folder, split, files, options).split


class _PanopticReader:
    """Conversion of a panoptic file to a `Split`."""

    def __init__(self, folder: Path, split: str, files: list[Path], options: ReadOptions):
        self.file = files[0]
        self.split = Split(str(self.file), [], {})
        if len(files) > 1:
            self.split.notes.append(f"other panoptic files of the split are not read: {list_some(files[1:])}")
        content = read_json(self.file, "COCO panoptic")
        for key in ("images", "annotations", "categories"):
            entries = content.get(key) if isinstance(content, dict) else None
            if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
                self._refuse(f"`{key}` is {short_repr(entries)}; a panoptic file contains a list of objects")
        self.roots = ImageRoots([] if options.allow_outside_images else [folder])
        self.stuff = self._read_categories(content["categories"])
        image_folders = image_folders_of(folder, self.file, split)
        png_folders = (self.file.with_suffix(""), folder / self.file.stem)
        self.png_folders = [place for place in dict.fromkeys(png_folders) if place.is_dir()]
        annotations = self._by_image(content["annotations"], content["images"])
        names = count_bare_names(file_name_text(image.get("file_name")) for image in content["images"])
        for image in content["images"]:
            if image["id"] in annotations:
                self._add(image, annotations[image["id"]], image_folders, names)
        if len(annotations) < len(content["images"]):
            number = len(content["images"]) - len(annotations)
            self.split.notes.append(f"{number} images have no entry in `annotations` and are left out")

    def _refuse(self, message: str, record: str | None = None):
        raise DatasetFormatError(message, file=str(self.file), record=record)

    def _read_categories(self, categories: list[dict]) -> set[int]:
        """Set the labels, and return the ids of classes that are stuff."""
        stuff = {}
        for category in categories:
            number, name, is_thing = category.get("id"), category.get("name"), category.get("isthing", 1)
            if not isinstance(number, int) or not isinstance(name, str) or not name.strip() or is_thing not in (0, 1):
                self._refuse(
                    f"a category needs a number `id`, a text `name` and `isthing` 0 or 1, found {short_repr(category)}"
                )
            if number in self.split.labels or number in stuff:
                self._refuse(f"the category id {number} occurs more than once; ids must be unique")
            (self.split.labels if is_thing else stuff)[number] = name
        if not self.split.labels:
            self._refuse(
                "`categories` has no thing: only classes with `isthing: 1` have objects. Set it for the classes to "
                "train"
            )
        if any("isthing" not in category for category in categories):
            self.split.notes.append("categories without `isthing` are read as things")
        if stuff:
            names = list_some(stuff.values(), 5)
            self.split.notes.append(f"stuff has no objects, so {len(stuff)} classes are left out: {names}")
        return set(stuff)

    def _by_image(self, annotations: list[dict], images: list[dict]) -> dict[int, dict]:
        """Return the annotation of each image id."""
        for kind, entries, key in (("image", images, "id"), ("annotation", annotations, "image_id")):
            ids = [entry.get(key) for entry in entries]
            if not all(isinstance(i, int | str) for i in ids):
                self._refuse(f"`{key}` of an {kind} is missing or is no number; export the annotations again")
            repeated = [i for i, number in Counter(ids).items() if number > 1]
            if repeated:
                self._refuse(f"`{key}` {short_repr(repeated[0])} occurs in several entries of {kind}s; keep one")
        result = {annotation["image_id"]: annotation for annotation in annotations}
        unknown = result.keys() - {image["id"] for image in images}
        if unknown:
            self._refuse(f"annotations refer to images that are not listed: {list_some(sorted(map(repr, unknown)))}")
        return result

    def _add(self, image: dict, annotation: dict, folders: list[Path], names: Counter):
        name = file_name_text(image.get("file_name"))
        where = f"image id {image['id']} ({name})"
        if not isinstance(annotation.get("segments_info"), list):
            self._refuse(
                f"`segments_info` is {short_repr(annotation.get('segments_info'))}; expected a list of segments", where
            )
        path = find_image_or_error(name, folders, names)
        size = (image.get("width"), image.get("height"))
        self.split.records.append(Record(str(image["id"]), where, path, partial(self._shapes, annotation, size), size))

    def _shapes(self, annotation: dict, size: tuple) -> list[Shape]:
        ids = self._read_ids(annotation, size)
        used = set(np.unique(ids).tolist()) - {_VOID}
        shapes, listed = [], set()
        for number, segment in enumerate(annotation["segments_info"]):
            shape = self._shape(number, segment, ids, used, listed)
            if shape is not None:
                shapes.append(shape)
        if used - listed:  # Their class is unknown.
            names = list_some(sorted(used - listed))
            problem = f"its PNG has segments that `segments_info` does not list: {names}; export both together"
            shapes.append(Shape("segments without an entry", problem=problem))
        return shapes

    def _shape(self, number: int, segment, ids: np.ndarray, used: set[int], listed: set[int]) -> Shape | None:
        """Return the shape of a segment, `None` if it is stuff; its id is added to `listed`."""
        if not isinstance(segment, dict):
            return Shape(f"segments_info[{number}]", problem=f"expected an object, found {short_repr(segment)}")
        segment_id, category = segment.get("id"), segment.get("category_id")
        is_new = isinstance(segment_id, int) and segment_id not in listed
        listed |= {segment_id} if is_new else set()
        shape = Shape(f"segment {short_repr(segment_id)}")
        if not isinstance(category, int) or category not in self.split.labels.keys() | self.stuff:
            shape.problem = f"`category_id` {short_repr(category)} is not among `categories`; add the category"
            return shape
        if category in self.stuff:
            return None
        shape.label, shape.box, shape.area = category, segment.get("bbox"), segment.get("area")
        shape.is_crowd = segment.get("iscrowd") in (1, True)
        if not is_new:
            shape.problem = "its `id` is missing or occurs twice, so its pixels are unknown; export the file again"
        elif segment_id not in used:
            shape.problem = "its `id` has no pixel in the PNG; export both together"
        else:
            shape.mask = partial(np.equal, ids, segment_id)
        return shape

    def _read_ids(self, annotation: dict, size: tuple) -> np.ndarray:
        """Return the segment id of each pixel, R + 256 G + 65536 B, of shape `(height, width)`."""
        name = file_name_text(annotation.get("file_name"))
        if not self.png_folders:
            raise ValueError(
                f"there is no folder {self.file.with_suffix('')} of PNG files; unpack {self.file.stem}.zip beside the "
                "file"
            )
        try:
            file = find_image(name, self.png_folders)
            self.roots.check(file)
        except ImageError as error:
            raise ValueError(f"the PNG of its segments cannot be used: {error}") from error
        try:
            with Image.open(file) as image:
                if image.mode not in ("RGB", "RGBA") or image.format == "JPEG":
                    raise ValueError(f"it is a {image.format} of mode {image.mode}, expected a PNG in RGB")
                if image.size != size:  # Refused before the pixels are decoded, which may be many.
                    raise ValueError(f"it has {image.size[0]}×{image.size[1]} px, its image {size[0]}×{size[1]}")
                values = np.asarray(image).astype(np.int32)
        except IMAGE_ERRORS as error:
            raise ValueError(f"the segments {file} cannot be read ({error}); copy the file again") from error
        return values[..., 0] + 256 * values[..., 1] + 65536 * values[..., 2]
