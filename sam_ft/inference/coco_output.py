"""COCO output of a prediction, written image by image: a data set, and COCO results."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

from ..data.image_entries import ImageEntry
from ..utils.json_files import to_json
from .nms import compute_area
from .output_target import OutputTarget
from .predictor import ImagePrediction


class CocoOutput:
    """
    Writer of `coco.json`, a data set for `annotation_file` and `image_folder`, and of `results.json`, COCO results.

    The parts of both files are collected in temporary files, so that the memory does not grow with the images.

    Args:
        target (`OutputTarget`): Folder; the phrases are the categories, in the order of their ids.
        with_results (`bool`): Whether to write `results.json`, too.

    Raises:
        `ValueError`: If one of the files was not written by a prediction.
    """

    FILES = ("coco.json", "results.json")

    def __init__(self, target: OutputTarget, *, with_results: bool = True):
        self.target, self.with_results = target, with_results
        self.category_ids = {phrase: number for number, phrase in enumerate(target.phrases, 1)}
        self._num_images = self._num_annotations = 0

    def __enter__(self) -> "CocoOutput":
        folder = self.target.owned.folder
        self._images, self._annotations, self._results = (
            tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder)  # noqa: SIM115 (closed by `__exit__`)
            for _ in range(3)
        )
        return self

    def __exit__(self, kind, _error, _traceback) -> None:
        with self._images, self._annotations, self._results:
            if kind is None:
                self.target.owned.write("coco.json", self._write_data_set, self.target.argument)
                if self.with_results:
                    self.target.owned.write("results.json", self._write_results, self.target.argument)

    def add(self, image: ImageEntry, prediction: ImagePrediction, fields: dict | None = None) -> None:
        """
        Add the prediction of an image.

        Args:
            image (`ImageEntry`): The image.
            prediction (`ImagePrediction`): Its prediction; further values of a detection are written, too.
            fields (`dict`, *optional*): Further values of the image.
        """
        self._num_images += 1
        path = os.path.relpath(image.path, self.target.root)
        entry = {"id": self._num_images, "file_name": Path(path).as_posix()}
        entry |= {"width": prediction.width, "height": prediction.height} | (fields or {})
        _append(self._images, entry, is_first=self._num_images == 1)
        for phrase, detections in prediction.detections.items():
            for detection in detections:
                self._num_annotations += 1
                is_first = self._num_annotations == 1
                result = {"image_id": self._num_images, "category_id": self.category_ids[phrase], **detection}
                _append(self._results, result, is_first=is_first)
                common = {"id": self._num_annotations, "noun_phrase": phrase, "area": compute_area(detection)}
                _append(self._annotations, {"segmentation": [], "iscrowd": 0} | result | common, is_first=is_first)

    def _write_data_set(self, file: Path) -> None:
        categories = [
            {"id": number, "name": phrase, "supercategory": "phrase"} for phrase, number in self.category_ids.items()
        ]
        info = {"description": self.target.description, "image_folder": self.target.root}
        with open(file, "w", encoding="utf-8") as target:
            target.write(f'{{"info": {to_json(info)}, "images": [')
            _copy(self._images, target)
            target.write('], "annotations": [')
            _copy(self._annotations, target)
            target.write(f'], "categories": {to_json(categories)}}}')

    def _write_results(self, file: Path) -> None:
        with open(file, "w", encoding="utf-8") as target:
            target.write("[")
            _copy(self._results, target)
            target.write("]")


def _append(part: IO[str], content: dict, *, is_first: bool) -> None:
    part.write(("" if is_first else ", ") + to_json(content, "coco.json"))


def _copy(part: IO[str], target: IO[str]) -> None:
    part.seek(0)
    shutil.copyfileobj(part, target, 1 << 20)
