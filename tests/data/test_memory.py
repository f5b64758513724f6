"""Memory of one image, in a process with a limited address space."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.samples.pipeline import EvaluationSamples
from sam_ft.ops.masks import encode_mask

from .readers.trees import png, write_json


pytestmark = pytest.mark.slow

MEMORY_LIMIT = 100  # MB beyond the imports
SPECKS = 900  # masks of 0.5 MB each
MASKS = 140  # masks of 1.0 MB each
SIDE = 1000
PROGRAM = """
import json, resource, sys
from sam_ft.data.loading import load_phrase_dataset
from sam_ft.options.data import DatasetOptions, ReadOptions
with open("/proc/self/statm") as stream:
    used = int(stream.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[3]) * 2**20,) * 2)
results = {}
for name, reading in json.loads(sys.argv[2]).items():
    try:
        data = load_phrase_dataset(DatasetOptions(f"{sys.argv[1]}/{name}"), ReadOptions(**reading))
        results[name] = len(data.validation[0]["instances"])
    except Exception as error:
        results[name] = f"{type(error).__name__}: {error}"
print(json.dumps(results))
"""
NUMBERS = {"class_name": "speck", "mask_values": "instances"}
CASES = {
    "noise": NUMBERS,
    "noisy_classes": {"class_name": "speck", "mask_values": "components"},
    "specks": {"class_name": "speck", "mask_values": "components"},
    "numbers": NUMBERS,
    "cvat": {},
    "labelme": {},
    "mask_files": {"class_name": "thing"},
    "many": {},
}


def save_pair(folder: Path, values: np.ndarray) -> None:
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    height, width = values.shape
    Image.new("RGB", (width, height), "teal").save(folder / "images" / "a.png")
    Image.fromarray(values).save(folder / "masks" / "a.png")


def specks() -> np.ndarray:
    values = np.zeros((600, 800), dtype=np.uint16)
    values[np.arange(SPECKS) // 30 * 18 + 5, np.arange(SPECKS) % 30 * 25 + 5] = 1
    return values


def write_cvat(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (SIDE, SIDE), "teal").save(folder / "images" / "a.png")
    mask = f'<mask label="thing" rle="100, {SIDE**2 - 100}" left="0" top="0" width="{SIDE}" height="{SIDE}"/>'
    image = f'<image id="0" name="a.png" width="{SIDE}" height="{SIDE}">{mask * MASKS}</image>'
    (folder / "annotations.xml").write_text(f"<annotations>{image}</annotations>")


def write_labelme(folder: Path) -> None:
    folder.mkdir()
    Image.new("RGB", (SIDE, SIDE), "teal").save(folder / "a.png")
    whole = png(np.ones((SIDE, SIDE), dtype=bool))
    shape = {"label": "thing", "points": [[0, 0], [SIDE, SIDE]], "shape_type": "mask", "mask": whole}
    write_json(folder / "a.json", {"shapes": [shape] * MASKS, "imagePath": "a.png", "imageData": None})


def write_mask_files(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    (folder / "masks" / "a").mkdir(parents=True)
    Image.new("RGB", (SIDE, SIDE), "teal").save(folder / "images" / "a.png")
    first = folder / "masks" / "a" / "0.png"
    Image.new("L", (SIDE, SIDE), 255).save(first)
    for i in range(1, MASKS):
        (folder / "masks" / "a" / f"{i}.png").write_bytes(first.read_bytes())


def write_many(folder: Path) -> None:
    """Write one image with 30,000 objects."""
    (folder / "train").mkdir(parents=True)
    Image.new("RGB", (600, 600), "teal").save(folder / "train" / "a.png")
    square = [1, 1, 3, 1, 3, 3, 1, 3]
    annotations = [
        {"id": i, "image_id": 1, "category_id": 1, "segmentation": [square], "bbox": [1, 1, 2, 2]}
        for i in range(30_000)
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 600, "height": 600}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "thing"}],
    }
    write_json(folder / "annotations" / "instances_train.json", content)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return the number of instances, or the error, of each of `CASES`."""
    folder = tmp_path_factory.mktemp("memory")
    noise = np.random.default_rng(0).integers(0, 2**16, (400, 400), dtype=np.uint16)
    save_pair(folder / "noise", noise)
    save_pair(folder / "noisy_classes", ((noise > 2**15) * np.indices(noise.shape).sum(0) % 4 == 1).astype(np.uint8))
    save_pair(folder / "specks", specks())
    save_pair(folder / "numbers", specks() * np.cumsum(specks()).reshape(600, 800).astype(np.uint16))
    write_cvat(folder / "cvat")
    write_labelme(folder / "labelme")
    write_mask_files(folder / "mask_files")
    write_many(folder / "many")
    command = [sys.executable, "-c", PROGRAM, str(folder), json.dumps(CASES), str(MEMORY_LIMIT)]
    environment = os.environ | {"MALLOC_ARENA_MAX": "1"}  # otherwise each thread reserves 64 MB
    process = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environment)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("name", "number"),
    [("specks", SPECKS), ("numbers", SPECKS), ("cvat", MASKS), ("labelme", MASKS), ("mask_files", MASKS)],
)
def test_masks_of_one_image_are_not_all_in_memory(results, name, number):
    assert results[name] == number


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("noise", "different numbers; at most 10000 objects an image are read"),
        ("noisy_classes", "connected parts or more; at most 10000 objects an image are read"),
        ("many", "image id 1 (a.png): the image has 30000 instances; at most 10000 an image are read"),
    ],
)
def test_an_image_with_too_many_objects_is_refused(results, name, message):
    assert results[name].startswith("DatasetFormatError: ")
    assert message in results[name]


def test_masks_of_a_sample_are_limited():
    counts = encode_mask(np.ones((8, 8), dtype=bool))
    instance = {"bbox": [0, 0, 8, 8], "segmentation": counts, "area": 64, "is_crowd": False}
    phrase = {"text": "cell", "instances": list(range(5000)), "exhaustive": True}
    row = {"example_id": "e", "width": 8, "height": 8, "image": Image.new("RGB", (8, 8))}
    row |= {"instances": [instance] * 5000, "phrases": [phrase]}
    with pytest.raises(
        ValueError, match=r"example 'e' has 5000 instances, whose masks take 4.7 GiB at 1008 px, more than 4"
    ):
        EvaluationSamples([row], resolution=1008, geometry_token=False)[0]
    assert len(EvaluationSamples([row], resolution=56, geometry_token=False)[0].masks) == 5000
