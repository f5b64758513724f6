"""A record of the files that this package wrote into a folder, so that no command replaces or removes any other file."""

from collections.abc import Callable, Iterable
from pathlib import Path

from .files import atomic_path, file_digest
from .json_files import read_json_file, write_json
from .text import list_some


RECORD = ".sam-ft-files.json"


class OwnedFiles:
    """
    Files of a folder with the digests of the content that was written.

    A file is owned if the record contains it with its present content; a file that the user added or changed is not.

    Args:
        folder (`str` or `Path`): The folder. It need not exist yet.

    Raises:
        `ValueError`: If the folder's record cannot be read.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        record = self.folder / RECORD
        self._digests: dict[str, list[str]] = dict(read_json_file(record)) if record.is_file() else {}

    @property
    def names(self) -> list[str]:
        """Recorded names, relative to the folder."""
        return sorted(self._digests)

    def is_owned(self, name: str) -> bool:
        """Whether the file `name` exists with content that was recorded."""
        file = self.folder / name
        return name in self._digests and file.is_file() and file_digest(file) in self._digests[name]

    def is_free(self, name: str) -> bool:
        """Whether `name` may be written: it does not exist, or it is owned."""
        file = self.folder / name
        return not (file.exists() or file.is_symlink()) or self.is_owned(name)

    def check_free(self, names: Iterable[str], argument: str) -> None:
        """
        Raises:
            `ValueError`: If one of the files `names` exists and is not owned; names `argument`.
        """
        foreign = [name for name in names if not self.is_free(name)]
        if foreign:
            raise ValueError(
                f"`{argument}`: {self.folder} already contains {list_some(foreign)}, which this command did not write or which "
                f"changed since. Move it away, or choose another `{argument}`"
            )

    def find_foreign(self) -> list[str]:
        """Names of all files below the folder that are not owned, in their order."""
        if not self.folder.is_dir():
            return []
        files = (f for f in sorted(self.folder.rglob("*")) if f.is_symlink() or not f.is_dir())
        names = (f.relative_to(self.folder).as_posix() for f in files)
        return [name for name in names if name != RECORD and not self.is_owned(name)]

    def write(self, name: str, write: Callable[[Path], object], argument: str) -> Path:
        """
        Write one file atomically and record it. A kill at any moment leaves the old or the new file, and either is owned.

        Args:
            name (`str`): Relative path.
            write (`Callable[[Path], object]`): Writes the content to the path it is given.
            argument (`str`): The argument that named the folder, for errors.

        Returns:
            `Path`: The file.

        Raises:
            `ValueError`: If a file of that name exists and is not owned.
        """
        self.check_free([name], argument)
        with atomic_path(self.folder / name) as draft:
            write(draft)
            digest = file_digest(draft)
            self._digests[name] = [*self._digests.get(name, [])[-1:], digest]
            self._save()
        return self.folder / name

    def write_text(self, name: str, text: str, argument: str) -> Path:
        """Write one file of UTF-8 text; see [`write`]."""
        return self.write(name, lambda draft: draft.write_text(text, encoding="utf-8"), argument)

    def write_unless_edited(self, name: str, text: str) -> tuple[Path, bool]:
        """
        Write a text that users edit, such as a model card. A file that they added or changed is kept, and the text goes to `STEM.new.SUFFIX` beside it.

        Returns:
            `tuple[Path, bool]`: The file that was written, and whether it is `name` itself.
        """
        path = Path(name)
        if self.is_free(name):
            return self.write_text(name, text, "output_dir"), True
        beside = path.with_name(f"{path.stem}.new{path.suffix}").as_posix()
        if not self.is_free(beside):
            return self.folder / beside, False
        return self.write_text(beside, text, "output_dir"), False

    def add(self, names: Iterable[str]) -> None:
        """Record files as they are now."""
        self._digests |= {name: [file_digest(self.folder / name)] for name in names}
        self._save()

    def remove(self, names: Iterable[str]) -> list[str]:
        """
        Remove owned files and the folders that this empties.

        Returns:
            `list[str]`: Names that still exist, because they are not owned.
        """
        kept = []
        for name in list(names):
            file = self.folder / name
            if self.is_owned(name):
                file.unlink()
                remove_empty_folders(file.parent, self.folder)
            elif file.exists():
                kept.append(name)
                continue
            self._digests.pop(name, None)
        self._save()
        return kept

    def _save(self) -> None:
        write_json(self.folder / RECORD, self._digests, indent=0)


def remove_empty_folders(folder: Path, root: Path) -> None:
    """Remove `folder` and its parents below `root` while they are empty."""
    while folder != root and root in folder.parents:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
