"""Figures of pages: pictures side by side with a caption, and the colours of phrases."""

import base64
import io
from collections.abc import Iterable

from PIL import Image

from .phrase_colors import assign_colors, css_color
from .pictures import Panel


class PhraseColors:
    """
    Colours of phrases, the same on a whole page.

    Args:
        phrases (`list[str]`): Phrases.

    Attributes:
        rgb (`dict[str, tuple[int, int, int]]`): RGB colour of each phrase.
    """

    def __init__(self, phrases: list[str]):
        self.phrases = phrases
        self.rgb = assign_colors(phrases)
        self._numbers = {text: i for i, text in enumerate(phrases)}

    def describe(self, text: str) -> dict:
        """Return number, text and CSS colour of a phrase."""
        return {"number": self._numbers[text], "text": text, "color": css_color(self.rgb[text])}

    def list_classes(self, texts: Iterable[str]) -> list[dict]:
        """Return the descriptions of phrases for [`to_figure`], without duplicates and phrases that have no colour."""
        return [self.describe(text) for text in dict.fromkeys(texts) if text in self._numbers]


def to_data_url(image: Image.Image) -> str:
    """Encode a picture as the JPEG data URL of an `img` element."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def to_figure(panels: list[Panel], caption: str, classes: list[dict]) -> dict:
    """
    Return a figure for the macro `figure_of`.

    Args:
        panels (`list[Panel]`): Captions and pictures.
        caption (`str`): Text below the pictures.
        classes (`list[dict]`): Phrases of the figure, from [`PhraseColors.list_classes`].
    """
    return {
        "panels": [{"caption": name, "url": to_data_url(picture)} for name, picture in panels],
        "caption": caption,
        "classes": classes,
    }
