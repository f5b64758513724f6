"""What every reader makes of its files: a record an image. `rows.py` turns records into rows."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..phrases.attributes import AttributeTemplates
from ..phrases.vocabulary import PhraseMap
from ..reading_report import Remark
from .images import ImageError


PHRASE_SOURCES = ("category", "noun_phrase", "both")
NOUN_PHRASES = ("open", "exhaustive", "closed")
MASK_VALUES = ("instances", "classes", "components")


@dataclass
class ReadOptions:
    """
    How files become rows.

    Attributes:
        phrase_source (`str`): `category`: the classes are a closed vocabulary, and one without an instance in an image is
            absent there; `noun_phrase`: each annotation's own phrase, absences unknown; `both`.
        phrase_map (`PhraseMap`): the user's names for classes.
        noun_phrases (`str`): what the data promise of noun phrases. `open`: other instances may be unlabelled;
            `exhaustive`: an image that has the phrase has all its instances labelled; `closed`: also, an image without
            the phrase does not show it, for every phrase of the file.
        class_name (`str`, *optional*): of all instances, where the source names none.
        class_names (`str`, *optional*): a file of names for classes that are numbers, see [`class_names_of`].
        class_attribute (`str`, *optional*): VIA: the attribute that holds the class.
        mask_values (`str`, *optional*): what the numbers in mask images are. `instances`: one object each; `classes`: all of a
            class at once; `components`: classes whose connected parts are objects.
        attributes (`AttributeTemplates`, *optional*): phrases of classes with attributes, beside those of classes.
        on_bad_rows (`str`): `error` stops at the first row that cannot be used, `skip` leaves it out and reports it.
        verify_images (`bool`): decode every image while reading, so that a damaged one is found before training.
        allow_outside_images (`bool`): read images that lie outside the data set's folders, see [`Split.roots`].
    """

    phrase_source: str = "category"
    phrase_map: PhraseMap = field(default_factory=PhraseMap)
    noun_phrases: str = "exhaustive"
    class_name: str | None = None
    class_names: str | None = None
    class_attribute: str | None = None
    mask_values: str | None = None
    attributes: AttributeTemplates | None = None
    on_bad_rows: str = "error"
    verify_images: bool = True
    allow_outside_images: bool = False

    def __post_init__(self):
        given = {"phrase_source": PHRASE_SOURCES, "noun_phrases": NOUN_PHRASES, "mask_values": (None, *MASK_VALUES)}
        for name, choices in given.items():
            if getattr(self, name) not in choices:
                listed = ", ".join(choice for choice in choices if choice)
                raise ValueError(f"`{name}` is {getattr(self, name)!r}; choose from {listed}")


@dataclass
class Shape:
    """
    One annotated object. Where it is says the first that is given of `mask`, `rle`, `polygons` and `box`; with none of them it is
    a point or a line: its phrases are in the image, and how much of it is not known.

    Attributes:
        where (`str`): names it in messages, such as `line 3`.
        label (*optional*): a key of `Split.labels`, its class.
        phrases (`list[str]`): noun phrases of its own, normalised, beside the class.
        attributes (`dict[str, str]`): such as `{"color": "red"}`.
        mask (`np.ndarray`, or a call that returns it): bool, of the image's size, or a piece of it whose upper left
            pixel lies at `corner`, `(x, y)`. A call is made when the shape is encoded, so that one mask of an image is
            in memory at a time.
        mask_size (`tuple[int, int]`, *optional*): width and height of the mask image that a piece was cut from, px; it
            must be the image's.
        rle (`dict`): COCO's, of any kind.
        polygons (`list[list[float]]`): parts `[x1, y1, x2, y2, …]`. box (`list[float]`): `(x, y, w, h)`. area: as listed, px.
        relative_polygons, relative_box (`bool`): they are fractions of the image, not pixels.
        is_crowd (`bool`): a region to ignore.
        exhaustive (`bool`): `False` where it does not tell its objects apart, or others of its kind may be unlabelled.
        problem (`str`, *optional*): why it cannot be used; the row is refused with these words.
    """

    where: str
    label: Hashable | None = None
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
    problem: str | None = None

    def with_mask(self) -> "Shape":
        """Return the same shape with its mask as an array; raises what the call that makes the mask raises."""
        return replace(self, mask=self.mask()) if callable(self.mask) else self


@dataclass
class Record:
    """
    One image and what is annotated in it.

    Attributes:
        example_id (`str`): unique in its split. where (`str`): names it in messages.
        image (`Path`, `bytes` or `ImageError`): the file, its content, or why there is none.
        shapes (`list[Shape]`, or a call that reads them).
        size (`tuple`, *optional*): `(width, height)` in px, as listed.
        absent (`list`, *optional*): labels that the source proves absent; `None` where the vocabulary is closed, so that every
            one without a shape is.
        not_exhaustive (`frozenset`): labels of which instances may be unlabelled.
    """

    example_id: str
    where: str
    image: Path | bytes | ImageError
    shapes: list[Shape] | Callable[[], list[Shape]]
    size: tuple | None = None
    absent: list[Hashable] | None = None
    not_exhaustive: frozenset = frozenset()

    def listed_shapes(self) -> list[Shape]:
        return self.shapes() if callable(self.shapes) else self.shapes


@dataclass
class Split:
    """
    One split, as a reader understood it.

    Attributes:
        source (`str`): the file or folder that was read.
        records (`list[Record]`).
        labels (`dict[Hashable, str]`): label -> the class's name, in the source's order. Whole numbers are kept as category ids.
        labels_were_found (`bool`): nothing declares the classes: they are those that shapes have, and another split's are too.
        phrases (`list[str]`): noun phrases that belong to a closed vocabulary.
        notes (`list[str]`): what was assumed; each is counted. remarks (`list[Remark]`): what is odd about single records.
        roots (`list[Path]`): folders that its images must lie in, unless `allow_outside_images`; without any,
            everywhere.
    """

    source: str
    records: list[Record]
    labels: dict[Hashable, str]
    labels_were_found: bool = False
    phrases: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    roots: list[Path] = field(default_factory=list)


def number_twins(split: Split) -> None:
    """Makes ids unique where records share one: an id keys random draws, cached features and results."""
    seen: Counter = Counter(record.example_id for record in split.records)
    twins: Counter = Counter()
    for record in split.records:
        name = record.example_id
        if seen[name] > 1:
            twins[name] += 1
            record.example_id = f"{name}#{twins[name]}"
    if twins:
        split.notes.append(
            f"{sum(twins.values())} images share their name with another; they are numbered, name#1, name#2"
        )


def join_parts(shapes: Iterable[tuple[Shape, Hashable | None]]) -> list[Shape]:
    """Polygons of one label and group are one object; a group `None` is none."""
    joined, groups = [], {}
    for shape, group in shapes:
        first = groups.setdefault((shape.label, group), shape) if group is not None else shape
        if first is not shape and first.polygons and shape.polygons and not shape.problem:
            first.polygons += shape.polygons
        else:
            joined.append(shape)
    return joined
