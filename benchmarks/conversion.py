"""Benchmark of conversion and check: the speed of two processes relative to one, on a generated COCO data set.

    python benchmarks/conversion.py                    # 20,000 images of 640×480 with four objects each, 10 minutes
    python benchmarks/conversion.py --images 2000      # a tenth of the time; starting processes weighs more

Each measurement runs in a new process, so that no result of an earlier one is remembered, and excludes the import of
packages. The shortest of `--repeats` is printed. Output files and findings of all are compared; they must be equal.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
from PIL import Image, ImageDraw  # noqa: E402

from benchmarks.measure import device_name  # noqa: E402
from sam_ft.arguments import CheckArguments, ConvertArguments, DataArguments  # noqa: E402
from sam_ft.commands.check import check_data  # noqa: E402
from sam_ft.commands.convert import convert_data  # noqa: E402
from sam_ft.ops.masks import mask_area, mask_box_xywh, polygons_to_counts  # noqa: E402


CLASSES = ("ball", "cup", "fish", "leaf", "ring")
POINTS = 24  # of an outline


def write_blobs(folder: Path, number: int, width: int, height: int, objects: int) -> Path:
    """Write a COCO tree of JPEG images of smooth noise with blobs, labelled by polygons and, every fourth, by RLE.

    Args:
        folder (`Path`): Folder of the COCO tree.
        number (`int`): Number of images; a tenth of them is the validation split.
        width (`int`): Width of the images, px.
        height (`int`): Height of the images, px.
        objects (`int`): Objects in an image.
    """
    draws = np.random.default_rng(0)
    (folder / "annotations").mkdir(parents=True)
    for split, size in (("train", number - number // 10), ("val", number // 10)):
        (folder / split).mkdir()
        images, annotations = [], []
        for index in range(1, size + 1):
            ground = Image.fromarray(draws.integers(0, 256, (15, 20, 3), dtype=np.uint8))
            image, name = ground.resize((width, height), Image.Resampling.BILINEAR), f"{index:06}.jpg"
            for _ in range(objects):
                outline, annotation = _draw_blob(draws, width, height, with_rle=len(annotations) % 4 == 3)
                color = tuple(draws.integers(0, 256, 3).tolist())
                ImageDraw.Draw(image).polygon(outline, fill=color)
                annotations.append({"id": len(annotations) + 1, "image_id": index, "iscrowd": 0, **annotation})
            image.save(folder / split / name, quality=90)
            images.append({"id": index, "file_name": name, "width": width, "height": height})
        categories = [{"id": i, "name": text} for i, text in enumerate(CLASSES, 1)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return folder


def _draw_blob(draws: np.random.Generator, width: int, height: int, *, with_rle: bool) -> tuple[list[float], dict]:
    """Return the outline of a blob, and its annotation."""
    angles = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    radii = height * draws.uniform(0.05, 0.15) * draws.uniform(0.8, 1.2, (POINTS, 1))
    center = draws.uniform([0.15 * height] * 2, [width - 0.15 * height, 0.85 * height])
    points = (center + radii * np.stack([np.cos(angles), np.sin(angles)], axis=-1)).round(1)
    outline = points.ravel().tolist()
    counts = polygons_to_counts([outline], height, width)
    return outline, {
        "category_id": int(draws.integers(1, len(CLASSES) + 1)),
        "segmentation": {"size": [height, width], "counts": counts} if with_rle else [outline],
        "bbox": mask_box_xywh(counts, height, width),
        "area": mask_area(counts, height, width),
    }


def convert(source: Path, target: Path, output_format: str, num_proc: int) -> None:
    """Convert a data set."""
    data_args = DataArguments(dataset_name=str(source))
    convert_data(data_args, ConvertArguments(target_dir=str(target), output_format=output_format, num_proc=num_proc))


def check(source: Path, target: Path, num_proc: int) -> None:
    """Check a data set and write its findings to a file."""
    target.mkdir()
    with open(target / "findings.json", "w", encoding="utf-8") as sys.stdout:
        check_data(
            DataArguments(dataset_name=str(source)),
            CheckArguments(gallery_dir=str(target / "page"), json=True, num_proc=num_proc),
        )


def measure(function: Callable, *args) -> tuple[float, float]:
    """Return the seconds and the CPU seconds that a call takes in a new process."""
    os.sync()  # Otherwise the files of the last measurement are written to the disk during this one.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        return executor.submit(_timed, function, *args).result()


def _timed(function: Callable, *args) -> tuple[float, float]:
    begin, cpu = time.perf_counter(), sum(os.times()[:4])
    function(*args)
    return time.perf_counter() - begin, sum(os.times()[:4]) - cpu


def digest(folder: Path) -> str:
    """Return a digest of the names and contents of all files of a folder."""
    result = hashlib.blake2b()
    for file in sorted(folder.rglob("*")):
        result.update(file.relative_to(folder).as_posix().encode())
        result.update(file.read_bytes() if file.is_file() else b"")
    return result.hexdigest()


def main():
    """Print time and CPU time of conversion and check with one and two processes, and the ratio of the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000, help="number of images")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), help="width and height of the images, px")
    parser.add_argument("--repeats", type=int, default=3, help="measurements, of which the shortest is printed")
    parser.add_argument("--objects", type=int, default=4, help="objects in an image")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = write_blobs(folder / "coco", args.images, *args.size, args.objects)
        print(f"{args.images} images of {args.size[0]}×{args.size[1]}, {args.objects} objects each, {device_name()}")
        tasks = {
            "conversion to coco": (convert, "coco"),
            "conversion to rows": (convert, "rows"),
            "check": (check,),
        }
        for title, (function, *options) in tasks.items():
            times: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
            digests = set()
            for _ in range(args.repeats):
                for num_proc, measured in times.items():
                    target = folder / "target" / "out"
                    target.parent.mkdir()
                    measured.append(measure(function, source, target, *options, num_proc))
                    digests.add(digest(target))
                    shutil.rmtree(target.parent)
            (one, cpu_one), (two, cpu_two) = map(min, times.values())
            print(
                f"  {title}: one process {one:.1f} s ({cpu_one:.1f} s of CPU), two {two:.1f} s ({cpu_two:.1f} s of "
                f"CPU), ratio {one / two:.2f}, {'equal' if len(digests) == 1 else 'DIFFERENT'} output"
            )


if __name__ == "__main__":
    main()
