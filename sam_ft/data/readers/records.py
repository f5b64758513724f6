"""Records, the common result of all readers: one for each image. `rows.py` converts them to rows."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..image_entries import ImageEntry
from ..reading_report import Remark
from .images import ImageError


@dataclass
class Shape:
    """
    One annotated object.

    Its geometry is the first of `mask`, `rle`, `polygons` and `box` that is set. Without any, its phrases are present
    in the image, with an unknown extent.

    Attributes:
        where (`str`): Name of the object in messages, such as `line 3`.
        label (*optional*): Class of the object, a key of `Split.labels`.
        other_labels (`list`): Further classes of the object, keys of `Split.labels`.
        phrases (`list[str]`): Noun phrases of the object in addition to its class, normalized.
        attributes (`dict[str, str]`): Attributes, such as `{"color": "red"}`.
        mask (`np.ndarray`, or a function that returns it): bool, of the size of the image, or a piece of it. A
            function is called when the shape is encoded, so that only one mask of an image is in memory.
        corner (`tuple[int, int]`, *optional*): Position `(x, y)` of the upper left pixel of a piece, px.
        mask_size (`tuple[int, int]`, *optional*): Width and height of the mask image of a piece, px; must be the
            image's.
        rle (`dict`, *optional*): COCO RLE, compressed or uncompressed.
        polygons (`list[list[float]]`, *optional*): Parts `[x1, y1, x2, y2, …]`.
        box (`list[float]`, *optional*): `(x, y, w, h)`.
        area (`float`, *optional*): Listed area, px.
        relative_polygons (`bool`): Whether `polygons` are in fractions of the image instead of pixels.
        relative_box (`bool`): Whether `box` is in fractions of the image instead of pixels.
        is_crowd (`bool`): Whether the shape is a region to ignore.
        exhaustive (`bool`): `False` if the shape does not separate its objects, or others of its class may be
            unlabelled.
        unknown_extent (`str`, *optional*): Reason why the shape has no geometry. Default: it is a point or a line.
        problem (`str`, *optional*): Reason why the shape cannot be used; the error message of its row.
    """

    where: str
    label: Hashable | None = None
    other_labels: list[Hashable] = field(default_factory=list)
    phrases: list[str] = field(default_factory=list)
    attributes: dict[str, str] = field(default_factory=dict)
    mask: np.ndarray | Callable[[], np.ndarray] | None = None
    corner: tuple[int, int] | None = None
    mask_size: tuple[int, int] | None = None
    rle: dict | None = None
    polygons: list | None = None
    box: list[float] | None = None
    area: float | None = None
    relative_polygons: bool = False
    relative_box: bool = False
    is_crowd: bool = False
    exhaustive: bool = True
    unknown_extent: str | None = None
    problem: str | None = None

    def with_mask(self) -> "Shape":
        """Return the same shape with its mask as an array, computed by `mask` if that is a function."""
        return replace(self, mask=self.mask()) if callable(self.mask) else self


@dataclass
class Record:
    """
    One image and its annotations.

    Attributes:
        example_id (`str`): Id, unique in its split.
        where (`str`): Name of the record in messages.
        image (`Path`, `bytes`, `ImageEntry` or `ImageError`): The file, its content, a member of a file, which is read
            when it is requested, or the reason why it is missing.
        shapes (`list[Shape]`, or a function that returns them): The annotated objects.
        size (`tuple`, *optional*): Listed `(width, height)`, px.
        absent (`list`, *optional*): Labels that are verified absent; `None` for a closed vocabulary, in which every
            label without a shape is absent.
        not_exhaustive (`frozenset`): Labels of which instances may be unlabelled.
    """

    example_id: str
    where: str
    image: Path | bytes | ImageEntry | ImageError
    shapes: list[Shape] | Callable[[], list[Shape]]
    size: tuple | None = None
    absent: list[Hashable] | None = None
    not_exhaustive: frozenset = frozenset()

    @property
    def file(self) -> Path | None:
        """File that is or contains the image; `None` for an image inside the annotations, and for a missing one."""
        if isinstance(self.image, ImageEntry):
            return Path(self.image.file)
        return self.image if isinstance(self.image, Path) else None

    @property
    def image_name(self) -> str | None:
        """Name of the image file or member; `None` for an image inside the annotations, and for a missing one."""
        return Path(self.image.member).name if isinstance(self.image, ImageEntry) else self.file and self.file.name

    def load_image(self) -> Path | bytes:
        """
        Return the image file, or the content of the image.

        Raises:
            `ImageError`: If the image is a member of a file that cannot be read.
        """
        if not isinstance(self.image, ImageEntry):
            return self.image
        try:
            return self.image.load()
        except ValueError as error:
            raise ImageError(
                f"{error}. Put the file there, or set `on_bad_rows: skip` to leave such rows out"
            ) from error

    def load_shapes(self) -> list[Shape]:
        """Return the shapes, read by `shapes` if that is a function."""
        return self.shapes() if callable(self.shapes) else self.shapes


@dataclass
class Split:
    """
    Records of one split.

    Attributes:
        source (`str`): The file or folder that was read.
        records (`list[Record]`): One record for each image.
        labels (`dict[Hashable, str]`): Class name of each label, in the order of the source. Integer labels become
            category ids.
        has_inferred_labels (`bool`): Whether the classes are not declared but inferred from the shapes, so that those
            of other splits belong to the vocabulary too.
        has_final_phrases (`bool`): Whether the class names are phrases, which are read without a change.
        phrases (`list[str]`): Noun phrases of a closed vocabulary.
        notes (`list[str]`): Assumptions of the reader; equal notes are counted.
        remarks (`list[Remark]`): Inconsistencies of single records.
        roots (`list[Path]`): Folders that its images must lie in unless `allow_outside_images` is set; any folder if
            empty.
    """

    source: str
    records: list[Record]
    labels: dict[Hashable, str]
    has_inferred_labels: bool = False
    has_final_phrases: bool = False
    phrases: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    roots: list[Path] = field(default_factory=list)


def deduplicate_ids(split: Split) -> None:
    """
    Make the ids of records unique: an id is the key of random draws, cached features and results.

    Args:
        split (`Split`): Records that share an id get a number, `name#1`, `name#2`.
    """
    counts: Counter = Counter(record.example_id for record in split.records)
    numbers: Counter = Counter()
    for record in split.records:
        name = record.example_id
        if counts[name] > 1:
            numbers[name] += 1
            record.example_id = f"{name}#{numbers[name]}"
    if numbers:
        split.notes.append(
            f"{sum(numbers.values())} images share their name with another; they are numbered, name#1, name#2"
        )


def join_parts(shapes: Iterable[tuple[Shape, Hashable | None]]) -> list[Shape]:
    """
    Join the polygons of the same label and group to one object.

    Args:
        shapes (`Iterable[tuple[Shape, Hashable | None]]`): Shapes with their group; `None` is no group.

    Returns:
        `list[Shape]`: The objects.
    """
    joined, groups = [], {}
    for shape, group in shapes:
        first = groups.setdefault((shape.label, group), shape) if group is not None else shape
        if first is not shape and first.polygons and shape.polygons and not shape.problem:
            first.polygons += shape.polygons
        else:
            joined.append(shape)
    return joined


def join_labels(shapes: Iterable[tuple[Shape, int]]) -> list[Shape]:
    """
    Join the shapes of one object that differ only in their class.

    Args:
        shapes (`Iterable[tuple[Shape, int]]`): Shapes with the number of their object in the image.

    Returns:
        `list[Shape]`: The objects, in the order of their numbers. Shapes with a problem, or with the number but not
            the geometry of another, remain separate.
    """
    joined: list[tuple[int, Shape]] = []
    objects: dict[int, Shape] = {}
    for shape, number in shapes:
        first = objects.setdefault(number, shape)
        if first is not shape and not (shape.problem or first.problem) and _has_same_geometry(first, shape):
            first.other_labels.append(shape.label)
            first.phrases += shape.phrases
        else:
            joined.append((number, shape))
    return [shape for _, shape in sorted(joined, key=lambda pair: pair[0])]


def _has_same_geometry(first: Shape, second: Shape) -> bool:
    names = ("rle", "polygons", "box", "area", "is_crowd")
    return all(getattr(first, name) == getattr(second, name) for name in names)
