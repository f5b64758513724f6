"""Pictures of rows and of faulty records: as they are, enlarged around a defect, and as the input of the model."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from ..data.row_schema import open_image_value, to_rgb
from ..data.samples.sample import Sample
from ..data.validation.faulty_records import FaultyRecord
from ..data.validation.inspection import Inspection
from ..ops.boxes import box_cxcywh_to_xyxy
from ..ops.masks import encode_mask
from .comparisons import truth_of
from .crops import Window, draw_crop, window_around
from .pictures import Instance, Panel, draw_instances, draw_marks


ERRORS = (ValueError, OSError)  # of an image that cannot be decoded, or a row that is too large for a sample
_MIN_SHARE = 0.08  # of the image's long side; a smaller defect is enlarged
_MIN_DETAIL = 48  # px of the enlarged part of the image
_OUTLINE_COLOR = (224, 49, 49)


class RowPictures:
    """
    Pictures of the rows of an inspection.

    Args:
        inspection (`Inspection`): The rows of each split.
        colors (`dict[str, tuple[int, int, int]]`): RGB colour of each phrase.
        make_sample (`Callable[[str, int], Sample]`): Function that makes the model's input of a split and an index.
    """

    def __init__(
        self,
        inspection: Inspection,
        colors: dict[str, tuple[int, int, int]],
        make_sample: Callable[[str, int], Sample],
    ):
        self.splits, self.colors, self.make_sample = inspection.splits, colors, make_sample
        self._without_images = {split: rows.remove_columns("image") for split, rows in self.splits.items()}
        self._samples: dict[tuple[str, int], tuple[Panel, list[str], list[str]]] = {}
        self._indices = {
            split: {name: i for i, name in enumerate(rows["example_id"][:])} for split, rows in self.splits.items()
        }

    def index_of(self, split: str, example_id: str | None) -> int | None:
        """Return the index of a row of a split; `None` if there is no such row."""
        return self._indices.get(split, {}).get(example_id)

    def draw_row(
        self, split: str, index: int, marked: tuple[int, ...] = (), boxes: list[list[float]] = ()
    ) -> tuple[list[Panel], list[str]]:
        """
        Draw a row, and a defect of it that is small in a second picture.

        Args:
            split (`str`): Split of the row.
            index (`int`): Index of the row.
            marked (`tuple[int, ...]`): Indices of instances that get a frame.
            boxes (`list[list[float]]`): Further boxes `(x, y, w, h)` that get a frame, px.

        Returns:
            `tuple[list[Panel], list[str]]`: Captions and pictures, and the phrases that are present.
        """
        row = self._without_images[split][index]
        instances, size = truth_of(row), (row["width"], row["height"])
        image = to_rgb(self.splits[split][index]["image"])
        marks = [*boxes, *(row["instances"][i]["bbox"] for i in marked)]
        panels = [("original", draw_instances(image, instances, self.colors, "", marks=marks))]
        window = _detail_window(marks, size)
        if window is not None:
            panels.append(("detail", self._draw_detail(image, instances, marks[0], window)))
        return panels, [phrase["text"] for phrase in row["phrases"] if phrase["instances"]]

    def _draw_detail(
        self,
        image: Image.Image,
        instances: list[Instance],
        mark: list[float],
        window: Window,
    ) -> Image.Image:
        return draw_crop(image, instances, self.colors, window, [mark])

    def draw_sample(self, split: str, index: int) -> tuple[Panel, list[str], list[str]]:
        """
        Draw the model's input.

        Args:
            split (`str`): Split of the row.
            index (`int`): Index of the row.

        Returns:
            `tuple[Panel, list[str], list[str]]`: Caption and picture, the present phrases with their number of
                instances, and the absent phrases.
        """
        if (split, index) not in self._samples:
            self._samples[split, index] = self._draw_sample(self.make_sample(split, index))
        return self._samples[split, index]

    def _draw_sample(self, sample: Sample) -> tuple[Panel, list[str], list[str]]:
        image = Image.fromarray(sample.image.permute(1, 2, 0).contiguous().numpy())
        boxes = box_cxcywh_to_xyxy(sample.boxes) * image.width
        drawn = []
        for phrase in sample.phrases:
            for i in phrase.instances:
                x1, y1, x2, y2 = boxes[i].tolist()
                has_mask = sample.masks is not None and sample.has_mask[i]
                counts = encode_mask(np.asarray(sample.masks[i])) if has_mask else None
                drawn.append((phrase.text, counts, [x1, y1, x2 - x1, y2 - y1], None))
        colors = {phrase.text: self.colors.get(phrase.text, (200, 200, 200)) for phrase in sample.phrases}
        picture = draw_instances(image, drawn, colors, "")
        present = [f"{phrase.text} ({len(phrase.instances)})" for phrase in sample.phrases if phrase.instances]
        absent = [phrase.text for phrase in sample.phrases if not phrase.instances]
        return ("model input", picture), present, absent


def draw_record(record: FaultyRecord) -> Panel:
    """
    Draw the image and the listed outlines of a record that cannot be used.

    Args:
        record (`FaultyRecord`): The record, with an image file.

    Returns:
        `Panel`: Caption and picture.
    """
    image = to_rgb(open_image_value(record.image))
    drawn = image.copy()
    draw = ImageDraw.Draw(drawn)
    for outline in record.outlines:
        points = list(zip(outline[::2], outline[1::2], strict=True))
        draw.line([*points, points[0]], fill=_OUTLINE_COLOR, width=max(max(image.size) // 240, 1))
    picture = draw_instances(drawn, [], {}, "")
    return "as listed in the file", draw_marks(picture, picture.width / image.width, record.boxes)


def _detail_window(marks: list[list[float]], size: tuple[int, int]) -> Window | None:
    """Return the part `(x1, y1, x2, y2)` of an image around its first mark; `None` if the mark is large."""
    if not marks:
        return None
    w, h = marks[0][2:]
    if max(w, h) >= _MIN_SHARE * max(size) or max(size) <= 2 * _MIN_DETAIL:
        return None
    return window_around(marks[0], size, min(max(6 * max(w, h), _MIN_DETAIL), *size))
