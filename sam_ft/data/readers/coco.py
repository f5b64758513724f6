"""Reader of COCO instance annotations, including LVIS files and Roboflow exports; `saco.py` reads SA-Co files."""

from collections import Counter
from functools import partial
from pathlib import Path

from ...options.data import ReadOptions
from ...utils.text import short_repr
from ..phrases.vocabulary import normalize_phrase
from ..reading_report import Remark
from ..row_schema import DatasetFormatError
from .coco_tree import CocoFiles, find_coco_splits
from .images import count_bare_names, file_name_text, find_image_or_error
from .json_files import read_json
from .records import Record, Shape, Split
from .saco import is_saco, read_saco_content


FORM = "\n  ".join(
    (
        "annotations/instances_train2017.json, annotations/instances_val2017.json beside train2017/, val2017/ (COCO; "
        "LVIS too)",
        "annotations/train_coco.json, annotations/val_coco.json beside train_images/, val_images/",
        "annotations/*train*.json, annotations/*val*.json beside images/ (SA-Co; CVAT's COCO export)",
        "train/_annotations.coco.json, valid/_annotations.coco.json, images beside them or in images/ (Roboflow)",
        "or one file and one folder by name: annotation_file, image_folder (eval_annotation_file, eval_image_folder)",
    )
)
KEYS = ("phrase_source", "noun_phrases")
# Largest coordinate of a box in fractions of the image. It exceeds 1 because tools round, and boxes cross the edge.
NORMALIZED_LIMIT = 1.05


def find(folder: Path) -> dict[str, partial] | None:
    """Return a function that reads each split of a folder of COCO files; `None` for another layout."""
    splits = find_coco_splits(folder)
    return {name: partial(read_json_split, files) for name, files in splits.items()} or None


def read_json_split(files: CocoFiles, options: ReadOptions) -> Split:
    """
    Read one annotation file for many images: COCO, LVIS or SA-Co.

    Args:
        files (`CocoFiles`): The annotation file and the folders of its images.
        options (`ReadOptions`): Conversion of annotations to rows.

    Returns:
        `Split`: The records of the file.

    Raises:
        `DatasetFormatError`: If the file is in none of these formats; see [`read_coco_content`].
    """
    content = read_json(files.annotation_file, "COCO")
    read_content = read_saco_content if is_saco(content) else read_coco_content
    split = read_content(content, files, options)
    if files.others:
        names = ", ".join(file.name for file in files.others[:3])
        split.notes.append(f"{len(files.others)} other annotation files beside this one are not read: {names}")
    return split


def read_coco_content(content, files: CocoFiles, options: ReadOptions) -> Split:
    """
    Build the records of a COCO file from its parsed content.

    Args:
        content: The parsed JSON content.
        files (`CocoFiles`): The annotation file and the folders of its images.
        options (`ReadOptions`): Conversion of annotations to rows.

    Returns:
        `Split`: The records, not yet converted to rows.

    Raises:
        `DatasetFormatError`: If the content is not that of a COCO file, a category is unknown, or an id occurs twice.
            The message contains the file, the record and the field.
    """
    return _CocoReader(content, files, options).split


