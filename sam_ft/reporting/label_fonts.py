"""Fonts of the texts in pictures, also for scripts that the built-in font of Pillow does not contain."""

import unicodedata
from functools import cache

from PIL import ImageFont


MAX_CHARACTERS = 32  # of a label; longer texts end in "..."
# Fonts of Linux, macOS and Windows with many scripts; Pillow searches the system folders for them.
_SYSTEM_FONTS = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "wqy-zenhei.ttc", "Arial Unicode.ttf",
    "PingFang.ttc", "arial.ttf", "msyh.ttc", "meiryo.ttc", "malgun.ttf",
)  # fmt: skip
_UNASSIGNED = "\uffff"  # drawn as the box of a missing character


def shorten_label(text: str, length: int = MAX_CHARACTERS) -> str:
    """Cut a text to a number of characters; a cut text ends in three dots."""
    return text if len(text) <= length else f"{text[: length - 3].rstrip()}..."


def find_font(text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """
    Find a font that contains the characters of a text: that of Pillow, or one of the system.

    Args:
        text (`str`): Text.
        size (`int`): Size of the font, px.

    Returns:
        `tuple[str, ImageFont.FreeTypeFont]`: The text and the font. Without a font that contains all characters,
            accents are left out, and other unknown characters are `?`.
    """
    default = _load_default_font(size)
    if text.isascii():
        return text, default
    for name in _SYSTEM_FONTS:
        font = _load_system_font(name, size)
        if font is not None and all(_has_character(name, character) for character in set(text)):
            return text, font
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    plain = unicodedata.normalize("NFC", plain)  # Korean syllables were split, too.
    return plain.encode("ascii", "replace").decode("ascii"), default


@cache
def _load_default_font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


@cache
def _load_system_font(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


@cache
def _has_character(name: str, character: str) -> bool:
    """Return whether a font contains a character; the picture of a missing one is that of an unassigned one."""
    if character.isspace() or unicodedata.category(character) in ("Cf", "Mn"):
        return True
    font = _load_system_font(name, 16)
    first, second = font.getmask(character), font.getmask(_UNASSIGNED)
    return first.size != second.size or bytes(first) != bytes(second)
