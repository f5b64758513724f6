"""Index of the difference hashes of images, to find images that look the same."""

from collections.abc import Iterator
from typing import Generic, TypeVar


Entry = TypeVar("Entry")

_NEAR_BITS = (0, *(1 << i for i in range(64)))  # differences of equal and near hashes
_LOW = (1 << 32) - 1  # half of the bits
_TURNS = ("", ", turned 90° clockwise,", ", turned 180°,", ", turned 90° counterclockwise,")


class SimilarHashes(Generic[Entry]):
    """
    Index of images by their difference hash: finds equal hashes and those one bit away, under rotation and mirroring.

    Images of nearly uniform colour are ignored because their hash contains no information.
    """

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}
        self._halves: tuple[set[int], set[int]] = (set(), set())  # of near hashes, one half is equal

    def add(self, hashes: tuple[int, ...], entry: Entry) -> None:
        """
        Add an image.

        Args:
            hashes (`tuple[int, ...]`): `Picture.hashes` of the image.
            entry (`Entry`): Result of [`find`]; the first one of each hash is kept.
        """
        self._entries.setdefault(hashes[0], entry)
        self._halves[0].add(hashes[0] >> 32)
        self._halves[1].add(hashes[0] & _LOW)

    def find(self, hashes: tuple[int, ...]) -> Iterator[tuple[str, Entry]]:
        """
        Find the added images that look the same as an image.

        Args:
            hashes (`tuple[int, ...]`): `Picture.hashes` of the image.

        Yields:
            `tuple[str, Entry]`: Description of the relation, and the first entry of each near hash.
        """
        high, low = self._halves
        for orientation, value in enumerate(hashes):
            if (value >> 32 not in high and value & _LOW not in low) or not 8 <= value.bit_count() <= 56:
                continue
            for neighbour in map(value.__xor__, _NEAR_BITS):
                if neighbour in self._entries:
                    turn = ", mirrored," if orientation >= 4 else _TURNS[orientation]
                    yield f"looks the same{turn} as", self._entries[neighbour]