class _CocoReader:
    """Conversion of the content of one COCO file to a `Split`."""

    def __init__(self, content, files: CocoFiles, options: ReadOptions):
        self.file, self.folders, self.options = str(files.annotation_file), files.image_folders, options
        self._check(content)
        self.images, annotations = content["images"], content["annotations"]
        self._refuse_duplicate_ids(self.images, "image")
        self._refuse_duplicate_ids([a for a in annotations if a.get("id") is not None], "annotation")
        self.name_counts = count_bare_names(file_name_text(image["file_name"]) for image in self.images)
        self.split = Split(self.file, [], {})
        self.split.labels = self._read_categories(content.get("categories") or [], annotations)
        self.split.phrases = self._closed_phrases(annotations)
        self.annotations: dict = {}
        for annotation in annotations:
            self.annotations.setdefault(annotation.get("image_id"), []).append(annotation)
        self._refuse_orphans()
        self._detect_conventions(annotations)
        self.split.records = [self._record(image) for image in self.images]

    def _refuse(self, message: str, record: str | None = None):
        raise DatasetFormatError(message, file=self.file, record=record)

    def _check(self, content):
        """Refuse content without the fields that COCO requires, and complete the file names of LVIS."""
        for key in ("images", "annotations"):
            if not isinstance(content, dict) or not isinstance(content.get(key), list):
                received = ", ".join(map(repr, content)) if isinstance(content, dict) else type(content).__name__
                self._refuse(
                    f"a COCO file contains the lists `images` and `annotations`; `{key}` is missing, found {received}"
                )
        if not content["images"]:
            self._refuse("`images` is empty, so there is nothing to train on; export the annotations again")
        for image in content["images"]:
            if isinstance(image, dict) and image.get("file_name") is None and isinstance(image.get("coco_url"), str):
                # LVIS has no `file_name`, only URLs such as …/train2017/000000391895.jpg.
                image["file_name"] = "/".join(image["coco_url"].split("/")[-2:])
        for key, fields in (("images", ("id", "file_name")), ("annotations", ("image_id",))):
            for i, record in enumerate(content[key]):
                if not isinstance(record, dict):
                    self._refuse(f"expected an object, found {short_repr(record)}", f"{key}[{i}]")
                missing_fields = [f for f in fields if record.get(f) is None]
                if missing_fields:
                    self._refuse(f"`{missing_fields[0]}` is missing; export the annotations again", f"{key}[{i}]")
                for name in ("id", "image_id", "category_id"):
                    if not isinstance(record.get(name), int | float | str | None):
                        self._refuse(f"`{name}` is {short_repr(record[name])}; expected a number", f"{key}[{i}]")

    def _refuse_duplicate_ids(self, records: list[dict], kind: str):
        duplicates = [i for i, n in Counter(str(r["id"]) for r in records).items() if n > 1]
        if duplicates:
            self._refuse(
                f"{len(duplicates)} {kind} ids occur more than once. Renumber them: ids must be unique, also after "
                "files are merged",
                f"{kind} id {duplicates[0]}",
            )

    def _refuse_orphans(self):
        image_ids = {image["id"] for image in self.images}
        orphans = [image_id for image_id in self.annotations if image_id not in image_ids]
        if orphans:
            self._refuse(
                f"annotations refer to {len(orphans)} image ids that `images` does not list; export both together",
                f"image_id {orphans[0]}",
            )

    def _detect_conventions(self, annotations: list[dict]):
        """Detect the conventions of the whole file: normalized boxes, crowd flags and a federated vocabulary."""
        notes = self.split.notes
        self.normalized = self._boxes_are_normalized(annotations)
        if self.normalized:
            notes.append("boxes are normalised to [0, 1]; multiplied by the image's size")
            self.split.remarks += _boxes_beyond_one(annotations)
        self.crowds_are_instances = bool(annotations) and all(_is_crowd(a) for a in annotations)
        if self.crowds_are_instances:
            notes.append(
                "every annotation has iscrowd: 1, as CVAT exports brush masks; read as instances. Export with "
                "iscrowd: 0 to remove this note"
            )
        missing = sum("iscrowd" not in a and "is_crowd" not in a for a in annotations)
        if missing:
            notes.append(f"{missing} annotations have no `iscrowd`; read as 0")
        for image in self.images:
            for name in ("neg_category_ids", "not_exhaustive_category_ids"):
                ids = image.get(name) or []
                if not isinstance(ids, list) or not all(isinstance(i, int | float | str) for i in ids):
                    self._refuse(
                        f"`{name}` is {short_repr(ids)}; expected a list of category ids", f"image id {image['id']}"
                    )
        self.federated = any("neg_category_ids" in image for image in self.images)
        if self.federated:
            notes.append("a federated vocabulary (LVIS): only the `neg_category_ids` of an image are absent phrases")

    def _boxes_are_normalized(self, annotations: list[dict]) -> bool:
        """
        Return whether boxes are in fractions of the image, as in SA-Co and noun-phrase files.

        Args:
            annotations (`list[dict]`): All annotations of the file.

        Returns:
            `bool`: `True` if no coordinate of a box is above `NORMALIZED_LIMIT`.

        Raises:
            `DatasetFormatError`: If some boxes are in fractions and others in pixels; contains their numbers.
        """
        boxes = [box for annotation in annotations if (box := _box_of(annotation)) is not None]
        in_pixels = sum(max(box) > NORMALIZED_LIMIT for box in boxes)
        if not in_pixels:
            return bool(boxes)
        fractions = [annotation for annotation in annotations if _is_fraction(annotation)]
        if fractions:
            self._refuse(
                f"{len(fractions)} boxes without a mask are in fractions of the image, 0 to 1, and {in_pixels} boxes "
                f"have numbers above {NORMALIZED_LIMIT}, as in pixels; write all boxes in pixels, or all in fractions",
                f"annotation id {fractions[0].get('id')}",
            )
        return False

    def _read_categories(self, categories: list[dict], annotations: list[dict]) -> dict[int | str, str]:
        """Return the name of each category id; Roboflow's placeholder categories are left out."""
        if not isinstance(categories, list) or not all(isinstance(c, dict) for c in categories):
            self._refuse('`categories` must be a list of {"id": …, "name": …}')
        for category in categories:
            name = category.get("name")
            if not isinstance(category.get("id"), int | str) or not (isinstance(name, str) and normalize_phrase(name)):
                self._refuse(f"a category needs a number `id` and a text `name`, found {short_repr(category)}")
        self._refuse_duplicate_ids(categories, "category")
        used = Counter(a.get("category_id") for a in annotations)
        parents = {str(c.get("supercategory")) for c in categories}
        names = {}
        for category in categories:
            if category.get("supercategory") == "none" and not used[category["id"]] and category["name"] in parents:
                self.split.notes.append(
                    f"category {category['id']} {category['name']!r} is a placeholder without annotations; dropped"
                )
            else:
                names[category["id"]] = str(category["name"])
        return names

    def _closed_phrases(self, annotations: list[dict]) -> list[str]:
        """Return the noun phrases of a closed vocabulary, in the order of the file."""
        if self.options.phrase_source == "category" or self.options.noun_phrases != "closed":
            return []
        phrases = (a.get("noun_phrase") for a in annotations)
        return [*dict.fromkeys(normalize_phrase(p) for p in phrases if isinstance(p, str) and p.strip())]

    def _record(self, image: dict) -> Record:
        name = file_name_text(image["file_name"])
        path = find_image_or_error(name, self.folders, self.name_counts)
        shapes = [self._shape(annotation) for annotation in self.annotations.get(image["id"], [])]
        record = Record(
            str(image["id"]),
            f"image id {image['id']} ({name})",
            path,
            shapes,
            (image.get("width"), image.get("height")),
        )
        if self.federated:
            record.absent = list(image.get("neg_category_ids") or [])
            record.not_exhaustive = frozenset(image.get("not_exhaustive_category_ids") or [])
        return record

    def _shape(self, annotation: dict) -> Shape:
        shape = Shape(
            f"annotation id {annotation.get('id')}",
            attributes={
                str(k): str(v)
                for k, v in _as_dict(annotation.get("attributes")).items()
                if isinstance(v, str | int | float) and str(v).strip()
            },
            box=annotation.get("bbox"),
            area=annotation.get("area"),
            relative_box=self.normalized,
            is_crowd=_is_crowd(annotation) and not self.crowds_are_instances,
        )
        try:
            self._set_label(shape, annotation)
            self._set_geometry(shape, annotation.get("segmentation"))
        except ValueError as error:
            shape.problem = str(error)
        return shape

    def _set_label(self, shape: Shape, annotation: dict):
        if self.options.phrase_source in ("category", "both"):
            shape.label = annotation.get("category_id")
            if shape.label not in self.split.labels:
                ids = ", ".join(map(repr, list(self.split.labels)[:10])) or "none"
                raise ValueError(
                    f"`category_id` {short_repr(shape.label)} is not among `categories` (known ids: {ids}); add the "
                    "category, or correct the id (1 and '1' differ)"
                )
        if self.options.phrase_source in ("noun_phrase", "both"):
            phrase = annotation.get("noun_phrase")
            if phrase is not None and not (isinstance(phrase, str) and normalize_phrase(phrase)):
                raise ValueError(f"`noun_phrase` is {short_repr(phrase)}; expected a text")
            if phrase is None and self.options.phrase_source == "noun_phrase":
                raise ValueError(
                    "`noun_phrase` is missing; add it, or set `phrase_source: category` to use category names"
                )
            shape.phrases = [] if phrase is None else [normalize_phrase(phrase)]

    def _set_geometry(self, shape: Shape, segmentation):
        if isinstance(segmentation, dict):
            shape.rle = segmentation or None
        elif isinstance(segmentation, list):
            shape.polygons = segmentation or None
        elif segmentation is not None:
            raise ValueError(
                f"`segmentation` is a {type(segmentation).__name__}; expected polygons [[x1, y1, …], …] or an RLE "
                '{"size": [height, width], "counts": …}'
            )
        if shape.rle is None and shape.polygons is None and shape.box is None:
            raise ValueError("there is no mask and `bbox` is None; expected [x, y, w, h] in pixels")


