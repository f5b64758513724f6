"""Run-length encoding of Label Studio's brush masks: a stream of bits, in the format `rle-pack` of thi.ng/umbrella."""

import numpy as np

from ...utils.text import short_repr


_NUM_CHANNELS = 4  # red, green, blue, alpha; the alpha channel is the mask
_HEADER_BITS = 32 + 5 + 4 * 4
_LENGTH_BITS = (3, 4, 8, 16)  # the kinds of lengths that Label Studio writes


def decode_brush_rle(encoded, width: int, height: int) -> np.ndarray:
    """
    Decode the `rle` of a brush region.

    The stream starts with the number of values (32 bits), the bits of a value minus 1 (5 bits) and the bits of four
    kinds of lengths minus 1 (4 bits each). Blocks follow: one bit, the kind of the length (2 bits) and a length minus
    1. If the bit is 1, one value is repeated; otherwise all values are listed.

    Args:
        encoded (`list[int]`): Bytes of the stream, 0 to 255.
        width (`int`): Width of the image, px.
        height (`int`): Height of the image, px.

    Returns:
        `np.ndarray` of shape `(height, width)`: bool, the pixels whose alpha value is not 0.

    Raises:
        `ValueError`: If the stream is damaged, or does not have four values for each pixel.

    Source:
        `decode` of https://github.com/thi-ng/umbrella/blob/develop/packages/rle-pack/src/index.ts.
    """
    bits = _unpack(encoded)
    if len(bits) < _HEADER_BITS:
        raise ValueError(f"`rle` has {len(bits)} bits, fewer than its header; export the annotations again")
    text = (bits + ord("0")).tobytes().decode("ascii")
    num_values, value_bits = int(text[:32], 2), int(text[32:37], 2) + 1
    length_bits = [int(text[place : place + 4], 2) + 1 for place in range(37, _HEADER_BITS, 4)]
    if num_values != width * height * _NUM_CHANNELS:
        raise ValueError(
            f"`rle` has {num_values} values, its image of {width}×{height} px needs {width * height * _NUM_CHANNELS} "
            "(red, green, blue, alpha); export the annotations again"
        )
    is_set = np.zeros(num_values, dtype=bool)
    start, place = 0, _HEADER_BITS
    while start < num_values:
        is_run = text[place : place + 1] == "1"
        kind = text[place + 1 : place + 3]
        size = length_bits[int(kind, 2)] if len(kind) == 2 else 0
        place += 3
        end = min(start + 1 + int(text[place : place + size] or "0", 2), num_values)
        place += size
        next_place = place + value_bits * (1 if is_run else end - start)
        if next_place > len(bits):
            raise ValueError(
                f"`rle` ends after {start} of its {num_values} values; the file is damaged, export it again"
            )
        values = bits[place:next_place].reshape(-1, value_bits).any(axis=1)
        is_set[start:end] = values[0] if is_run else values
        start, place = end, next_place
    return is_set[_NUM_CHANNELS - 1 :: _NUM_CHANNELS].reshape(height, width)


def _unpack(encoded) -> np.ndarray:
    """Return the bits of a list of bytes, the highest bit of each byte first."""
    if not isinstance(encoded, list) or not all(isinstance(v, int) and 0 <= v <= 255 for v in encoded):
        raise ValueError(f"`rle` is {short_repr(encoded)}; expected a list of bytes, 0 to 255")
    return np.unpackbits(np.array(encoded, dtype=np.uint8))


def encode_brush_rle(mask: np.ndarray) -> list[int]:
    """
    Encode a mask as the `rle` of a brush region; the inverse of [`decode_brush_rle`].

    The four values of a pixel are equal, 255 inside the mask, so that each run of pixels is one repeated value.

    Args:
        mask (`np.ndarray` of shape `(height, width)`): Bool mask.

    Returns:
        `list[int]`: Bytes of the stream, 0 to 255.

    Source:
        `encode_rle` of `label_studio_sdk.converter.brush`.
    """
    pixels = mask.astype(bool).ravel()
    starts = np.flatnonzero(np.diff(pixels, prepend=~pixels[:1]))
    lengths = np.diff(starts, append=len(pixels)) * _NUM_CHANNELS
    texts = [f"{len(pixels) * _NUM_CHANNELS:032b}{7:05b}", *(f"{size - 1:04b}" for size in _LENGTH_BITS)]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        value = "11111111" if pixels[start] else "00000000"
        for rest in range(length, 0, -(2 ** _LENGTH_BITS[-1])):
            size = min(rest, 2 ** _LENGTH_BITS[-1])
            kind = next(kind for kind, bits in enumerate(_LENGTH_BITS) if size <= 2**bits)
            texts.append(f"1{kind:02b}{size - 1:0{_LENGTH_BITS[kind]}b}{value}")
    return np.packbits(np.frombuffer("".join(texts).encode(), dtype=np.uint8) - ord("0")).tolist()
