"""Conversion of records to rows: image sizes, encoded shapes, phrases of classes and absent phrases."""

from dataclasses import replace

from ...ops import masks as mask_ops
from ...options.data import ReadOptions
from ...utils.text import short_repr
from ..image_channels import encode_channels
from ..phrases.attributes import LabelledInstance, attribute_values
from ..reading_report import DataReport, Remark
from ..row_schema import MAX_INSTANCES, DatasetFormatError, too_many_instances
from .doubts import check_consistency
from .encoding import clip_box, encode_shape
from .image_roots import ImageRoots
from .images import ImageError, upright_size
from .label_phrases import name_labels
from .records import Record, Shape, Split


class RowMaker:
    """
    Conversion of the records of one split to rows.

    Args:
        split (`Split`): The records.
        options (`ReadOptions`): Options of the conversion.
    """

    def __init__(self, split: Split, options: ReadOptions):
        self.split, self.options, self.report = split, options, DataReport(split.source)
        self.roots = ImageRoots([] if options.allow_outside_images else split.roots)
        for note in split.notes:
            self._note(note)
        self.report.remark(*split.remarks)
        labels = name_labels(split.labels, options, are_final=split.has_final_phrases)
        self.phrase_of, self.ignored, self.report.category_ids = labels.phrase_of, labels.ignored, labels.category_ids
        for note in labels.notes:
            self._note(note)
        self.closed = dict.fromkeys(phrase for phrase in self.phrase_of.values() if phrase is not None)
        if options.phrase_source == "noun_phrase":
            self.closed = {}
        self.closed |= dict.fromkeys(split.phrases)
        shapes = (s for record in split.records if not callable(record.shapes) for s in record.shapes)
        labelled = (
            LabelledInstance(0, self.phrase_of[s.label], s.attributes) for s in shapes if self.phrase_of.get(s.label)
        )
        self.values = attribute_values(labelled) if options.attributes else {}
        if options.attributes:
            for note in options.attributes.compare(self.values):
                self._note(note)

    def _note(self, message: str):
        self.report.notes[message] += 1

    def _refuse(self, message: str, record: str | None = None):
        raise DatasetFormatError(message, file=self.split.source, record=record)

    def measure(self, record: Record) -> tuple[int, int] | ImageError:
        """
        Return the size of a record's image, and check it against the listed size.

        Args:
            record (`Record`): One image.

        Returns:
            `tuple[int, int]` or `ImageError`: Width and height of the upright image, px, or the reason why it cannot
                be used.
        """
        if isinstance(record.image, ImageError):
            return record.image
        try:
            if record.file is not None:
                self.roots.check(record.file)
            width, height, is_rotated = upright_size(
                record.load_image(), decode=self.options.verify_images, channels=self.options.image_channels
            )
        except ImageError as error:
            return error
        listed_size = record.size
        if listed_size is None:
            return width, height
        if not all(isinstance(side, int | float | None) for side in listed_size):
            return ImageError(
                f"`width`×`height` is {short_repr(listed_size[0])}×{short_repr(listed_size[1])}; expected numbers"
            )
        if None not in listed_size and tuple(listed_size) != (width, height):
            why = " (its EXIF orientation swaps the sides)" if is_rotated else ""
            name = "its image" if isinstance(record.image, bytes) else f"the upright image {record.image}"
            return ImageError(
                f"`width`×`height` is {listed_size[0]}×{listed_size[1]}, but {name} is {width}×{height}{why}. Its "
                "annotations would have wrong positions: save the image upright at the listed size, or export again"
            )
        return width, height

    def row(self, record: Record, size: tuple[int, int] | ImageError) -> dict:
        """
        Convert one record.

        Args:
            record (`Record`): The image and its annotations.
            size (`tuple[int, int]` or `ImageError`): Result of [`measure`].

        Returns:
            `dict`: The row, in the schema of `row_schema.py`.

        Raises:
            `DatasetFormatError`: If the record cannot be used.
        """
        if isinstance(size, ImageError):
            self._refuse(str(size), record.where)
        members = self._absent(record)
        not_exhaustive = {self.phrase_of[label] for label in record.not_exhaustive if label in self.phrase_of}
        shapes = self._load_shapes(record)
        instances, labelled = self._add_shapes(shapes, record.where, size, members, not_exhaustive)
        open_phrases = self.options.noun_phrases == "open"
        is_closed = record.absent is None and not not_exhaustive and not any(map(self._is_ignored, shapes))
        phrases = [
            {
                "text": text,
                "instances": indices,
                "exhaustive": text not in not_exhaustive and (text in self.closed or not open_phrases),
            }
            for text, indices in members.items()
            if indices or text not in not_exhaustive  # Otherwise the phrase is neither present nor absent.
        ]
        return {
            "example_id": record.example_id,
            "image": self._image_value(record),
            "width": size[0],
            "height": size[1],
            "instances": instances,
            "phrases": phrases + self._attribute_phrases(labelled, members.keys(), is_closed=is_closed),
        }

    def _load_shapes(self, record: Record) -> list[Shape]:
        """Return the shapes of a record, those of regions to ignore last, when all phrases of the image are known."""
        try:
            shapes = sorted(record.load_shapes(), key=self._is_ignored)
        except (ValueError, OSError) as error:
            self._refuse(str(error), record.where)
        if len(shapes) > MAX_INSTANCES:
            self._refuse(too_many_instances(len(shapes)), record.where)
        return shapes

    def _add_shapes(
        self,
        shapes: list[Shape],
        record_name: str,
        size: tuple[int, int],
        members: dict[str, list[int]],
        not_exhaustive: set[str],
    ) -> tuple[list[dict], list[LabelledInstance]]:
        """
        Convert the shapes of a record to instances, and add their indices to their phrases.

        Args:
            shapes (`list[Shape]`): Result of [`_load_shapes`].
            record_name (`str`): Name of the record in messages.
            size (`tuple[int, int]`): Width and height of the image, px.
            members (`dict[str, list[int]]`): Indices of the instances of each phrase, added to.
            not_exhaustive (`set[str]`): Phrases of which instances may be unlabelled, added to.

        Returns:
            `tuple[list[dict], list[LabelledInstance]]`: The instances, and those with a class.
        """
        instances, labelled, with_unknown_class = [], [], False
        for shape in shapes:
            where = f"{record_name}, {shape.where}"
            try:
                phrases = self._phrases(shape, where)
                if self._is_ignored(shape):
                    shape, phrases = replace(shape, is_crowd=True), list(members)
                if not phrases:
                    continue
                instance = self._instance(shape, *size, where)
            except DatasetFormatError as error:
                if self.options.on_bad_rows != "skip":
                    raise
                self.report.dropped.append(str(error))
                not_exhaustive.update(self._texts_of(shape))
                is_unknown = shape.label not in self.phrase_of and not shape.phrases
                with_unknown_class |= is_unknown or self._is_ignored(shape)
                continue
            if instance is None or not shape.exhaustive:
                not_exhaustive.update(phrases)
            for phrase in phrases:
                members.setdefault(phrase, []).extend([] if instance is None else [len(instances)])
            if instance is not None and self.phrase_of.get(shape.label) is not None:
                # The attributes of the objects in a crowd are unknown.
                attributes = {} if shape.is_crowd else shape.attributes
                labelled.append(LabelledInstance(len(instances), self.phrase_of[shape.label], attributes))
            instances += [] if instance is None else [instance]
        if with_unknown_class:  # The object that was left out may belong to any of the phrases.
            not_exhaustive.update(members)
        return instances, labelled

    def _attribute_phrases(self, labelled: list[LabelledInstance], class_phrases, *, is_closed: bool) -> list[dict]:
        """Return the phrases of classes with attributes; equal texts of two templates are one phrase."""
        if self.options.attributes is None:
            return []
        phrases: dict[str, dict] = {}
        for phrase in self.options.attributes.phrases(labelled, self.values):
            merged = phrases.setdefault(phrase["text"], phrase)
            merged["instances"] = sorted({*merged["instances"], *phrase["instances"]})
            merged["exhaustive"] &= phrase["exhaustive"]
        return [
            phrase | {"exhaustive": phrase["exhaustive"] and is_closed}
            for text, phrase in phrases.items()
            if text not in class_phrases and (phrase["instances"] or is_closed)
        ]

    def _image_value(self, record: Record) -> str | dict:
        """Return the path or the content of a record's image; its content with the chosen channels."""
        try:
            content = record.load_image()
            if self.options.image_channels:
                content = encode_channels(content, self.options.image_channels)
        except ValueError as error:
            self._refuse(str(error), record.where)
        return {"bytes": content, "path": record.image_name} if isinstance(content, bytes) else str(content)

    def _absent(self, record: Record) -> dict[str, list[int]]:
        """Return the phrases that are absent unless a shape of the image has them, each with no instances."""
        if record.absent is None:
            return {phrase: [] for phrase in self.closed}
        return {self.phrase_of[label]: [] for label in record.absent if self.phrase_of.get(label) is not None}

    def _phrases(self, shape: Shape, where: str) -> list[str]:
        if shape.problem:
            self._refuse(shape.problem, where)
        if shape.label is not None and shape.label not in self.phrase_of:
            classes = ", ".join(map(repr, list(self.phrase_of)[:10])) or "none"
            self._refuse(
                f"the class {short_repr(shape.label)} is not among the classes of the data set ({classes}); "
                "correct it, or declare the class",
                where,
            )
        return self._texts_of(shape)

    def _is_ignored(self, shape: Shape) -> bool:
        """Return whether a shape is a region to ignore, by its class; a noun phrase makes it an object."""
        return bool(self.ignored) and not shape.phrases and shape.label in self.ignored

    def _texts_of(self, shape: Shape) -> list[str]:
        """Return the phrases of a shape, of which the first is that of its class if the class is known."""
        texts = [*map(self.phrase_of.get, (shape.label, *shape.other_labels)), *shape.phrases]
        return list(dict.fromkeys(text for text in texts if text is not None))

    def _instance(self, shape: Shape, width: int, height: int, where: str) -> dict | None:
        try:
            shape = shape.with_mask()
            counts = encode_shape(shape, width, height)
            area = mask_ops.mask_area(counts, height, width) if counts else 0.0
            if counts and area:
                box = mask_ops.mask_box_xywh(counts, height, width)
                self.report.remark(*check_consistency(shape, box, area, (width, height), where))
            elif shape.box is None:
                reason = "its mask has no pixel inside the image" if counts else shape.unknown_extent
                reason = reason or "it is a point or a line"
                detail = f"{reason}; its phrases are not exhaustive in this image"
                if shape.exhaustive:
                    self.report.remark(Remark("annotation without an area", where, detail))
                return None
            else:
                if counts:
                    self.report.remark(Remark("mask without a pixel", where, "its box is used, no mask is trained"))
                counts, box = None, clip_box(shape, width, height)
                area = box[2] * box[3]
        except (ValueError, TypeError, OverflowError, OSError, RecursionError) as error:
            self._refuse(str(error), where)
        return {"bbox": box, "segmentation": counts, "area": area, "is_crowd": shape.is_crowd}

    def check_positives(self):
        """
        Refuse data without a row, or without an instance of any phrase, after all rows were counted.

        Raises:
            `DatasetFormatError`: Contains the first reason why rows were left out.
        """
        missing = sum(isinstance(record.image, ImageError) for record in self.split.records)
        if not self.report.num_images and missing and missing == len(self.split.records):
            self._refuse(f"all {missing} listed images are missing; the first: {self.split.records[0].image}")
        if not self.report.num_images:
            self._refuse(f"no row can be used{self._first_reason()}")
        if not self.report.num_present:
            self._refuse(
                "no phrase has a single instance, so there is nothing to train on; check the classes and "
                f"`phrase_map`, or whether annotations were exported{self._first_reason()}"
            )

    def _first_reason(self) -> str:
        for messages, name in ((self.report.skipped, "rows"), (self.report.dropped, "annotations")):
            if messages:
                return f". {len(messages)} {name} cannot be used; the first: {messages[0]}"
        return ""
