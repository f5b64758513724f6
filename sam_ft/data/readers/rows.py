"""Records of any reader to rows: images measured, shapes encoded, classes named, absences written down."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ...ops import masks as mask_ops
from ..attributes import Thing, attribute_values
from ..example import DatasetFormatError, validate_example
from ..report import DataReport, Remark
from ..vocabulary import name_phrases
from .doubts import doubts
from .images import ImageError, upright_size
from .records import ReadOptions, Record, Shape, Split


def make_rows(split: Split, options: ReadOptions) -> tuple[list[dict], DataReport]:
    """
    All rows of a split, in its order.

    Returns:
        `tuple[list[dict], DataReport]`: rows of `example.py`, their `image` a path or `{"bytes": …}`, and what was understood.

    Raises:
        `DatasetFormatError`: naming source, record and field: where, with `on_bad_rows: error`, a row cannot be used, and where
            no phrase has an instance.
    """
    maker = RowMaker(split, options)
    with ThreadPoolExecutor(max_workers=4) as pool:  # Pillow decodes outside the interpreter's lock
        sizes = pool.map(maker.measure, split.records)
        rows = list(maker.rows(zip(split.records, sizes, strict=True)))
    maker.check_positives(rows)
    return rows, maker.report


class RowMaker:
    """
    Makes the rows of one split.

    Args:
        split (`Split`), options (`ReadOptions`).
    """

    def __init__(self, split: Split, options: ReadOptions):
        self.split, self.options, self.report = split, options, DataReport(split.source)
        for note in split.notes:
            self._note(note)
        self.report.remark(*split.remarks)
        self.phrase_of = self._name_labels()
        self.closed = dict.fromkeys(phrase for phrase in self.phrase_of.values() if phrase is not None)
        if options.phrase_source == "noun_phrase":
            self.closed = {}
        self.closed |= dict.fromkeys(split.phrases)
        shapes = (s for record in split.records if not callable(record.shapes) for s in record.shapes)
        named = (Thing(0, self.phrase_of[s.label], s.attributes) for s in shapes if self.phrase_of.get(s.label))
        self.values = attribute_values(named) if options.attributes else {}
        if options.attributes:
            for note in options.attributes.compare(self.values):
                self._note(note)

    def _note(self, message: str):
        self.report.notes[message] += 1

    def _refuse(self, message: str, record: str | None = None):
        raise DatasetFormatError(message, file=self.split.source, record=record)

    def _name_labels(self) -> dict:
        """Label -> phrase, `None` where the phrase map drops it."""
        names, phrase_map = self.split.labels, self.options.phrase_map
        phrases = name_phrases(list(names.values()), phrase_map)
        unknown = set(phrase_map.names) - set(names.values())
        if unknown and self.options.phrase_source != "noun_phrase":
            self._note(f"the phrase map names {', '.join(map(repr, sorted(unknown)))}, which this file does not have")
        result = {}
        for label, name in names.items():
            phrase = result[label] = phrases[name]
            shown = repr(name) if label == name else f"{label} {name!r}"
            if phrase is None:
                self._note(f"category {name!r} is dropped by the phrase map")
            elif phrase in self.report.category_ids:
                self._note(f"category {shown} has the phrase {phrase!r} of another; merged")
            else:
                self.report.category_ids[phrase] = label
                if phrase != name:
                    self._note(f"category {name!r} is asked as {phrase!r}")
        return result

    def measure(self, record: Record) -> tuple[int, int] | ImageError:
        """Upright size of a record's image; runs in a thread, so a failure is returned."""
        if isinstance(record.image, ImageError):
            return record.image
        try:
            width, height, swapped = upright_size(record.image, decode=self.options.verify_images)
        except ImageError as error:
            return error
        listed = record.size
        if listed is None:
            return width, height
        if not all(isinstance(side, int | float | None) for side in listed):
            return ImageError(f"`width`×`height` is {listed[0]!r}×{listed[1]!r}; expected numbers")
        if None not in listed and tuple(listed) != (width, height):
            why = " (its EXIF orientation swaps the sides)" if swapped else ""
            name = "its image" if isinstance(record.image, bytes) else f"the upright image {record.image}"
            return ImageError(
                f"`width`×`height` is {listed[0]}×{listed[1]}, but {name} is {width}×{height}{why}. Its annotations would land in "
                "the wrong place: save the image upright at the listed size, or export again"
            )
        return width, height

    def rows(self, measured) -> Iterator[dict]:
        """Rows of pairs (record, what `measure` said of it)."""
        for record, size in measured:
            try:
                row = self.row(record, size)
                validate_example(row, self.split.source)
            except DatasetFormatError as error:
                if self.options.on_bad_rows != "skip":
                    raise
                self.report.skipped.append(str(error))
                continue
            self.report.count(row)
            yield row

    def row(self, record: Record, size: tuple[int, int] | ImageError) -> dict:
        """
        Raises:
            `DatasetFormatError`: where the record cannot be used.
        """
        if isinstance(size, ImageError):
            self._refuse(str(size), record.where)
        instances, things, members, unsure = [], [], self._absent(record), set()
        unsure |= {self.phrase_of[label] for label in record.not_exhaustive if label in self.phrase_of}
        try:
            shapes = record.listed_shapes()
        except (ValueError, OSError) as error:
            self._refuse(str(error), record.where)
        for shape in shapes:
            where = f"{record.where}, {shape.where}"
            phrases = self._phrases(shape, where)
            if not phrases:
                continue
            instance = self._instance(shape, *size, where)
            if instance is None or not shape.exhaustive:
                unsure.update(phrases)
            for phrase in phrases:
                members.setdefault(phrase, []).extend([] if instance is None else [len(instances)])
            if instance is not None and self.phrase_of.get(shape.label) is not None:
                # of a crowd nothing is known: any phrase of its class may be meant
                attributes = {} if shape.is_crowd else shape.attributes
                things.append(Thing(len(instances), self.phrase_of[shape.label], attributes))
            instances += [] if instance is None else [instance]
        open_phrases = self.options.noun_phrases == "open"
        phrases = [
            {
                "text": text,
                "instances": indices,
                "exhaustive": text not in unsure and (text in self.closed or not open_phrases),
            }
            for text, indices in members.items()
            if indices or text not in unsure  # else it is neither present nor absent
        ]
        return {
            "example_id": record.example_id,
            "image": {"bytes": record.image, "path": None} if isinstance(record.image, bytes) else str(record.image),
            "width": size[0],
            "height": size[1],
            "instances": instances,
            "phrases": phrases + self._attribute_phrases(things, record, members.keys(), unsure),
        }

    def _attribute_phrases(self, things: list[Thing], record: Record, taken, unsure: set[str]) -> list[dict]:
        """Phrases of classes with attributes; two templates that say the same are one phrase."""
        if self.options.attributes is None:
            return []
        phrases: dict[str, dict] = {}
        for phrase in self.options.attributes.phrases(things, self.values):
            same = phrases.setdefault(phrase["text"], phrase)
            same["instances"] = sorted({*same["instances"], *phrase["instances"]})
            same["exhaustive"] &= phrase["exhaustive"]
        closed = record.absent is None and not unsure
        return [
            phrase | {"exhaustive": phrase["exhaustive"] and closed}
            for text, phrase in phrases.items()
            if text not in taken and (phrase["instances"] or closed)
        ]

    def _absent(self, record: Record) -> dict[str, list[int]]:
        """Phrase -> its instances, for all whose absence the source proves unless a shape shows them."""
        if record.absent is None:
            return {phrase: [] for phrase in self.closed}
        return {self.phrase_of[label]: [] for label in record.absent if self.phrase_of.get(label) is not None}

    def _phrases(self, shape: Shape, where: str) -> list[str]:
        if shape.problem:
            self._refuse(shape.problem, where)
        phrases = list(shape.phrases)
        if shape.label is not None:
            if shape.label not in self.phrase_of:
                known = ", ".join(map(repr, list(self.phrase_of)[:10])) or "none"
                self._refuse(f"the class {shape.label!r} is not among the data set's (known: {known})", where)
            phrases.insert(0, self.phrase_of[shape.label])
        return list(dict.fromkeys(p for p in phrases if p is not None))

    def _instance(self, shape: Shape, width: int, height: int, where: str) -> dict | None:
        try:
            counts = _counts(shape, width, height)
            area = mask_ops.mask_area(counts, height, width) if counts else 0.0
            if counts and area:
                box = mask_ops.mask_box_xywh(counts, height, width)
                self.report.remark(*doubts(shape, box, area, (width, height), where))
            elif shape.box is None:
                drawn = "its mask has no pixel inside the image" if counts else "it is a point or a line"
                detail = f"{drawn}; its phrases are not exhaustive in this image"
                if shape.exhaustive:
                    self.report.remark(Remark("annotation without an area", where, detail))
                return None
            else:
                if counts:
                    self.report.remark(Remark("mask without a pixel", where, "its box is used, no mask is trained"))
                counts, box = None, _clipped_box(shape, width, height)
                area = box[2] * box[3]
        except (ValueError, TypeError, OverflowError) as error:
            self._refuse(str(error), where)
        return {"bbox": box, "segmentation": counts, "area": area, "is_crowd": shape.is_crowd}

    def check_positives(self, rows: list[dict]):
        """Refuses data that never shows what it asks for."""
        missing = sum(isinstance(record.image, ImageError) for record in self.split.records)
        if not rows and missing and missing == len(self.split.records):
            self._refuse(
                f"none of the {missing} images that it lists is there; the first: {self.split.records[0].image}"
            )
        if not rows:
            self._refuse(f"no row can be used{self._first_reason()}")
        if not any(phrase["instances"] for row in rows for phrase in row["phrases"]):
            self._refuse(
                "no phrase has a single instance, so there is nothing to learn; check the classes and `phrase_map`, or whether the "
                f"annotations were exported at all{self._first_reason()}"
            )

    def _first_reason(self) -> str:
        skipped = self.report.skipped
        return f". {len(skipped)} rows cannot be used; the first: {skipped[0]}" if skipped else ""


