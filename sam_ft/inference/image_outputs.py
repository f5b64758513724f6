"""Output files of each image of a batch prediction, which never replace files that a prediction did not write."""

import os
import shutil
from functools import partial
from pathlib import Path

from ..data.image_entries import ImageEntry
from ..utils.files import atomic_path
from ..utils.json_files import read_json_file, write_json
from .output_writers import encode_labelme, encode_masks, encode_overlay, encode_yolo
from .prediction_job import PredictionJob
from .prediction_records import FOLDER, LISTINGS, PredictionRecords
from .predictor import ImagePrediction


class ImageOutputs:
    """
    Writer of the output files of each image.

    The sizes and modification times of the files of an image are listed in `predictions/.files/NAME.json`. A file is
    replaced only if it is listed there as it is, or has the content that would be written: a killed process may not
    have listed it.

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
            contents[f"yolo/images/{prediction.name}{image.suffix}"] = image.load()
        return contents

    def _write(self, name: str, contents: dict[str, bytes | Path]) -> None:
        """Write files that are not there yet or that a prediction wrote, and list them."""
        listing = self.job.folder / FOLDER / LISTINGS / f"{name}.json"
        listed = read_json_file(listing, "predictions_dir") if listing.is_file() else {}
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
        write_json(listing, listed | {file: _describe(self.job.folder / file) for file in contents})


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