def _as_dict(value) -> dict:
    return value if isinstance(value, dict) else {}


def _is_crowd(annotation: dict) -> bool:
    """Return whether an annotation is a crowd; tools write the flag as a number, a boolean or a string."""
    flag = annotation.get("iscrowd", annotation.get("is_crowd", 0))
    return str(flag).strip().lower() in ("1", "1.0", "true")


def _box_of(annotation: dict) -> list | None:
    """Return the box of an annotation if it is a list of four numbers."""
    box = annotation.get("bbox")
    if isinstance(box, list) and len(box) == 4 and all(isinstance(v, int | float) for v in box):
        return box
    return None


def _is_fraction(annotation: dict) -> bool:
    """Return whether an annotation has only a box, with fractional coordinates of at most `NORMALIZED_LIMIT`."""
    box = _box_of(annotation)
    if box is None or annotation.get("segmentation"):
        return False
    return all(1 - NORMALIZED_LIMIT <= v <= NORMALIZED_LIMIT for v in box) and not all(
        float(v).is_integer() for v in box
    )


def _boxes_beyond_one(annotations: list[dict]) -> list[Remark]:
    """Return remarks on normalized boxes with a coordinate above 1, a result of rounding."""
    boxes = ((a.get("id"), box) for a in annotations if (box := _box_of(a)) is not None)
    return [
        Remark("normalised box beyond 1", f"annotation id {annotation_id}", f"{box}; clipped at the image's edge")
        for annotation_id, box in boxes
        if max(box) > 1.0 + 1e-6
    ]
