"""Record of the files that a kind of command wrote to a folder, so that no command replaces or removes other files."""

import contextlib
import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from .files import atomic_path
from .json_files import read_json_file, write_json
from .parallel import mapped_chunks
from .text import list_some


RECORD = ".sam-ft-files.json"
_SAMPLE_BYTES = 1 << 20


def content_digest(file: Path) -> str:
    """
    Compute a digest of a file's size and of its first and last MiB, at a cost that does not grow with its size.

    Args:
        file (`Path`): The file.

    Returns:
        `str`: BLAKE2b, 16 bytes, hexadecimal.
    """
    with open(file, "rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        digest = hashlib.blake2b(f"{size} ".encode(), digest_size=16)
        digest.update(stream.read(_SAMPLE_BYTES))
        stream.seek(max(size - _SAMPLE_BYTES, 0))
        digest.update(stream.read(_SAMPLE_BYTES))
    return digest.hexdigest()


class OwnedFiles:
    """
    Files of a folder that one kind of command wrote, with digests of their content.

    A file is owned if it is recorded under this kind with its present content. Not owned are files that the user added
    or changed, files of another kind of command, and files behind a symbolic link.

    Args:
        folder (`str` or `Path`): The folder. It need not exist yet.
        kind (`str`): Kind of the command, such as "export".

    Raises:
        `ValueError`: If the folder's record cannot be read.
    """

    def __init__(self, folder: str | Path, kind: str):
        self.folder, self.kind = Path(folder), kind
        self._digests: dict[str, list[str]] = self._read().get(kind, {}).get("files", {})

    def _read(self) -> dict:
        record = self.folder / RECORD
        content = read_json_file(record) if record.is_file() else {}
        if not isinstance(content, dict) or not all(isinstance(part, dict) for part in content.values()):
            raise ValueError(f"{record} is no record of written files. Move it away")
        return content

    @property
    def names(self) -> list[str]:
        """Recorded names, relative to the folder."""
        return sorted(self._digests)

    @property
    def foreign_when_opened(self) -> list[str] | None:
        """Foreign files when a process began that was killed before `end`; `None` if the last one ended normally."""
        return self._read().get(self.kind, {}).get("open")

    def begin(self, foreign: list[str]) -> None:
        """
        Record that a process begins to write files that it will record later.

        Args:
            foreign (`list[str]`): Names of the files that are not owned now.
        """
        self._save(opened=foreign)

    def adopt(self, names: Iterable[str]) -> None:
        """
        Record what a killed process, or a release without records, wrote without recording it.

        Args:
            names (`Iterable[str]`): Files that such a process may have written.
        """
        foreign = self.foreign_when_opened
        if foreign is not None or not (self.folder / RECORD).is_file():
            self.add(name for name in names if name not in (foreign or ()))

    def end(self, names: Iterable[str]) -> None:
        """
        Record what a process wrote since [`begin`], and drop the names that no longer exist.

        Args:
            names (`Iterable[str]`): Files that it may have written; those that were foreign at its begin are left out.
        """
        foreign = set(self.foreign_when_opened or ())
        self.add(name for name in names if name not in foreign)
        self._digests = {name: digests for name, digests in self._digests.items() if (self.folder / name).is_file()}
        self._save(opened=None)

    def is_owned(self, name: str) -> bool:
        """Check whether the file `name` exists with recorded content."""
        if name not in self._digests:
            return False
        file = self.folder / name
        return file.is_file() and not self._is_linked(name) and content_digest(file) in self._digests[name]

    def _is_linked(self, name: str) -> bool:
        file = self.folder / name
        parents = [file, *file.parents][: len(Path(name).parts)]
        return any(path.is_symlink() for path in parents)

    def is_free(self, name: str) -> bool:
        """Check whether `name` may be written: it does not exist, or it is owned."""
        file = self.folder / name
        return not (file.exists() or file.is_symlink()) or self.is_owned(name)

    def check_free(self, names: Iterable[str], argument: str) -> None:
        """
        Check that files may be written.

        Args:
            names (`Iterable[str]`): Relative names.
            argument (`str`): The argument that named the folder, for the error.

        Raises:
            `ValueError`: If one of the files exists and is not owned.
        """
        foreign = [name for name in names if not self.is_free(name)]
        if foreign:
            raise ValueError(
                f"`{argument}`: {self.folder} already contains {list_some(foreign)}, which this command did not write "
                f"or which changed since. Move it away, or choose another `{argument}`"
            )

    def find_foreign(self) -> list[str]:
        """Find all files below the folder that are not owned, in the order of their names."""
        if not self.folder.is_dir():
            return []
        paths: list[tuple[str, ...]] = []
        for parent, folders, files in os.walk(self.folder):
            links = (name for name in folders if os.path.islink(os.path.join(parent, name)))
            parts = Path(parent).relative_to(self.folder).parts
            paths += ((*parts, name) for name in (*files, *links))
        names = map("/".join, sorted(paths))
        return [name for name in names if name != RECORD and not self.is_owned(name)]

    def write(self, name: str, write: Callable[[Path], object], argument: str) -> Path:
        """
        Write one file atomically and record it; after a kill, the old or the new file exists, and is owned.

        Args:
            name (`str`): Relative path.
            write (`Callable[[Path], object]`): Callback that writes the content to the path.
            argument (`str`): The argument that named the folder, for errors.

        Returns:
            `Path`: The file.

        Raises:
            `ValueError`: If a file of that name exists and is not owned.
        """
        with self.draft(name, argument) as draft:
            write(draft)
        return self.folder / name

    @contextlib.contextmanager
    def draft(self, name: str, argument: str) -> Iterator[Path]:
        """
        Yield a temporary path for one file, which becomes `name` when the context ends without an error.

        Args:
            name (`str`): Relative path.
            argument (`str`): The argument that named the folder, for errors.

        Yields:
            `Path`: The temporary path.

        Raises:
            `ValueError`: If a file of that name exists and is not owned, at the beginning or at the end.
        """
        self.check_free([name], argument)
        with atomic_path(self.folder / name) as draft:
            yield draft
            self.check_free([name], argument)
            earlier = self._digests.get(name, [])[-1:]
            self._digests[name] = list(dict.fromkeys([*earlier, content_digest(draft)]))
            self._save()

    def write_text(self, name: str, text: str, argument: str) -> Path:
        """Write one file of UTF-8 text; see [`write`]."""
        return self.write(name, lambda draft: draft.write_text(text, encoding="utf-8"), argument)

    def write_unless_edited(self, name: str, text: str) -> tuple[Path, bool]:
        """
        Write a text that users may edit, such as a model card.

        If a file of that name is not owned, the text is written to `STEM.new.SUFFIX` beside it.

        Args:
            name (`str`): Relative path.
            text (`str`): The content.

        Returns:
            `tuple[Path, bool]`: The file that was written, and whether it is `name` itself.
        """
        path = Path(name)
        if self.is_free(name):
            return self.write_text(name, text, "output_dir"), True
        new_name = path.with_name(f"{path.stem}.new{path.suffix}").as_posix()
        if not self.is_free(new_name):
            return self.folder / new_name, False
        return self.write_text(new_name, text, "output_dir"), False

    def add(self, names: Iterable[str], num_proc: int | None = 1) -> None:
        """
        Record files as they are now.

        Args:
            names (`Iterable[str]`): Relative names.
            num_proc (`int`, *optional*): Number of processes, see [`mapped_chunks`]; this one by default.
        """
        names = list(names)

        def digest(indices: range) -> list[str | None]:
            chosen = (names[i] for i in indices)
            return [None if self._is_linked(name) else content_digest(self.folder / name) for name in chosen]

        with mapped_chunks(digest, len(names), num_proc) as chunks:
            for name, content in zip(names, itertools.chain.from_iterable(chunks), strict=True):
                if content is not None:
                    self._digests[name] = [content]
        self._save()

    def remove(self, names: Iterable[str]) -> list[str]:
        """
        Remove owned files, and the folders that are then empty.

        Args:
            names (`Iterable[str]`): Relative names.

        Returns:
            `list[str]`: Names that still exist, because they are not owned.
        """
        remaining = []
        for name in list(names):
            file = self.folder / name
            if self.is_owned(name):
                file.unlink()
            if file.exists() or file.is_symlink():
                remaining.append(name)
            else:  # also if a killed process removed the file, but not its folder
                remove_empty_folders(file.parent, self.folder)
            self._digests.pop(name, None)
        self._save()
        return remaining

    def _save(self, **changed) -> None:
        content = self._read()  # other commands may have changed the record since
        opened = changed["opened"] if changed else content.get(self.kind, {}).get("open")
        write_json(self.folder / RECORD, content | {self.kind: {"open": opened, "files": self._digests}}, indent=0)


def remove_empty_folders(folder: Path, root: Path) -> None:
    """Remove `folder` and its parents below `root` while they are empty."""
    while folder != root and root in folder.parents:
        try:
            folder.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            return
        folder = folder.parent
