"""Record files of a batch prediction, from which a stopped one resumes: one an image, or one for each 1,000 images."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from ..data.image_entries import ImageEntry
from ..utils.files import shorten_name
from ..utils.json_files import read_json_file, to_json, write_json
from .image_list import SHARD_SIZE, ImageList
from .predictor import ImagePrediction


FOLDER = "predictions"
LISTINGS = ".files"  # folder in it, with the output files of each image
_KEYS = {field.name for field in fields(ImagePrediction)}
_REMEDY = "Delete it; its images are then predicted again"


class PredictionRecords:
    """
    Records of the predictions of a list of images.

    Args:
        folder (`Path`): Output folder of the prediction.
        images (`ImageList`): The images.

    Attributes:
        block_size (`int`): Number of images of a record file.
    """

    block_size = 1

    def __init__(self, folder: Path, images: ImageList):
        self.folder, self.images = folder / FOLDER, images

    @property
    def exist(self) -> bool:
        """Return whether the folder contains records of any image."""
        files = self.folder.rglob("*.json*") if self.folder.is_dir() else ()
        return any(not file.is_relative_to(self.folder / LISTINGS) for file in files)

    def find_missing(self, block: range) -> Sequence[int]:
        """
        Return the images without a record of their present file.

        Args:
            block (`range`): Indices of the images of one record file.

        Raises:
            `ValueError`: If a record file is damaged, or was not written by a prediction.
        """
        raise NotImplementedError

    def add(self, index: int, prediction: ImagePrediction | None, problem: str | None = None) -> None:
        """
        Record the prediction of an image after its output files; the images come in the order of [`find_missing`].

        Args:
            index (`int`): Index of the image.
            prediction (`ImagePrediction`, *optional*): Its prediction; `None` if it cannot be read.
            problem (`str`, *optional*): Reason why it cannot be read.
        """
        raise NotImplementedError

    def read_block(
        self, block: range, missing: Sequence[int] = ()
    ) -> Iterator[tuple[int, ImagePrediction | None, str | None]]:
        """
        Yield the recorded images of one record file: index, prediction, or the reason why it cannot be read.

        Args:
            block (`range`): Indices of its images.
            missing (`Sequence[int]`): Those without a record, from [`find_missing`]; none by default.
        """
        raise NotImplementedError

    def read(self) -> Iterator[tuple[ImageEntry, ImagePrediction | None, str | None]]:
        """Yield each image in order with its prediction, or with the reason why it cannot be read."""
        for start in range(0, len(self.images), self.block_size):
            block = range(start, min(start + self.block_size, len(self.images)))
            for index, prediction, problem in self.read_block(block):
                yield self.images[index], prediction, problem


class ImageRecords(PredictionRecords):
    """
    One JSON file an image, named as the image; an unreadable image has none and is read again by the next call.

    Attributes:
        problems (`dict[int, str]`): Reasons why images cannot be read, by index.
    """

    def __init__(self, folder: Path, images: ImageList):
        super().__init__(folder, images)
        self.problems: dict[int, str] = {}
        self._identities: dict[int, list] = {}  # of the missing images before they were loaded

    def find_missing(self, block: range) -> list[int]:
        missing = [index for index in block if self._read(self.images[index]) is None]
        self._identities |= {index: self.images[index].identity() for index in missing}
        return missing

    def add(self, index: int, prediction: ImagePrediction | None, problem: str | None = None) -> None:
        if prediction is None:
            self.problems[index] = problem
            return
        write_json(self._file(self.images[index]), {"image": self._identities[index], **vars(prediction)})

    def read_block(
        self, block: range, missing: Sequence[int] = ()
    ) -> Iterator[tuple[int, ImagePrediction | None, str | None]]:
        for index in block:
            if index not in missing:
                yield index, self._read(self.images[index]), self.problems.get(index)

    def _file(self, image: ImageEntry) -> Path:
        return self.folder / f"{image.name}.json"

    def _read(self, image: ImageEntry) -> ImagePrediction | None:
        file = self._file(image)
        if not file.is_file():
            return None
        content = read_json_file(file, "predictions_dir", remedy=_REMEDY)
        if not isinstance(content, dict) or set(content) != _KEYS | {"image"}:
            raise _not_a_record(file)
        return ImagePrediction(**content) if content.pop("image") == image.identity() else None


class ShardRecords(PredictionRecords):
    """
    One file for each `SHARD_SIZE` images: a JSON line with their digest, then one line an image.

    Lines are appended to a draft, which gets its final name when all images of the shard have one. A file is valid as
    long as none of its images changes.
    """

    block_size = SHARD_SIZE

    def __init__(self, folder: Path, images: ImageList):
        super().__init__(folder, images)
        self._draft, self._block, self._header, self._num_lines = None, range(0), {}, 0

    def find_missing(self, block: range) -> Sequence[int]:
        file, draft = self._file(block), self._draft_file(block)
        if not (file.is_file() or draft.is_file()):
            return block
        header = self._make_header(block)
        if self._read_header(file) == header:
            return []
        if self._read_header(draft) != header:
            return block
        num_lines = draft.read_bytes().count(b"\n") - 1
        if num_lines == len(block):  # a process was killed before it renamed the draft
            draft.replace(file)
        return block[num_lines:]

    def _begin(self, index: int) -> None:
        """Open the draft of the shard of an image."""
        self._block = self._block_of(index)
        file, self._header = self._draft_file(self._block), self._make_header(self._block)
        file.parent.mkdir(parents=True, exist_ok=True)
        if index == self._block.start:
            file.write_text(to_json(self._header) + "\n", encoding="utf-8")
        else:
            self._header = self._read_header(file)  # of the images whose lines it has
            content = file.read_bytes()
            os.truncate(file, content.rfind(b"\n") + 1)  # a killed process may have written half a line
        self._num_lines = index - self._block.start
        self._draft = open(file, "a", encoding="utf-8")  # noqa: SIM115 (closed with the last line of the block)

    def add(self, index: int, prediction: ImagePrediction | None, problem: str | None = None) -> None:
        if index not in self._block:
            self._begin(index)
        content = {"problem": problem} if prediction is None else vars(prediction)
        self._draft.write(to_json(content, str(self.images[index])) + "\n")
        self._draft.flush()
        self._num_lines += 1
        if self._num_lines == len(self._block):
            self._draft.close()
            if self._make_header(self._block) != self._header:
                raise ValueError(
                    f"`images`: one of {self._block.start + 1} to {self._block.stop}, such as "
                    f"{self.images[index]}, changed during the prediction. Start the same command again"
                )
            self._draft_file(self._block).replace(self._file(self._block))

    def read_block(
        self, block: range, missing: Sequence[int] = ()
    ) -> Iterator[tuple[int, ImagePrediction | None, str | None]]:
        indices = block[: len(block) - len(missing)]
        if not indices:
            return
        file = self._draft_file(block) if missing else self._file(block)
        with open(file, encoding="utf-8") as lines:
            next(lines, "")
            for index in indices:
                content = _parse_line(file, next(lines, ""))
                if set(content) == {"problem"}:
                    yield index, None, content["problem"]
                elif set(content) == _KEYS:
                    yield index, ImagePrediction(**content), None
                else:
                    raise _not_a_record(file)

    def _block_of(self, index: int) -> range:
        start = index // SHARD_SIZE * SHARD_SIZE
        return range(start, min(start + SHARD_SIZE, len(self.images)))

    def _file(self, block: range) -> Path:
        return self.folder / f"shard-{block.start // SHARD_SIZE:06d}.jsonl"

    def _draft_file(self, block: range) -> Path:
        return self.folder / f".{shorten_name(self._file(block).stem)}.pending.jsonl"

    def _read_header(self, file: Path) -> dict | None:
        if not file.is_file():
            return None
        with open(file, encoding="utf-8", errors="replace") as lines:
            line = lines.readline()
        return _parse_line(file, line) if line.endswith("\n") else None

    def _make_header(self, block: range) -> dict:
        """Return the first line: number of images, and digest of their names, sizes and modification times."""
        digest = hashlib.blake2b(digest_size=16)
        for index in block:
            image = self.images[index]
            digest.update(f"{image.name}\0{image.identity()}\0".encode("utf-8", "surrogateescape"))
        return {"images": len(block), "digest": digest.hexdigest()}


def open_records(folder: Path, images: ImageList) -> ImageRecords | ShardRecords:
    """Return the records of a list of images: by image, or by shard for a long list."""
    return (ShardRecords if images.is_long else ImageRecords)(folder, images)


def _parse_line(file: Path, line: str) -> dict:
    try:
        content = json.loads(line)
    except ValueError as error:
        raise ValueError(f"`predictions_dir`: {file} cannot be read as JSON ({error}). {_REMEDY}") from error
    if not isinstance(content, dict):
        raise _not_a_record(file)
    return content


def _not_a_record(file: Path) -> ValueError:
    return ValueError(
        f"`predictions_dir`: {file} is no record of a prediction, so this command did not write it. Move it away, or "
        "choose another `predictions_dir`"
    )
