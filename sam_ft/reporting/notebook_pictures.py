"""Pictures in the output of a notebook cell, as JPEGs of a few dozen KB, so that the saved notebook stays small."""

import io
from pathlib import Path

from PIL import Image

from .pictures import tile


MAX_BYTES = 60_000  # of one picture in a notebook
_QUALITIES = (85, 75, 65, 50, 40)  # of the JPEG, tried in this order
_SHRINK = 0.85  # of both sides of a picture that is too large at the lowest quality


class NotebookPicture:
    """
    Picture that Jupyter shows where an object of this class is the result of a cell.

    Args:
        picture (`PIL.Image.Image`): RGB image.
    """

    def __init__(self, picture: Image.Image):
        self.picture = picture

    def _repr_jpeg_(self) -> bytes:
        """Return a JPEG of at most `MAX_BYTES`: with the highest quality that allows it, or else smaller."""
        picture = self.picture
        while True:
            for quality in _QUALITIES:
                buffer = io.BytesIO()
                picture.save(buffer, "JPEG", quality=quality)
                if buffer.tell() <= MAX_BYTES:
                    return buffer.getvalue()
            picture = picture.resize((round(picture.width * _SHRINK), round(picture.height * _SHRINK)))

    def __repr__(self) -> str:
        return f"<picture of {self.picture.width}×{self.picture.height} px>"


def show_pictures(*pictures: str | Path | Image.Image, width: int = 960) -> NotebookPicture:
    """
    Show pictures side by side in a notebook; write the call as the last line of a cell.

    Args:
        pictures (`str`, `Path` or `PIL.Image.Image`): Image files or images, from left to right.
        width (`int`): Maximum width of all pictures together, px. Default: 960.

    Returns:
        `NotebookPicture`: The sheet, which Jupyter shows as a JPEG of at most 60 KB.

    Raises:
        `ValueError`: If no picture is given.

    Examples:
        >>> show_pictures("out/demo/before_after.png")
        >>> show_pictures("out/predictions/overlays/street.jpg", "out/predictions/overlays/yard.jpg")
    """
    if not pictures:
        raise ValueError("`pictures` is empty. Pass at least one image or image file")
    panels = [picture if isinstance(picture, Image.Image) else Image.open(picture) for picture in pictures]
    sheet = tile([[panel.convert("RGB") for panel in panels]])
    sheet.thumbnail((width, sheet.height))
    return NotebookPicture(sheet)
