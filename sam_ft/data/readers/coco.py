"""Reader of COCO instance annotations, including LVIS files and Roboflow exports; `saco.py` reads SA-Co files."""

from collections import Counter
from functools import partial
from pathlib import Path

from ...options.data import ReadOptions
from ...utils.text import short_repr
from ..conversion_info import parse_conversion_info
from ..phrases.vocabulary import final_phrase, normalize_phrase
from ..row_schema import DatasetFormatError
from .coco_boxes import boxes_are_normalized, boxes_beyond_one
from .coco_tree import CocoFiles, find_coco_splits, has_coco_lists, image_folders_of
from .files import folder_of_file, split_of_name
from .images import count_bare_names, file_name_text, find_image_or_error
from .json_files import read_json
from .records import Record, Shape, Split, join_labels
from .saco import is_saco, read_saco_content


FORM = "\n  ".join(
    (
        "annotations/instances_train2017.json, annotations/instances_val2017.json beside train2017/, val2017/ (COCO; "
        "LVIS too)",
        "annotations/train_coco.json, annotations/val_coco.json beside train_images/, val_images/",
        "annotations/*train*.json, annotations/*val*.json beside images/ (SA-Co; CVAT's COCO export)",
        "train/_annotations.coco.json, valid/_annotations.coco.json, images beside them or in images/ (Roboflow)",
        "NAME.json beside its images or images/ (COCO)",
        "or one file and one folder by name: annotation_file, image_folder (eval_annotation_file, eval_image_folder)",
    )
)
KEYS = ("phrase_source", "noun_phrases")
_ID_TYPES = (int, float, str, type(None))  # A tuple is compared faster than a union.


def find(folder: Path) -> dict[str, partial] | None:
    """Return a function that reads each split of a folder of COCO files; `None` for another layout."""
    splits = find_coco_splits(folder)
    return {name: partial(read_json_split, files) for name, files in splits.items()} or None


def find_file(file: Path) -> dict[str, partial] | None:
    """Return a function that reads a COCO file as training data; `None` for another file."""
    if file.suffix != ".json" or not has_coco_lists(file):
        return None
    files = CocoFiles(file, image_folders_of(folder_of_file(file), file, split_of_name(file.stem) or "train"))
    return {"train": partial(read_json_split, files)}


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
        self.info = parse_conversion_info(content.get("info"))
        self.to_phrase = normalize_phrase if self.info is None else final_phrase
        self.images, annotations = content["images"], content["annotations"]
        self._refuse_duplicate_ids(self.images, "image")
        self._refuse_duplicate_ids([a for a in annotations if a.get("id") is not None], "annotation")
        self.name_counts = count_bare_names(file_name_text(image["file_name"]) for image in self.images)
        self.split = Split(self.file, [], {}, has_final_phrases=self.info is not None)
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
                    if not isinstance(record.get(name), _ID_TYPES):
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
        self._match_ids_as_text(image_ids)
        orphans = [image_id for image_id in self.annotations if image_id not in image_ids]
        if orphans:
            self._refuse(
                f"annotations refer to {len(orphans)} image ids that `images` does not list; export both together",
                f"image_id {orphans[0]}",
            )

    def _match_ids_as_text(self, image_ids: set):
        """Match image ids of which one is a number and the other a text, such as 1 and "1"; texts are unique."""
        by_text = {str(image_id): image_id for image_id in image_ids}
        matches = {i: by_text[str(i)] for i in self.annotations if i not in image_ids and str(i) in by_text}
        for image_id, match in matches.items():
            self.annotations.setdefault(match, []).extend(self.annotations.pop(image_id))
        if matches:
            first, match = next(iter(matches.items()))
            self.split.notes.append(
                f"{len(matches)} `image_id` of annotations are text where `images` has numbers, or the reverse, such "
                f"as {first!r} and {match!r}; matched"
            )

    def _detect_conventions(self, annotations: list[dict]):
        """Detect the conventions of the whole file: normalized boxes, crowd flags and a federated vocabulary."""
        notes = self.split.notes
        notes += [] if self.info is None else self.info.notes(Path(self.file))
        self.normalized = self.info is None and boxes_are_normalized(annotations, self.file)
        if self.normalized:
            notes.append("boxes are normalised to [0, 1]; multiplied by the image's size")
            self.split.remarks += boxes_beyond_one(annotations)
        self.crowds_are_instances = self.info is None and bool(annotations) and all(map(_is_crowd, annotations))
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

    def _read_categories(self, categories: list[dict], annotations: list[dict]) -> dict[int | str, str]:
        """Return the name of each category id; Roboflow's placeholder categories are left out."""
        if not isinstance(categories, list) or not all(isinstance(c, dict) for c in categories):
            self._refuse('`categories` must be a list of {"id": …, "name": …}')
        for category in categories:
            name = category.get("name")
            has_name = isinstance(name, str) and self.to_phrase(name).strip()
            if not isinstance(category.get("id"), int | str) or not has_name:
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
        return [*dict.fromkeys(self.to_phrase(p) for p in phrases if isinstance(p, str) and p.strip())]

    def _record(self, image: dict) -> Record:
        name = file_name_text(image["file_name"])
        path = find_image_or_error(name, self.folders, self.name_counts)
        example_id = str(image["id"])
        if self.info is not None:
            example_id = str(image.get("example_id", example_id))
        # Shapes are built when they are converted, in worker processes; attributes are compared over all records.
        shapes = partial(self._shapes, self.annotations.get(image["id"], []))
        record = Record(
            example_id,
            f"image id {image['id']} ({name})",
            path,
            shapes() if self.options.attributes else shapes,
            (image.get("width"), image.get("height")),
        )
        if self.federated:
            record.absent = list(image.get("neg_category_ids") or [])
            record.not_exhaustive = frozenset(image.get("not_exhaustive_category_ids") or [])
        return record

    def _shapes(self, annotations: list[dict]) -> list[Shape]:
        """Return the objects of one image."""
        shapes = [self._shape(annotation) for annotation in annotations]
        if self.info is None:
            return shapes
        numbers = (a.get("instance") for a in annotations)
        numbers = [n if isinstance(n, int) else -i for i, n in enumerate(numbers, 1)]
        return join_labels(zip(shapes, numbers, strict=True))

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
                shape.label, category = None, shape.label
                ids = ", ".join(map(repr, list(self.split.labels)[:10])) or "none"
                raise ValueError(
                    f"`category_id` {short_repr(category)} is not among `categories` (known ids: {ids}); add the "
                    "category, or correct the id (1 and '1' differ)"
                )
        if self.options.phrase_source in ("noun_phrase", "both"):
            phrase = annotation.get("noun_phrase")
            if phrase is not None and not (isinstance(phrase, str) and self.to_phrase(phrase).strip()):
                shape.label = None  # Its phrase is unknown, even if its category is not.
                raise ValueError(f"`noun_phrase` is {short_repr(phrase)}; expected a text")
            if phrase is None and self.options.phrase_source == "noun_phrase":
                raise ValueError(
                    "`noun_phrase` is missing; add it, or set `phrase_source: category` to use category names"
                )
            shape.phrases = [] if phrase is None else [self.to_phrase(phrase)]

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
