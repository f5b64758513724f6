"""Offline, seeded, two threads; small data sets that several tests read."""

import os


os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import json  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

from sam_ft.data.synthetic import SceneOptions, write_shape_scenes  # noqa: E402


torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """A COCO tree of synthetic scenes: 4 training and 2 validation images of 160×120."""
    options = SceneOptions(num_train=4, num_validation=2, width=160, height=120, seed=1)
    return write_shape_scenes(tmp_path_factory.mktemp("shapes"), options)


@pytest.fixture
def coco(tmp_path):
    """
    Writes a COCO file with its images: `coco(images=…, annotations=…, categories=…)`; images are 40×30 unless told, and
    drawn unless `draw=False`. Returns the file.
    """

    def write(annotations, images=None, categories=None, draw=True, name="instances_train.json"):
        images = images or [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}]
        categories = [{"id": 1, "name": "cat", "supercategory": "animal"}] if categories is None else categories
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "train").mkdir(exist_ok=True)
        for image in images if draw else ():
            size = image.get("width", 40), image.get("height", 30)
            Image.fromarray(np.random.randint(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(
                tmp_path / "train" / image["file_name"]
            )
        file = tmp_path / "annotations" / name
        file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
        return file

    return write


def square(image_id=1, annotation_id=1, x=5, y=5, side=10, **more):
    """An annotation: a square polygon."""
    polygon = [x, y, x + side, y, x + side, y + side, x, y + side]
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": 1,
        "segmentation": [polygon],
        "bbox": [x, y, side, side],
        "area": side * side,
        "iscrowd": 0,
    } | more
