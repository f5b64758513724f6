"""Benchmark of the loop around a predictor: images per second, memory, and time to resume, for a million images.

    python benchmarks/many_images.py [--images 1000000] [--workers 2]

The predictor is a stub with two detections an image; listing, loading, records and merged outputs are real. The images
are hard links of small PNG files, named in a file list. The run is stopped at 60 % of the images and started again.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_ft.inference.batch_prediction import PREDICTIONS, run_job  # noqa: E402
from sam_ft.inference.image_sources import find_images  # noqa: E402
from sam_ft.inference.prediction_job import PredictionJob  # noqa: E402
from sam_ft.inference.predictor import ImagePrediction  # noqa: E402
from sam_ft.options.prediction import PredictOptions  # noqa: E402
from sam_ft.utils.memory import resident_memory  # noqa: E402


LINKS = 1_000  # images of a folder, which are links of one file
PHRASES = ["red circle", "star"]


class StoppedError(Exception):
    """The stop at a share of the images."""


class StubPredictor:
    """
    Predictor without a model: one detection a phrase in the corner of each image.

    Args:
        stop_after (`int`, *optional*): Number of images after which it raises.
    """

    options, resolution, tiling = PredictOptions(), 8, (None, 0.0)

    def __init__(self, stop_after: int | None = None):
        self.stop_after, self.num_images, self.started, self.ended, self.memory = stop_after, 0, None, None, []

    def predict_job(self, images, job) -> list[ImagePrediction]:
        """Return the predictions of a batch."""
        if self.started is None:
            self.started = time.perf_counter()
        if self.num_images // 10_000 != (self.num_images + len(images)) // 10_000:
            self.memory.append(resident_memory())
        self.num_images += len(images)
        self.ended = time.perf_counter()
        if self.stop_after is not None and self.num_images > self.stop_after:
            raise StoppedError
        mask = {"size": [8, 8], "counts": "0444444:0"}
        detections = {
            text: [{"score": 0.9, "bbox": [0.0, 0.0, 4.0, 4.0], "segmentation": mask}] for text in job.phrases
        }
        presence = dict.fromkeys(job.phrases, 0.9)
        return [ImagePrediction(views.name, *views.size, detections, presence) for views in images]


def write_images(folder: Path, number: int) -> Path:
    """Write small images and a list of their paths; return the list."""
    file_list = folder / "images.txt"
    with open(file_list, "w", encoding="utf-8") as lines:
        for first in range(0, number, LINKS):
            part = folder / f"part-{first // LINKS:04d}"
            part.mkdir()
            Image.fromarray(np.full((8, 8, 3), first // LINKS % 256, np.uint8)).save(part / "0.png")
            for image in range(min(LINKS, number - first)):
                if image:
                    os.link(part / "0.png", part / f"{image}.png")
                lines.write(f"{part.name}/{image}.png\n")
    return file_list


def predict(file_list: Path, folder: Path, workers: int, stop_after: int | None = None) -> str:
    """Predict all images of the list, or stop; return seconds, images per second and memory as text."""
    begin, predictor = time.perf_counter(), StubPredictor(stop_after)
    images = find_images([str(file_list)], folder, PREDICTIONS)
    listed = time.perf_counter() - begin
    job = PredictionJob(images, PHRASES, folder, ["coco", "parquet"], workers=workers)
    with contextlib.suppress(StoppedError):
        run_job(predictor, job)
    rate = predictor.num_images / (predictor.ended - predictor.started)
    memory = [round(size / 1e6) for size in (predictor.memory[0], predictor.memory[-1], resident_memory())]
    return (
        f"{predictor.num_images} of {len(images)} images: listed after {listed:.1f} s, first batch after "
        f"{predictor.started - begin:.1f} s, then {rate:.0f} images/s, merged in "
        f"{time.perf_counter() - predictor.ended:.1f} s; memory {memory[0]} MB after 10,000 images, "
        f"{memory[1]} MB after the last, {memory[2]} MB at the end"
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        file_list, folder = write_images(Path(temporary), options.images), Path(temporary) / "out"
        for stop_after in (int(0.6 * options.images), None):
            print(predict(file_list, folder, options.workers, stop_after), flush=True)


if __name__ == "__main__":
    main()
