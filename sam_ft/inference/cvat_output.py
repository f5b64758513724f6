"""CVAT output: `cvat/annotations.xml` in the format `CVAT for images 1.1`, written image by image."""

import os
import re
import shutil
import tempfile
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from ..data.image_entries import ImageEntry
from ..ops.masks import decode_mask_box
from ..reporting.phrase_colors import assign_colors, css_color
from .output_target import OutputTarget
from .predictor import ImagePrediction


_NOT_IN_XML = re.compile("[^\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_HEAD = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <name>{name}</name>
      <mode>annotation</mode>
      <labels>
"""
# A label of the type `any` is drawn as masks and as boxes.
_LABEL = "        <label><name>{name}</name><color>{color}</color><type>any</type></label>\n"
_END_OF_LABELS = """      </labels>
    </task>
  </meta>
"""


class CvatOutput:
    """
    Writer of `cvat/annotations.xml`, a context manager: masks as run lengths, detections without a mask as boxes.

    The document is collected in a temporary file, so that the memory does not grow with the images, and equal
    predictions result in equal bytes. Scores are left out, because the format has no field for them.

    Args:
        target (`OutputTarget`): Folder and labels; the description is the name of the task in the file.

    Raises:
        `ValueError`: If the file was not written by a prediction.
    """

    FILES = ("cvat/annotations.xml",)

    def __init__(self, target: OutputTarget):
        self.target = target
        self._num_images = 0

    def __enter__(self) -> "CvatOutput":
        folder = self.target.owned.folder
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n", dir=folder)  # noqa: SIM115
        self._file.write(_HEAD.format(name=escape(_to_text(self.target.description))))
        for phrase, color in assign_colors(self.target.phrases).items():
            self._file.write(_LABEL.format(name=escape(_to_text(phrase)), color=css_color(color)))
        self._file.write(_END_OF_LABELS)
        return self

    def __exit__(self, kind, _error, _traceback) -> None:
        with self._file:
            if kind is None and self._num_images:
                self._file.write("</annotations>\n")
                self.target.owned.write(self.FILES[0], self._copy, self.target.argument)

    def add(self, image: ImageEntry, prediction: ImagePrediction) -> None:
        """Add the prediction of an image."""
        name = Path(os.path.relpath(image.path, self.target.root)).as_posix()
        attributes = {"id": self._num_images, "name": name, "width": prediction.width, "height": prediction.height}
        self._num_images += 1
        self._file.write(f"  <image{_to_xml(attributes)}>\n")
        for phrase, detections in prediction.detections.items():
            for detection in detections:
                tag, shape = _to_shape(detection, prediction)
                if shape:
                    common = {"label": phrase, "source": "auto", "occluded": 0}
                    self._file.write(f'    <{tag}{_to_xml(common | shape)} z_order="0"/>\n')
        self._file.write("  </image>\n")

    def _copy(self, file: Path) -> None:
        self._file.seek(0)
        with open(file, "w", encoding="utf-8", newline="\n") as target:
            shutil.copyfileobj(self._file, target, 1 << 20)


def _to_xml(attributes: dict) -> str:
    return "".join(f" {name}={quoteattr(_to_text(value))}" for name, value in attributes.items())


def _to_text(value) -> str:
    """Convert to a text without the characters that XML cannot contain, which become their escapes."""
    return _NOT_IN_XML.sub(lambda match: match[0].encode("unicode_escape").decode(), str(value))


def _to_shape(detection: dict, prediction: ImagePrediction) -> tuple[str, dict]:
    """Return tag and attributes of a shape; no attributes for one without pixels, which CVAT cannot draw."""
    if "segmentation" in detection:
        counts = detection["segmentation"]["counts"]
        runs, (left, top, width, height) = encode_cvat_mask(counts, prediction.height, prediction.width)
        shape = {"rle": ", ".join(map(str, runs)), "left": left, "top": top, "width": width, "height": height}
        return "mask", shape if width else {}
    corners = clip_corners(detection["bbox"], prediction.height, prediction.width)
    shape = {name: f"{value:.2f}" for name, value in zip(("xtl", "ytl", "xbr", "ybr"), corners, strict=True)}
    return "box", shape if shape["xtl"] != shape["xbr"] and shape["ytl"] != shape["ybr"] else {}


def clip_corners(bbox: list[float], height: int, width: int) -> tuple[float, float, float, float]:
    """
    Convert a box to its corners inside the image.

    Args:
        bbox (`list[float]`): Box `(x, y, w, h)`, px.
        height (`int`): Height of the image, px.
        width (`int`): Width of the image, px.

    Returns:
        `tuple[float, float, float, float]`: Left, top, right and bottom, px.
    """
    x, y, w, h = bbox
    left, right = (min(max(value, 0), width) for value in (x, x + w))
    top, bottom = (min(max(value, 0), height) for value in (y, y + h))
    return left, top, right, bottom


def encode_cvat_mask(counts: str, height: int, width: int) -> tuple[list[int], tuple[int, int, int, int]]:
    """
    Encode a mask as CVAT does: run lengths row by row inside its box, background first.

    Args:
        counts (`str`): The `counts` of a compressed COCO RLE.
        height (`int`): Height of the image, px.
        width (`int`): Width of the image, px.

    Returns:
        `tuple[list[int], tuple[int, int, int, int]]`: Run lengths and the box `(left, top, width, height)`, px; an
        empty mask has a box without pixels.
    """
    mask, left, top = decode_mask_box(counts, height, width)
    pixels = mask.ravel()
    starts = np.flatnonzero(np.diff(pixels, prepend=False))
    return np.diff(starts, prepend=0, append=len(pixels)).tolist(), (left, top, mask.shape[1], mask.shape[0])