def _counts(shape: Shape, width: int, height: int) -> str | None:
    """The `counts` of a shape of any kind; `None` where it has a box alone."""
    if shape.mask is not None and shape.corner is not None:
        return mask_ops.encode_mask(_pasted(shape.mask, *shape.corner, width, height))
    if shape.mask is not None:
        if shape.mask.shape != (height, width):
            raise ValueError(
                f"its mask is {shape.mask.shape[1]}×{shape.mask.shape[0]} px, its image {width}×{height}; both must agree"
            )
        return mask_ops.encode_mask(shape.mask)
    if shape.rle is not None:
        return mask_ops.rle_to_counts(shape.rle, height, width)
    if shape.polygons is not None:
        return mask_ops.polygons_to_counts(_in_pixels(shape, width, height), height, width)
    return None


def _pasted(piece: np.ndarray, x: int, y: int, width: int, height: int) -> np.ndarray:
    """A piece of a mask on an empty one; what lies outside the image is cut off."""
    whole = np.zeros((height, width), dtype=bool)
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + piece.shape[1], width), min(y + piece.shape[0], height)
    if left < right and top < bottom:
        whole[top:bottom, left:right] = piece[top - y : bottom - y, left - x : right - x]
    return whole


def _in_pixels(shape: Shape, width: int, height: int) -> list:
    if not shape.relative_polygons:
        return shape.polygons
    return [[v * (height if i % 2 else width) for i, v in enumerate(part)] for part in shape.polygons]


def _clipped_box(shape: Shape, width: int, height: int) -> list[float]:
    """A box `(x, y, w, h)` in px inside the image, for an instance without a mask."""
    if not isinstance(shape.box, list) or len(shape.box) != 4:
        raise ValueError(f"there is no mask and `bbox` is {shape.box!r}; expected [x, y, w, h] in pixels")
    values = np.asarray(shape.box, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"`bbox` is {shape.box}; it must be finite")
    if shape.relative_box:
        values = values * [width, height, width, height]
    low = values[:2].clip(0, [width, height])
    size = (values[:2] + values[2:]).clip(0, [width, height]) - low
    if min(size) <= 0:
        raise ValueError(f"`bbox` {shape.box} has no area inside the {width}×{height} image; redraw it or remove it")
    return [float(v) for v in (*low, *size)]
