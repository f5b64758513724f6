"""Output files of each image of a batch prediction, which never replace files that a prediction did not write."""

import os
import shutil
from array import array
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ..data.image_entries import ImageEntry
from ..utils.files import atomic_path
from ..utils.json_files import read_json_file, write_json
from ..utils.owned_files import remove_empty_folders
from ..utils.text import list_some
from .image_names import compute_name_digest, contains_digest
from .output_writers import encode_labelme, encode_masks, encode_overlay, encode_yolo, find_image_suffix
from .prediction_job import PredictionJob
from .prediction_records import FOLDER, LISTINGS, PredictionRecords
from .predictor import ImagePrediction


FILE_OUTPUTS = {"overlays", "masks", "labelme", "yolo"}  # outputs with files of each image


class ImageOutputs:
    """
    Writer of the output files of each image.

    The sizes and modification times of the files of an image are listed in `predictions/.files/NAME.json`. A file is
    replaced only if it is listed there as it is, or has the content that would be written: a killed process may not
    have listed it. [`EarlierImageOutputs`] removes those of images that are no longer predicted.

    Args:
        job (`PredictionJob`): Images and outputs.
        records (`PredictionRecords`): Records of the predictions.

    Attributes:
        num_filled (`int`): Number of masks whose holes were filled, because the YOLO format has none.
    """

    def __init__(self, job: PredictionJob, records: PredictionRecords):
        self.job, self.records, self.num_filled = job, records, 0
        self._encoders = {
            "overlays": partial(encode_overlay, channels=job.image_channels),
            "masks": encode_masks,
            "labelme": encode_labelme,
            "x_anylabeling": partial(encode_labelme, with_bitmaps=False),
        }

    def add(self, index: int, result: ImagePrediction | str) -> None:
        """
        Write all files of an image, and then its record; an unreadable image has a record alone.

        Args:
            index (`int`): Index of the image.
            result (`ImagePrediction` or `str`): Its prediction, or the reason why it cannot be read.

        Raises:
            `ValueError`: If a file exists that a prediction did not write, or that was edited since.
        """
        if isinstance(result, str):
            self.records.add(index, None, result)
            return
        contents = self._encode(self.job.images[index], result)
        if contents:
            self._write(result.name, contents)
        self.records.add(index, result)

    def restore(self, block: range, missing: Sequence[int]) -> None:
        """
        Write the files of recorded images that [`EarlierImageOutputs`] removed; files that exist are not replaced.

        Args:
            block (`range`): Indices of the images of a record file.
            missing (`Sequence[int]`): Those without a record.
        """
        if not FILE_OUTPUTS & {*self.job.outputs}:
            return
        images, unrecorded = self.job.images, set(missing)
        removed = {i for i in block if i not in unrecorded and not self._listing(images[i].name).is_file()}
        if not removed:
            return
        for index, prediction, _ in self.records.read_block(block, missing):
            if index in removed and prediction is not None:
                contents = self._encode(images[index], prediction)
                free = {f: content for f, content in contents.items() if not os.path.lexists(self.job.folder / f)}
                self._write(prediction.name, free)

    def _encode(self, image: ImageEntry, prediction: ImagePrediction) -> dict[str, bytes | Path]:
        """Return the content of each file of an image, or the file that it is a copy of, by its name in the folder."""
        contents: dict[str, bytes | Path] = {}
        for name, encode in self._encoders.items():
            if name in self.job.outputs:
                files = encode(prediction, image, self.job.folder / name)
                contents |= {f"{name}/{file}": content for file, content in files.items()}
        if "yolo" in self.job.outputs:
            labels, filled = encode_yolo(prediction, self.job.classes)
            self.num_filled += filled
            contents[f"yolo/labels/{prediction.name}.txt"] = labels
            content = image.load()
            contents[f"yolo/images/{prediction.name}{find_image_suffix(image, content)}"] = content
        return contents

    def _listing(self, name: str) -> Path:
        return self.job.folder / FOLDER / LISTINGS / f"{name}.json"

    def _write(self, name: str, contents: dict[str, bytes | Path]) -> None:
        """Write files that are not there yet or that a prediction wrote, list them, and remove listed other ones."""
        listing = self._listing(name)
        listed = _read_listing(listing) if listing.is_file() else {}
        is_written = {}
        for file, content in contents.items():
            path = self.job.folder / file
            is_written[file] = _is_equal(path, content)
            if not is_written[file] and os.path.lexists(path) and _describe(path) != listed.get(file):
                raise ValueError(
                    f"`predictions_dir`: {path} was not written by this prediction, or was edited since. Move it "
                    "away, or choose another `predictions_dir`"
                )
        for file, content in contents.items():
            if not is_written[file]:
                with atomic_path(self.job.folder / file) as draft:
                    _write_content(draft, content)
        _remove_unchanged(self.job.folder, {file: listed[file] for file in listed if file not in contents})
        write_json(listing, {file: _describe(self.job.folder / file) for file in contents})


