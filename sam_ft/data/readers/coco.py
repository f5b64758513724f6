"""COCO instance annotations, as tools and people write them, to rows."""

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...ops import masks as mask_ops
from ..example import DatasetFormatError, validate_example
from ..report import DataReport
from ..vocabulary import PhraseMap, name_phrases, normalize_phrase
from .coco_tree import CocoFiles
from .images import ImageError, bare_name, find_image, upright_size


PHRASE_SOURCES = ("category", "noun_phrase", "both")
NOUN_PHRASES = ("open", "exhaustive", "closed")


@dataclass
class CocoOptions:
    """
    How a COCO file becomes rows.

    Attributes:
        phrase_source (`str`): `category`: the categories are a closed vocabulary, and one without annotation in an image
            is absent there; `noun_phrase`: each annotation's own phrase, absences unknown; `both`.
        phrase_map (`PhraseMap`): the user's names for categories.
        noun_phrases (`str`): what the data promise of noun phrases. `open`: other instances may be unlabelled;
            `exhaustive`: an image that has the phrase has all its instances labelled; `closed`: also, an image without
            the phrase does not show it, for every phrase of the file.
        on_bad_rows (`str`): `error` stops at the first row that cannot be used, `skip` leaves it out and reports it.
        verify_images (`bool`): decode every image while reading, so that a damaged one is found before training.
    """

    phrase_source: str = "category"
    phrase_map: PhraseMap = field(default_factory=PhraseMap)
    noun_phrases: str = "exhaustive"
    on_bad_rows: str = "error"
    verify_images: bool = True


def read_coco(files: CocoFiles, options: CocoOptions) -> tuple[list[dict], DataReport]:
    """
    Reads one COCO annotation file.

    Args:
        files (`CocoFiles`): the file and the folders of its images.
        options (`CocoOptions`).

    Returns:
        `tuple[list[dict], DataReport]`: rows in the file's order, their `image` a path, and what was understood.

    Raises:
        `DatasetFormatError`: naming file, record and field: where the file is no COCO file, a category is unknown, an id
            stands twice, or, with `on_bad_rows: error`, a row cannot be used.
    """
    for name, choices in (("phrase_source", PHRASE_SOURCES), ("noun_phrases", NOUN_PHRASES)):
        if getattr(options, name) not in choices:
            raise ValueError(f"`{name}` is {getattr(options, name)!r}; choose from {', '.join(choices)}")
    reader = _CocoReader(files, options)
    with ThreadPoolExecutor(max_workers=4) as pool:  # Pillow decodes outside the interpreter's lock
        sizes = pool.map(reader.measure, reader.images)
        rows = list(reader.rows(sizes))
    reader.check_positives(rows)
    return rows, reader.report


