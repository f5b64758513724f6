"""Check that the images of a data set lie in its folders."""

import os
from collections.abc import Iterable
from pathlib import Path

from ..safe_text import is_valid_utf8, to_printable
from .images import ImageError


class RealPaths:
    """Real paths of files, of which each folder is resolved once."""

    def __init__(self):
        self._real_folders: dict[str, str] = {}

    def resolve(self, file: Path) -> str:
        """Return `os.path.realpath` of a file."""
        if file.is_symlink() or file.name in ("", ".", ".."):
            return os.path.realpath(file)
        return os.path.join(self.folder(file), file.name)

    def folder(self, file: Path) -> str:
        """Return `os.path.realpath` of the folder that lists a file, which may be a link."""
        folder = str(file.parent)
        if folder not in self._real_folders:
            self._real_folders[folder] = os.path.realpath(folder)
        return self._real_folders[folder]


class ImageRoots:
    """
    Check of image paths against the folders of their data set, with links resolved.

    Args:
        folders (`Iterable[str | Path]`): The folders or links to them. Without a folder, every path passes.
    """

    def __init__(self, folders: Iterable[str | Path]):
        self.folders = list(dict.fromkeys(root for folder in folders for root in _roots_of(Path(folder))))
        self._real_paths = RealPaths()

    def check(self, image: Path) -> None:
        """
        Refuse an image outside the folders.

        Args:
            image (`Path`): The path in the annotations.

        Raises:
            `ImageError`: If the image lies elsewhere; contains its path and its folder.
        """
        if not is_valid_utf8(str(image)):
            raise ImageError(
                f"the file name {to_printable(str(image))!r} is not valid UTF-8. Rename the file, or set "
                "`on_bad_rows: skip` to leave it out"
            )
        if not self.folders:
            return
        real = self._real_paths.resolve(image)
        if not any(real == root or real.startswith(root.rstrip(os.sep) + os.sep) for root in self.folders):
            raise ImageError(
                f"the image {str(image)!r} lies outside the data set, in {os.path.dirname(real)!r} (its folders: "
                f"{', '.join(self.folders[:3])}). Move it into the data set, or set `allow_outside_images: true` if "
                "you trust the annotations"
            )


def _roots_of(folder: Path) -> list[str]:
    real = Path(os.path.realpath(folder))
    # In the Hub's cache, the files of a snapshot are links to `blobs` beside `snapshots`.
    snapshots = next((parent for parent in real.parents if parent.name == "snapshots"), None)
    return [str(real), *([str(snapshots.parent / "blobs")] if snapshots is not None else [])]