class EarlierImageOutputs:
    """
    Output files of images that earlier calls predicted and this one does not, a context manager.

    If the context ends without an error, files that are listed as they are, see [`ImageOutputs`], are removed. Their
    records are kept, from which [`ImageOutputs.restore`] writes them again.

    Args:
        folder (`Path`): Output folder.

    Attributes:
        notes (`list[str]`): Lines for the log.
    """

    def __init__(self, folder: Path):
        self.folder, self.notes, self._names = folder, [], array("Q")

    def __enter__(self) -> "EarlierImageOutputs":
        return self

    def add(self, image: ImageEntry, _prediction: ImagePrediction) -> None:
        """Keep the files of an image."""
        self._names.append(compute_name_digest(image.name))

    def __exit__(self, kind, _error, _traceback) -> None:
        if kind is not None:
            return
        root, names = self.folder / FOLDER / LISTINGS, np.sort(np.asarray(self._names))
        num_removed, kept = 0, []
        for folder, _, files in os.walk(root):
            for listing in (Path(folder, file) for file in sorted(files) if file.endswith(".json")):
                name = listing.relative_to(root).as_posix().removesuffix(".json")
                if contains_digest(names, compute_name_digest(name)):
                    continue
                listed = _read_listing(listing)
                changed = _remove_unchanged(self.folder, listed)
                num_removed, kept = num_removed + len(listed) - len(changed), kept + changed
                listing.unlink()
                remove_empty_folders(listing.parent, root)
        if num_removed:
            self.notes.append(f"note: {num_removed} output files of images without a prediction now were removed")
        if kept:
            self.notes.append(f"note: {list_some(kept)}: kept without a prediction of the image, because edited")


def _read_listing(listing: Path) -> dict[str, list[int]]:
    listed = read_json_file(listing, "predictions_dir")
    if not isinstance(listed, dict):
        raise ValueError(f"`predictions_dir`: {listing} is no list of output files. Move it away")
    return listed


def _remove_unchanged(folder: Path, listed: dict[str, list[int]]) -> list[str]:
    """Remove files that are as they were listed; return the names of the other ones that exist."""
    changed = []
    for name, description in listed.items():
        file = folder / name
        if os.path.lexists(file):
            if _describe(file) != description:
                changed.append(name)
                continue
            file.unlink()
        remove_empty_folders(file.parent, folder)
    return changed


def _describe(file: Path) -> list[int]:
    status = file.lstat()
    return [status.st_size, status.st_mtime_ns]


def _is_equal(file: Path, content: bytes | Path) -> bool:
    """Check whether a file has a content; the YOLO output contains links of the images."""
    if not file.is_file():
        return False
    if isinstance(content, bytes):
        return file.stat().st_size == len(content) and file.read_bytes() == content
    return file.samefile(content) and not file.is_symlink()


def _write_content(file: Path, content: bytes | Path) -> None:
    if isinstance(content, bytes):
        file.write_bytes(content)
        return
    try:
        os.link(content.resolve(), file)  # resolved, because a link to a symbolic link may be broken
    except OSError:  # hard links do not cross file systems
        shutil.copyfile(content, file)
