"""Output files of each image of a batch prediction, which never replace files that the prediction did not write."""

from functools import partial
from pathlib import Path

from ..data.image_entries import ImageEntry
from .output_writers import derive_phrase_file_names, write_labelme, write_masks, write_overlay, write_yolo
from .prediction_job import PredictionJob
from .prediction_records import PredictionRecords
from .predictor import ImagePrediction


class ImageOutputs:
    """
    Writer of the output files of each image.

    Args:
        job (`PredictionJob`): Images and outputs.
        records (`PredictionRecords`): Records of the predictions.

    Attributes:
        num_filled (`int`): Number of masks whose holes were filled, because the YOLO format has none.
    """

    def __init__(self, job: PredictionJob, records: PredictionRecords):
        self.job, self.records, self.num_filled = job, records, 0
        self._writers = {
            "overlays": partial(write_overlay, channels=job.image_channels),
            "masks": write_masks,
            "labelme": write_labelme,
        }

    def add(self, index: int, result: ImagePrediction | str) -> None:
        """
        Write all files of an image, and then its record; an unreadable image has a record alone.

        Args:
            index (`int`): Index of the image.
            result (`ImagePrediction` or `str`): Its prediction, or the reason why it cannot be read.

        Raises:
            `ValueError`: If a file exists that this prediction did not write, or that was edited since.
        """
        if isinstance(result, str):
            self.records.add(index, None, result)
        else:
            self._write(index, result)

    def _write(self, index: int, prediction: ImagePrediction) -> None:
        image, folder = self.job.images[index], self.job.folder
        self._check_writable(index, image, prediction)
        self.records.begin(index)
        for name, writer in self._writers.items():
            if name in self.job.outputs:
                writer(prediction, image, folder / name)
        if "yolo" in self.job.outputs:
            self.num_filled += write_yolo(prediction, image, folder / "yolo", self.job.classes)
        self.records.add(index, prediction)

    def _check_writable(self, index: int, image: ImageEntry, prediction: ImagePrediction) -> None:
        """Refuse to replace files that are newer than the record of the image, or that have none."""
        files = [file for file in self._list_files(image, prediction) if file.exists()]
        written_before = self.records.written_before(index) if files else 0
        for file in files:
            is_link = image.is_file and file.samefile(image.file)  # the YOLO output links the source image
            if not is_link and file.stat().st_mtime_ns > written_before:
                raise ValueError(
                    f"`predictions_dir`: {file} was not written by this prediction, or was edited since. Move it "
                    "away, or choose another `predictions_dir`"
                )

    def _list_files(self, image: ImageEntry, prediction: ImagePrediction) -> list[Path]:
        folder, name = self.job.folder, prediction.name
        files: list[Path] = []
        if "overlays" in self.job.outputs:
            files.append(folder / "overlays" / f"{name}.jpg")
        if "labelme" in self.job.outputs:
            files.append(folder / "labelme" / f"{name}.json")
        if "masks" in self.job.outputs:
            phrase_names = derive_phrase_file_names(list(prediction.detections)).values()
            files += [folder / "masks" / name / f"{phrase}.png" for phrase in phrase_names]
        if "yolo" in self.job.outputs:
            files.append(folder / "yolo" / "labels" / f"{name}.txt")
            files.append(folder / "yolo" / "images" / f"{name}{image.suffix}")
        return files
