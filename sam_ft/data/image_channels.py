"""Choice of three channels of images with more, such as multispectral TIFF files, which Pillow does not decode."""

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

from .row_schema import scale_to_bytes


_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIPS = 256, 257, 258, 259, 262, 273
_ORIENTATION, _CHANNELS, _STRIP_ROWS, _STRIP_BYTES, _PLANAR, _PREDICTOR = 274, 277, 278, 279, 284, 317
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _SAMPLE_FORMAT = 322, 323, 324, 325, 339
_JPEG_COMPRESSIONS = (6, 7, 34892, 50001)  # and WebP: their channels are not interleaved numbers
_MAX_CHANNELS = 1_000
_KINDS = {1: "u", 2: "i", 3: "f"}  # of numbers, by sample format
_MODES = {"L": 8, "I;16": 16, "I": 32}  # bits of the values of a mode of Pillow
_ERRORS = (OSError, SyntaxError, ValueError, KeyError, IndexError, TypeError, OverflowError, struct.error)


def count_channels(image: Path | bytes) -> int | None:
    """
    Return the number of channels of a TIFF file.

    Args:
        image (`Path` or `bytes`): The file, or its content.

    Returns:
        `int` or `None`: The number in its first directory; `None` for a file in another format, or a damaged one.
    """
    try:
        with _open(image) as stream:
            return _number(_read_tags(stream), _CHANNELS, 1)
    except _ERRORS:
        return None


def describe_channels(image: Path | bytes, num_decoded: int = 0) -> str | None:
    """
    Return why an image needs `image_channels`.

    Args:
        image (`Path` or `bytes`): The file, or its content.
        num_decoded (`int`): Number of channels that Pillow decodes, 0 if it cannot read the file.

    Returns:
        `str` or `None`: The message; `None` if no more than three channels are used and none is lost.
    """
    number = count_channels(image)
    # Pillow decodes gray with an unknown second channel as gray.
    if number is None or number <= num_decoded or number < (4 if num_decoded else 2):
        return None
    name = "inside the file" if isinstance(image, bytes) else image
    return (
        f"the image {name} has {number} channels. Set `image_channels` to the three that are red, green and blue, "
        "numbered from 1, such as `image_channels: [3, 2, 1]`"
    )


def read_channels(image: Path | bytes, channels: list[int]) -> Image.Image:
    """
    Read three channels of an image as RGB.

    Values outside 0 to 255 are scaled by the range of the three channels together, which keeps the colors.

    Args:
        image (`Path` or `bytes`): The file, or its content.
        channels (`list[int]`): Numbers of the channels that become red, green and blue, from 1.

    Returns:
        `PIL.Image.Image`: Upright image of mode RGB.

    Raises:
        `ValueError`: If the image cannot be read, or has fewer channels.
    """
    name = "inside the file" if isinstance(image, bytes) else image
    try:
        number = count_channels(image) or 1
        values = _read_tiff(image) if number > 1 else _read_with_pillow(image)
    except (*_ERRORS, Image.DecompressionBombError) as error:
        raise ValueError(f"the image {name} cannot be read ({type(error).__name__}: {error})") from error
    if max(channels) > values.shape[2]:
        raise ValueError(
            f"the image {name} has {values.shape[2]} channels, but `image_channels` is {channels}; give numbers from "
            f"1 to {values.shape[2]}"
        )
    chosen = values[..., [number - 1 for number in channels]]
    return Image.fromarray(scale_to_bytes(chosen))


