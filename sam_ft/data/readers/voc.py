"""Reader of Pascal VOC and of exports in its layout: images of classes, images of objects, and boxes in XML."""

import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from scipy import ndimage

from ...options.data import ReadOptions
from ...utils.text import list_some, short_repr
from ..row_schema import MAX_INSTANCES, DatasetFormatError
from .files import SPLIT_WORDS, example_id_of, images_in
from .images import ImageError
from .mask_values import read_mask_values, shapes_of_values
from .records import Record, Shape, Split
from .voc_labels import VOID, VocLabels, find_labels, index_values, read_object_numbers


FORM = (
    "JPEGImages/ with SegmentationClass/ and SegmentationObject/, ImageSets/Segmentation/*.txt (Pascal VOC; "
    "labelmap.txt of CVAT, class_names.txt of LabelMe); without masks, boxes in Annotations/*.xml"
)
KEYS = ("class_name", "class_names", "mask_values")
_CLASS_FOLDERS = ("SegmentationClass", "SegmentationClassPNG")
_OBJECT_FOLDERS = ("SegmentationObject", "SegmentationObjectPNG")
_LIST_FOLDERS = ("Segmentation", "Main")


@dataclass
class _Files:
    """Files of one picture; `None` for those that do not exist."""

    name: str
    image: Path | None
    classes: Path | None = None
    objects: Path | None = None
    boxes: Path | None = None

    @property
    def is_annotated(self) -> bool:
        return self.classes is not None or self.boxes is not None


@dataclass
class _Part:
    """
    Pictures of one split in one folder of the layout.

    Attributes:
        root (`Path`): The folder with `JPEGImages`.
        pictures (`list[_Files]`): The annotated pictures.
        not_annotated (`list[str]`): Names of listed pictures without annotations, in the first part of a folder those
            of splits without any annotation too.
        not_listed (`list[str]`): Names of pictures that no list of the folder contains.
        without_image (`list[str]`): Names of masks without a picture.
    """

    root: Path
    pictures: list[_Files]
    not_annotated: list[str] = field(default_factory=list)
    not_listed: list[str] = field(default_factory=list)
    without_image: list[str] = field(default_factory=list)


def find(folder: Path) -> dict[str, partial] | None:
    """Return a function that reads each split of a folder of Pascal VOC; `None` for another layout."""
    splits: dict[str, list[_Part]] = {}
    for root, split in _find_roots(folder):
        for name, part in _find_parts(root, split).items():
            splits.setdefault(name, []).append(part)
    parts = [part for split_parts in splits.values() for part in split_parts]
    return {name: partial(_read, folder, splits[name], parts) for name in splits} or None


def _find_roots(folder: Path) -> list[tuple[Path, str]]:
    """Return the folders with `JPEGImages`, and the split of their pictures where no list sets it."""
    years = [p for parent in (folder, folder / "VOCdevkit") for p in sorted(parent.glob("VOC*")) if p != parent]
    roots = [(root, "train") for root in (folder, *years) if _is_root(root)]
    return roots or [(folder / word, split) for word, split in SPLIT_WORDS.items() if _is_root(folder / word)]


def _is_root(folder: Path) -> bool:
    if not (folder / "JPEGImages").is_dir():
        return False
    return _mask_folder(folder, _CLASS_FOLDERS) is not None or any((folder / "Annotations").glob("*.xml"))


def _mask_folder(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir() and images_in(root / name)), None)


def _find_parts(root: Path, split: str) -> dict[str, _Part]:
    """Return the pictures of each split of a folder; those of a split without annotations are left out."""
    images, classes, objects = (
        {} if folder is None else {example_id_of(file, folder): file for file in images_in(folder)}
        for folder in (
            root / "JPEGImages",
            _mask_folder(root, _CLASS_FOLDERS),
            _mask_folder(root, _OBJECT_FOLDERS),
        )
    )
    boxes = {example_id_of(file, root / "Annotations"): file for file in (root / "Annotations").rglob("*.xml")}
    lists = _read_lists(root)
    listed = {name for names in lists.values() for name in names}
    if "train" in lists or "validation" in lists:
        lists.pop("trainval", None)
    elif "trainval" in lists:
        lists["train"] = lists.pop("trainval")
    is_listed, parts = bool(lists), {}
    for name, entries in (lists or {split: sorted(images)}).items():
        stems = [entry if entry in images else entry.rpartition(".")[0] or entry for entry in entries]
        stems = [stem if stem in images else entry for stem, entry in zip(stems, entries, strict=True)]
        listed.update(stems)
        files = [_Files(s, images.get(s), classes.get(s), objects.get(s), boxes.get(s)) for s in dict.fromkeys(stems)]
        parts[name] = _Part(root, [f for f in files if f.is_annotated], [f.name for f in files if not f.is_annotated])
    for part in parts.values():
        part.not_listed = sorted(images.keys() - listed) if is_listed else []
        part.without_image = sorted(classes.keys() - images.keys() - listed)
    empty = [name for part in parts.values() if not part.pictures for name in part.not_annotated]
    parts = {name: part for name, part in parts.items() if part.pictures}
    for part in [*parts.values()][:1]:
        part.not_annotated += empty
    return parts