class _CocoReader:
    def __init__(self, files: CocoFiles, options: CocoOptions):
        self.file, self.folders, self.options = str(files.annotation_file), files.image_folders, options
        self.report = DataReport(self.file)
        content = self._load()
        self.images, annotations = content["images"], content["annotations"]
        self._refuse_doubles(self.images, "image")
        self.bare_names = Counter(bare_name(str(image["file_name"])) for image in self.images)
        self._refuse_doubles([a for a in annotations if a.get("id") is not None], "annotation")
        self.phrase_of_category = self._read_categories(content.get("categories") or [], annotations)
        self.vocabulary = self._closed_vocabulary(annotations)
        self.annotations: dict = {}
        for annotation in annotations:
            self.annotations.setdefault(annotation.get("image_id"), []).append(annotation)
        self._refuse_orphans()
        self.normalized = _boxes_are_normalized(annotations)
        if self.normalized:
            self._note("boxes are normalised to [0, 1]; multiplied by the image's size")
        self.crowds_are_instances = bool(annotations) and all(_is_crowd(a) for a in annotations)
        if self.crowds_are_instances:
            self._note(
                "every annotation has iscrowd: 1, as CVAT exports brush masks; read as instances. Export with iscrowd: 0 to "
                "silence this"
            )
        missing = sum("iscrowd" not in a and "is_crowd" not in a for a in annotations)
        if missing:
            self._note(f"{missing} annotations have no `iscrowd`; read as 0")

    def _note(self, message: str):
        self.report.notes[message] += 1

    def _refuse(self, message: str, record: str | None = None):
        raise DatasetFormatError(message, file=self.file, record=record)

    def _load(self) -> dict:
        path = Path(self.file)
        if not path.is_file():
            self._refuse("there is no such file; correct `annotation_file` or `dataset_name`")
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            self._refuse(f"the file cannot be read as UTF-8 text ({error}); export the annotations again as COCO JSON")
        if not text.strip():
            self._refuse("the file is empty; export the annotations again")
        try:
            content = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            self._refuse(f"this is not JSON ({error}); export the annotations again as COCO")
        for key in ("images", "annotations"):
            if not isinstance(content, dict) or not isinstance(content.get(key), list):
                found = ", ".join(map(repr, content)) if isinstance(content, dict) else type(content).__name__
                self._refuse(f"a COCO file holds lists `images` and `annotations`; `{key}` is missing, found {found}")
        if not content["images"]:
            self._refuse("`images` is empty; there is nothing to train on")
        for key, fields in (("images", ("id", "file_name")), ("annotations", ("image_id",))):
            for i, record in enumerate(content[key]):
                if not isinstance(record, dict):
                    self._refuse(f"expected an object, found {record!r}", f"{key}[{i}]")
                lacking = [f for f in fields if record.get(f) is None]
                if lacking:
                    self._refuse(f"`{lacking[0]}` is missing; export the annotations again", f"{key}[{i}]")
                for name in ("id", "image_id", "category_id"):
                    if not isinstance(record.get(name), int | float | str | None):
                        self._refuse(f"`{name}` is {record[name]!r}; expected a number", f"{key}[{i}]")
        return content

    def _refuse_doubles(self, records: list[dict], kind: str):
        double = [i for i, n in Counter(str(r["id"]) for r in records).items() if n > 1]
        if double:
            self._refuse(
                f"{len(double)} {kind} ids stand more than once; ids must be unique (merged files? number them anew)",
                f"{kind} id {double[0]}",
            )

    def _refuse_orphans(self):
        known = {image["id"] for image in self.images}
        orphans = [image_id for image_id in self.annotations if image_id not in known]
        if orphans:
            self._refuse(
                f"annotations refer to {len(orphans)} image ids that `images` does not list; export both together",
                f"image_id {orphans[0]}",
            )

    def _read_categories(self, categories: list[dict], annotations: list[dict]) -> dict[int, str | None]:
        """Category id -> phrase, `None` where the phrase map drops it; placeholders and doubles are dealt with."""
        if not isinstance(categories, list) or not all(isinstance(c, dict) for c in categories):
            self._refuse('`categories` must be a list of {"id": …, "name": …}')
        for category in categories:
            name = category.get("name")
            if not isinstance(category.get("id"), int | str) or not (isinstance(name, str) and normalize_phrase(name)):
                self._refuse(f"a category needs a number `id` and a text `name`, found {category!r}")
        self._refuse_doubles(categories, "category")
        used = Counter(a.get("category_id") for a in annotations)
        parents = {str(c.get("supercategory")) for c in categories}
        kept = []
        for category in categories:
            if category.get("supercategory") == "none" and not used[category["id"]] and category["name"] in parents:
                self._note(
                    f"category {category['id']} {category['name']!r} is a placeholder without annotations; dropped"
                )
            else:
                kept.append(category)
        phrases = name_phrases([str(c["name"]) for c in kept], self.options.phrase_map)
        unknown = set(self.options.phrase_map.names) - {str(c["name"]) for c in kept}
        if unknown and self.options.phrase_source != "noun_phrase":
            self._note(f"the phrase map names {', '.join(map(repr, sorted(unknown)))}, which this file does not have")
        result = {}
        for category in kept:
            name = str(category["name"])
            phrase = result[category["id"]] = phrases[name]
            if phrase is None:
                self._note(f"category {name!r} is dropped by the phrase map")
            elif phrase in self.report.category_ids:
                self._note(f"category {category['id']} {name!r} has the phrase {phrase!r} of another; merged")
            else:
                self.report.category_ids[phrase] = category["id"]
                if phrase != name:
                    self._note(f"category {name!r} is asked as {phrase!r}")
        return result

    def _closed_vocabulary(self, annotations: list[dict]) -> dict[str, None]:
        """The phrases whose absence the file proves, in the file's order."""
        closed = {}
        if self.options.phrase_source != "noun_phrase":
            closed = dict.fromkeys(phrase for phrase in self.phrase_of_category.values() if phrase is not None)
        if self.options.phrase_source != "category" and self.options.noun_phrases == "closed":
            spoken = (a.get("noun_phrase") for a in annotations)
            closed |= dict.fromkeys(normalize_phrase(p) for p in spoken if isinstance(p, str) and p.strip())
        return closed

    def measure(self, image: dict) -> tuple[Path, int, int] | ImageError:
        """Path and upright size of a listed image; runs in a thread, so a failure is returned."""
        try:
            name = str(image["file_name"])
            path = find_image(name, self.folders, by_bare_name=self.bare_names[bare_name(name)] == 1)
            width, height, swapped = upright_size(path, decode=self.options.verify_images)
        except ImageError as error:
            return error
        listed = image.get("width"), image.get("height")
        if not all(isinstance(side, int | float | None) for side in listed):
            return ImageError(f"`width`×`height` is {listed[0]!r}×{listed[1]!r}; expected numbers")
        if None not in listed and listed != (width, height):
            why = " (its EXIF orientation swaps the sides)" if swapped else ""
            return ImageError(
                f"`width`×`height` is {listed[0]}×{listed[1]}, but the upright image {path} is {width}×{height}{why}. Its "
                "annotations would land in the wrong place: save the image upright at the listed size, or export again"
            )
        return path, width, height

    def rows(self, measured) -> Iterator[dict]:
        for image, size in zip(self.images, measured, strict=True):
            try:
                row = self._row(image, size)
                validate_example(row, self.file)
            except DatasetFormatError as error:
                if self.options.on_bad_rows != "skip":
                    raise
                self.report.skipped.append(str(error))
                continue
            self.report.count(row)
            yield row

    def _row(self, image: dict, size: tuple[Path, int, int] | ImageError) -> dict:
        record = f"image id {image['id']} ({image['file_name']})"
        if isinstance(size, ImageError):
            self._refuse(str(size), record)
        path, width, height = size
        instances, members = (
            [],
            {phrase: [] for phrase in self.vocabulary},
        )  # members: phrase -> indices into instances
        for annotation in self.annotations.get(image["id"], []):
            where = f"{record}, annotation id {annotation.get('id')}"
            phrases = self._phrases(annotation, where)
            if not phrases:
                continue
            for phrase in phrases:
                members.setdefault(phrase, []).append(len(instances))
            instances.append(self._instance(annotation, width, height, where))
        return {
            "example_id": str(image["id"]),
            "image": str(path),
            "width": width,
            "height": height,
            "instances": instances,
            "phrases": [
                {
                    "text": text,
                    "instances": indices,
                    "exhaustive": text in self.vocabulary or self.options.noun_phrases != "open",
                }
                for text, indices in members.items()
            ],
        }

    def _phrases(self, annotation: dict, where: str) -> list[str]:
        phrases = []
        if self.options.phrase_source in ("category", "both"):
            category = annotation.get("category_id")
            if category not in self.phrase_of_category:
                known = ", ".join(map(repr, list(self.phrase_of_category)[:10])) or "none"
                self._refuse(
                    f"`category_id` {category!r} is not among `categories` (known ids: {known}); add the category, or correct "
                    "the id (1 and '1' differ)",
                    where,
                )
            phrases.append(self.phrase_of_category[category])
        if self.options.phrase_source in ("noun_phrase", "both"):
            phrase = annotation.get("noun_phrase")
            if phrase is not None and not (isinstance(phrase, str) and normalize_phrase(phrase)):
                self._refuse(f"`noun_phrase` is {phrase!r}; expected a text", where)
            if phrase is None and self.options.phrase_source == "noun_phrase":
                self._refuse(
                    "`noun_phrase` is missing; add it, or set `phrase_source: category` to ask for category names",
                    where,
                )
            phrases.append(phrase and normalize_phrase(phrase))
        return list(dict.fromkeys(p for p in phrases if p is not None))

    def _instance(self, annotation: dict, width: int, height: int, where: str) -> dict:
        try:
            counts = self._segmentation(annotation.get("segmentation"), width, height)
            area = mask_ops.mask_area(counts, height, width) if counts else 0.0
            if counts and area:
                bbox = mask_ops.mask_box_xywh(counts, height, width)
            else:
                if counts:
                    self._note("masks without a pixel: their boxes are used, their masks are not trained")
                counts, bbox = None, self._box(annotation.get("bbox"), width, height)
                area = bbox[2] * bbox[3]
        except (ValueError, TypeError) as error:
            self._refuse(str(error), where)
        self._compare_boxes(annotation.get("bbox"), bbox, counts, width, height, where)
        crowd = _is_crowd(annotation) and not self.crowds_are_instances
        return {"bbox": bbox, "segmentation": counts, "area": area, "is_crowd": crowd}

    def _compare_boxes(self, listed, found: list[float], counts: str | None, width: int, height: int, where: str):
        """Refuses a mask that is a speck of its listed box: polygons in fractions of the image, or of another size."""
        if counts is None or not isinstance(listed, list) or len(listed) != 4:
            return
        scale = width * height if self.normalized else 1
        area = listed[2] * listed[3] * scale
        if area > 64 and found[2] * found[3] < 0.01 * area:
            self._refuse(
                f"`segmentation` covers a box of {found[2]:g}×{found[3]:g} px, less than a hundredth of `bbox` {listed}; "
                "polygons must be in pixels, not in fractions of the image",
                where,
            )

    def _segmentation(self, segmentation, width: int, height: int) -> str | None:
        """The `counts` of a segmentation of any kind; `None` where there is none."""
        if segmentation is None or segmentation == [] or segmentation == {}:
            return None
        if isinstance(segmentation, dict):
            if not {"counts", "size"} <= segmentation.keys():
                raise ValueError(
                    f"`segmentation` has the keys {sorted(segmentation)}; an RLE needs `counts` and `size`"
                )
            counts, size = segmentation["counts"], segmentation["size"]
            if isinstance(counts, list):
                return mask_ops.uncompressed_to_counts(counts, size, height, width)
            if isinstance(counts, str):
                return mask_ops.check_compressed_counts(counts, size, height, width)
        elif isinstance(segmentation, list):
            return mask_ops.polygons_to_counts(segmentation, height, width)
        raise ValueError(
            f"`segmentation` is a {type(segmentation).__name__}; expected polygons [[x1, y1, …], …] or an RLE "
            '{"size": [height, width], "counts": …}'
        )

    def _box(self, bbox, width: int, height: int) -> list[float]:
        """A box `(x, y, w, h)` in px inside the image, for an instance without a mask."""
        if not isinstance(bbox, list) or len(bbox) != 4:
            raise ValueError(f"there is no mask and `bbox` is {bbox!r}; expected [x, y, w, h] in pixels")
        values = np.asarray(bbox, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError(f"`bbox` is {bbox}; it must be finite")
        if self.normalized:
            values = values * [width, height, width, height]
        low = values[:2].clip(0, [width, height])
        size = (values[:2] + values[2:]).clip(0, [width, height]) - low
        if min(size) <= 0:
            raise ValueError(f"`bbox` {bbox} has no area inside the {width}×{height} image; redraw it or remove it")
        return [float(v) for v in (*low, *size)]

    def check_positives(self, rows: list[dict]):
        """Refuses data that never shows what it asks for."""
        if not rows:
            reasons = f"; the first reason: {self.report.skipped[0]}" if self.report.skipped else ""
            self._refuse(f"no row can be used{reasons}")
        if not any(phrase["instances"] for row in rows for phrase in row["phrases"]):
            self._refuse(
                "no phrase has a single instance, so there is nothing to learn; check `category_id` and `phrase_map`, or "
                "whether the annotations were exported at all"
            )


def _is_crowd(annotation: dict) -> bool:
    """Whether an annotation is a crowd; tools write the flag as number, boolean or text."""
    flag = annotation.get("iscrowd", annotation.get("is_crowd", 0))
    return str(flag).strip().lower() in ("1", "1.0", "true")


def _boxes_are_normalized(annotations: list[dict]) -> bool:
    """SA-Co and noun-phrase files write fractions of the image; a file of pixel boxes has one value above 1 at least."""
    boxes = [a["bbox"] for a in annotations if isinstance(a.get("bbox"), list) and len(a["bbox"]) == 4]
    values = [v for box in boxes for v in box if isinstance(v, int | float)]
    return bool(values) and max(values) <= 1.0 + 1e-6