def encode_channels(image: Path | bytes, channels: list[int]) -> bytes:
    """Return [`read_channels`] as the content of a PNG file."""
    buffer = io.BytesIO()
    read_channels(image, channels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _read_with_pillow(image: Path | bytes) -> np.ndarray:
    with _open(image) as stream, Image.open(stream) as opened:
        upright = ImageOps.exif_transpose(opened)
        values = np.asarray(upright.convert("RGB") if upright.mode == "P" else upright)
    return values if values.ndim == 3 else values[..., None]


def _open(image: Path | bytes):
    return io.BytesIO(image) if isinstance(image, bytes) else open(image, "rb")


def _read_tags(stream) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Return the first directory of a TIFF or BigTIFF file."""
    header = stream.read(8)
    if header[2:3] == b"\x2b" or header[3:4] == b"\x2b":
        header += stream.read(8)
    tags = TiffImagePlugin.ImageFileDirectory_v2(header)
    stream.seek(tags.next)
    tags.load(stream)
    return tags


def _number(tags, tag: int, default: int | None = None) -> int:
    value = tags.get(tag, default)
    value = value[0] if isinstance(value, tuple) else value
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"the tag {tag} is {value!r}")
    return value


def _read_tiff(image: Path | bytes) -> np.ndarray:
    """
    Return all channels of a TIFF file.

    Pillow decodes one channel only, so the compressed data is described to it as one channel: interleaved channels as
    an image that is wider, separate channels one after another.

    Args:
        image (`Path` or `bytes`): The file, or its content.

    Returns:
        `np.ndarray` of shape `(height, width, channels)`: The values.
    """
    with _open(image) as stream:
        tags = _read_tags(stream)
        channels, planar = _number(tags, _CHANNELS, 1), _number(tags, _PLANAR, 1)
        predictor = _number(tags, _PREDICTOR, 1)
        if channels > _MAX_CHANNELS or len(set(tags.get(_BITS, (1,)))) > 1:
            raise ValueError(f"it has {channels} channels of {tags.get(_BITS)} bits")
        if _number(tags, _COMPRESSION, 1) in _JPEG_COMPRESSIONS or predictor == 3 or tags.get(_ORIENTATION, 1) != 1:
            raise ValueError("its compression or orientation is not read; save it upright with deflate compression")
        is_tiled = _TILES in tags
        offsets, sizes = tags[_TILES if is_tiled else _STRIPS], tags[_TILE_BYTES if is_tiled else _STRIP_BYTES]
        segments = []
        for offset, size in zip(offsets, sizes, strict=True):
            stream.seek(offset)
            segments.append(stream.read(size))
    if planar == 2:
        count = len(segments) // channels
        parts = [segments[i * count : (i + 1) * count] for i in range(channels)]
        values = np.stack([_decode(tags, part, is_tiled, 1) for part in parts], axis=-1)
    else:
        values = _decode(tags, segments, is_tiled, channels)
        values = values.reshape(values.shape[0], -1, channels)
    if predictor == 2:  # Each value is the difference to the pixel on its left, within each tile.
        side = _number(tags, _TILE_WIDTH) if is_tiled else values.shape[1]
        for begin in range(0, values.shape[1], side):
            part = values[:, begin : begin + side]
            values[:, begin : begin + side] = np.cumsum(part, axis=1, dtype=part.dtype)
    bits, kind = values.dtype.itemsize * 8, _number(tags, _SAMPLE_FORMAT, 1)
    return values.view(f"{_KINDS[kind]}{bits // 8}")


def _decode(tags, segments: list[bytes], is_tiled: bool, repeat: int) -> np.ndarray:
    """
    Return the bits of strips or tiles as unsigned integers, decoded as an image that is `repeat` times as wide.

    Pillow converts values of some byte orders and types, so all are described to it as little-endian integers.
    """
    bits = _number(tags, _BITS)
    new = {
        _WIDTH: [_number(tags, _WIDTH) * repeat],
        _HEIGHT: [_number(tags, _HEIGHT)],
        _BITS: [bits],
        _COMPRESSION: [_number(tags, _COMPRESSION, 1)],
        _PHOTOMETRIC: [1],
        _CHANNELS: [1],
    }
    if is_tiled:
        new |= {_TILE_WIDTH: [_number(tags, _TILE_WIDTH) * repeat], _TILE_HEIGHT: [_number(tags, _TILE_HEIGHT)]}
    else:
        new[_STRIP_ROWS] = [min(_number(tags, _STRIP_ROWS, 2**32 - 1), _number(tags, _HEIGHT))]
    with Image.open(io.BytesIO(_assemble(new, segments, is_tiled))) as opened:
        if opened.mode not in _MODES or bits != _MODES[opened.mode]:
            raise ValueError(f"its channels have {bits} bits; 8, 16 and 32 are read")
        values = np.array(opened)
    values = values.view(f"u{bits // 8}")
    return values.byteswap() if tags.prefix == b"MM" else values


def _assemble(tags: dict[int, list[int]], segments: list[bytes], is_tiled: bool) -> bytes:
    """Return a little-endian TIFF file of one directory of 32-bit integers, with its strips or tiles."""
    offset_tag, size_tag = (_TILES, _TILE_BYTES) if is_tiled else (_STRIPS, _STRIP_BYTES)
    begin = 8 + 2 + 12 * (len(tags) + 2) + 4
    data = begin + (8 * len(segments) if len(segments) > 1 else 0)
    starts = np.cumsum([data, *map(len, segments)])[:-1].tolist()
    entries, arrays = tags | {offset_tag: starts, size_tag: [len(segment) for segment in segments]}, b""
    directory = struct.pack("<H", len(entries))
    for tag, values in sorted(entries.items()):
        packed = struct.pack(f"<{len(values)}I", *values)
        field = packed if len(values) == 1 else struct.pack("<I", begin + len(arrays))
        arrays += packed if len(values) > 1 else b""
        directory += struct.pack("<HHI", tag, 4, len(values)) + field
    header = b"II" + struct.pack("<HI", 42, 8)
    return b"".join([header, directory, b"\0" * 4, arrays, *segments])