def _read_lists(root: Path) -> dict[str, list[str]]:
    """Return the names in each list of `ImageSets`: by split, by `trainval`, or by the list's own name."""
    folder = next((p for p in (root / "ImageSets" / name for name in _LIST_FOLDERS) if any(p.glob("*.txt"))), None)
    lists: dict[str, list[str]] = {}
    for file in [] if folder is None else sorted(folder.glob("*.txt")):
        word = file.stem.lower()
        name = "train" if word == "default" else SPLIT_WORDS.get(word, file.stem)
        if folder.name == "Main" and name == file.stem and word not in (*SPLIT_WORDS, "trainval"):
            continue  # `dog_train.txt` lists whether each picture shows a dog.
        lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        lists.setdefault(name, []).extend(line.strip().strip('"') for line in lines if line.strip())
    return {name: names for name, names in lists.items() if names}


def _read(folder: Path, parts: list[_Part], all_parts: list[_Part], options: ReadOptions) -> Split:
    split = Split(str(folder), [], {})
    with_masks = any(files.classes for part in all_parts for files in part.pictures)
    labels = _find_labels(folder, all_parts, options)
    _refuse_keys(folder, all_parts, labels, options)
    if with_masks or not labels.needs_palette:
        split.labels = dict(labels.names)
    else:  # Boxes alone: the classes are those in the files of all splits.
        names = sorted({b.name for part in all_parts for f in part.pictures for b in _read_boxes(f.boxes)})
        split.labels, split.has_inferred_labels = {name: name for name in names}, True
    numbers = {name: number for number, name in split.labels.items()}
    for part in parts:
        prefix = "" if part.root == folder else f"{part.root.relative_to(folder).as_posix()}/"
        for files in part.pictures:
            image = files.image or ImageError(
                f"the image {short_repr(files.name)} is missing in {part.root / 'JPEGImages'}. Put it there, or set "
                "`on_bad_rows: skip` to leave such rows out"
            )
            shapes = partial(_shapes, files, labels, numbers, options)
            where = str(files.image or files.classes or files.boxes)
            split.records.append(Record(f"{prefix}{files.name}", where, image, shapes))
    split.notes += _notes(parts, labels, with_masks=with_masks)
    return split


def _find_labels(folder: Path, parts: list[_Part], options: ReadOptions) -> VocLabels:
    """Return the classes of all parts; refuse parts whose files differ."""
    first = None
    for root in dict.fromkeys(part.root for part in parts):
        inside = [parent for parent in root.parents if parent == folder or folder in parent.parents]
        labels = find_labels([root, *inside], options)
        first = first or labels
        if (labels.names, labels.by_value, labels.by_color) != (first.names, first.by_value, first.by_color):
            raise DatasetFormatError(
                f"its classes differ from those of {first.file or first.names}. Make the files equal, or set "
                "`class_names` to one file for all",
                file=str(labels.file or root),
            )
    return first


def _refuse_keys(folder: Path, parts: list[_Part], labels: VocLabels, options: ReadOptions) -> None:
    """Refuse keys that contradict the files."""
    with_objects = any(files.classes and files.objects for part in parts for files in part.pictures)
    with_masks = any(files.classes for part in parts for files in part.pictures)
    problem = None
    if options.mask_values is not None and (with_objects or not with_masks):
        problem = "SegmentationObject separates the objects" if with_objects else "there are no masks"
        problem = f"`mask_values` is {options.mask_values!r}, but {problem}. Remove it"
    elif options.mask_values == "instances":
        problem = "`mask_values` is 'instances', but SegmentationClass contains classes. Set `classes` or `components`"
    elif options.class_name and labels.file is not None:
        problem = f"`class_name` is {options.class_name!r}, but {labels.file} names the classes. Remove one"
    if problem is not None:
        raise DatasetFormatError(problem, file=str(folder))


def _notes(parts: list[_Part], labels: VocLabels, *, with_masks: bool) -> list[str]:
    pictures = [files for part in parts for files in part.pictures]
    notes = []
    if with_masks:
        notes.append("void pixels (255) belong to no object and to no phrase")
        if labels.needs_palette:
            notes.append("the classes are the 20 of Pascal VOC; set `class_names` for others")
    for number, text in (
        (sum(f.classes is not None and f.objects is None for f in pictures), "images of classes have none of objects"),
        (sum(f.classes is None for f in pictures), "images have no masks; the boxes of Annotations are read"),
    ):
        if number:
            semantic = "; all of a class in an image is one mask, and present phrases are not exhaustive"
            notes.append(f"{number} {text}" + (semantic if "classes" in text else ""))
    for text, names in (
        ("listed images have neither a mask nor boxes and are left out", [n for p in parts for n in p.not_annotated]),
        ("images are in no list of ImageSets and are left out", [n for p in parts for n in p.not_listed]),
        ("masks have no image and are left out", [n for p in parts for n in p.without_image]),
    ):
        if names:
            notes.append(f"{len(names)} {text}, such as {list_some(names)}")
    return notes


def _shapes(files: _Files, labels: VocLabels, numbers: dict, options: ReadOptions) -> list[Shape]:
    if files.classes is None:
        return [box.shape(numbers.get(box.name, box.name)) for box in _read_boxes(files.boxes)]
    if files.objects is None:
        if options.class_name and labels.file is None:
            return read_mask_values(files.classes, options.mask_values or "classes", labels.names, binary=True)
        values = labels.read(files.classes)
        return shapes_of_values(np.where(values == VOID, 0, values), options.mask_values or "classes", labels.names)
    shapes = join_images(labels.read(files.classes), read_object_numbers(files.objects), labels.names)
    drawn = Counter(shape.label for shape in shapes if shape.unknown_extent is None)
    boxes = Counter(numbers.get(box.name, box.name) for box in _read_boxes(files.boxes))
    for label, number in boxes.items():
        if number > drawn[label]:
            reason = f"{files.boxes} lists {number} such objects, but the masks show {drawn[label]}"
            shapes.append(Shape(f"class {label}", label, unknown_extent=reason))
    return shapes


def join_images(classes: np.ndarray, objects: np.ndarray, names: dict[int, str]) -> list[Shape]:
    """
    Build the shapes of a picture from its images of classes and objects.

    Args:
        classes (`np.ndarray` of shape `(height, width)`): Class numbers, 0 for background and `VOID` for void.
        objects (`np.ndarray` of shape `(height, width)`): Object numbers, 0 for no object and `VOID` for void.
        names (`dict[int, str]`): Class name of each number, for messages.

    Returns:
        `list[Shape]`: One shape for each object, and one without an extent for each class with pixels of no object.

    Raises:
        `ValueError`: If the sizes differ, or there are more than `MAX_INSTANCES` objects.
    """
    if classes.shape != objects.shape:
        sizes = (f"{image.shape[1]}×{image.shape[0]}" for image in (classes, objects))
        raise ValueError(f"its images of classes and objects are {' and '.join(sizes)} px; both must agree")
    # Where the class is void, the object is void too.
    values, indices = index_values(np.where(classes == VOID, VOID, objects))
    if len(values) > MAX_INSTANCES:
        raise ValueError(f"the image of objects contains {len(values)} numbers; at most {MAX_INSTANCES} are read")
    shapes, size = [], classes.shape[::-1]
    for index, (value, window) in enumerate(zip(values.tolist(), ndimage.find_objects(indices + 1), strict=True)):
        found, counts = np.unique(classes[window][indices[window] == index], return_counts=True)
        pixels = dict(zip(found.tolist(), counts.tolist(), strict=True))
        if value in (0, VOID):
            shapes += [
                Shape(f"class {n}", n, unknown_extent=f"{pixels[n]} px of its class are in no object")
                for n in pixels
                if n in names
            ]
            continue
        shape = Shape(f"object {value}", next((n for n in pixels if n in names), None))
        if len(pixels) > 1 or shape.label is None:
            parts = ", ".join(f"{names.get(n, 'background')} ({pixels[n]} px)" for n in pixels)
            shape.problem = f"the image of classes shows {parts} in it; each object has one class, correct the masks"
        shape.mask = partial(np.equal, indices[window], index)
        shape.corner, shape.mask_size = (window[1].start, window[0].start), size
        shapes.append(shape)
    return shapes


@dataclass
class _Box:
    """Object of an XML file; `is_difficult` objects are ignored in VOC's evaluation."""

    where: str
    name: str
    box: list[float] | None
    is_difficult: bool

    def shape(self, label) -> Shape:
        return Shape(self.where, label, box=self.box, is_crowd=self.is_difficult)


def _read_boxes(file: Path | None) -> list[_Box]:
    """Return the objects of an XML file; raise `ValueError` with the file's path if it cannot be read."""
    if file is None:
        return []
    try:
        root = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
        raise ValueError(f"{file} is not XML ({error}); export the annotations again") from error
    boxes = []
    for number, element in enumerate(root.findall("object")):
        name = (element.findtext("name") or "").strip()
        if not name:
            raise ValueError(f"{file}, object {number}: `name` is missing; export the annotations again")
        is_difficult = (element.findtext("difficult") or "").strip() == "1"
        boxes.append(_Box(f"{file.name}, object {number}", name, _box(file, number, element), is_difficult))
    return boxes


def _box(file: Path, number: int, element: ElementTree.Element) -> list[float]:
    """Return `(x, y, w, h)`; whole numbers are pixels from 1, the last of them included, as VOC defines them."""
    texts = [element.findtext(f"bndbox/{side}") or "" for side in ("xmin", "ymin", "xmax", "ymax")]
    try:
        left, top, right, bottom = map(float, texts)
    except ValueError as error:
        raise ValueError(
            f"{file}, object {number}: `bndbox` is {short_repr(texts)}; expected xmin, ymin, xmax and ymax in pixels"
        ) from error
    offset = 1.0 if all(text.strip().isdecimal() for text in texts) else 0.0
    return [left - offset, top - offset, right - left + offset, bottom - top + offset]
