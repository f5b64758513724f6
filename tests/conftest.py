"""Shared fixtures: offline mode, seeds, one thread (faster for tiny models), small data sets and tuned models."""

import os


os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import gc  # noqa: E402
import json  # noqa: E402
import logging  # noqa: E402
import re  # noqa: E402
import runpy  # noqa: E402
import sys  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

from sam_ft.data.synthetic.scene_files import write_shape_scenes  # noqa: E402
from sam_ft.options.scenes import (  # noqa: E402
    NEW_SHAPES,
    SHAPES,
    SceneFiles,  # noqa: E402
    SceneOptions,
)


torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))

HEADS = {"freeze": ["vision_encoder", "text_encoder"]}
# With frozen encoders only the heads are trained, which needs larger steps.
HEADS_RATES = {"learning_rate": 7e-4}
HEADS_STEPS = 80


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Distribute tests over processes by file, and all files with tuned models together, which are trained once."""
    from xdist.scheduler import LoadFileScheduling

    folder = Path(__file__).parent
    parameter = re.compile(r"[(,]\s*tuned(_adapter|_behind_frozen_encoders)?\b")
    tuned = {file for file in folder.rglob("test_*.py") if parameter.search(file.read_text(encoding="utf-8"))}

    class Scheduler(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "tuned" if folder.parent / file in tuned else file

    return Scheduler(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(scope="module", autouse=True)
def _freeze_objects():
    """Exclude imported libraries from garbage collections; the trainer collects at each start, which took 0.5 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """A COCO tree of synthetic scenes: 4 training and 2 validation images of 160×120."""
    scenes = SceneOptions(width=160, height=120, shapes=["circle", "rectangle", "triangle"], cut_off=0.0, seed=1)
    return write_shape_scenes(tmp_path_factory.mktemp("shapes"), SceneFiles(scenes, num_train=4, num_validation=2))


@dataclass
class TunedRun:
    """Packaged model after a short fine-tuning run on stars, hearts and crosses, with its folder and metrics."""

    folder: Path
    trainer: object
    before: dict
    after: dict


@pytest.fixture(scope="session")
def new_shapes(tmp_path_factory):
    """20 plain scenes in which only stars, hearts and crosses are labelled, and 50 in which all shapes are."""
    scenes = SceneOptions(
        shapes=[*NEW_SHAPES, *NEW_SHAPES, *SHAPES], min_shapes=1, max_shapes=2, sizes=["medium", "large"], fills=["solid"],
        grounds=["plain", "gradient", "speckled"], clutter=0.0, seed=11,
    )  # fmt: skip
    files = SceneFiles(scenes, num_train=20, num_validation=50, train_labels=list(NEW_SHAPES))
    return write_shape_scenes(tmp_path_factory.mktemp("new_shapes"), files)


@pytest.fixture(scope="session")
def tuned(new_shapes, tmp_path_factory):
    """Tuned model that several tests share."""
    return tune(new_shapes, tmp_path_factory.mktemp("tuned"))


@pytest.fixture(scope="session")
def tuned_behind_frozen_encoders(tuned, new_shapes, tmp_path_factory):
    """Tuned model whose encoders are frozen and whose features are cached."""
    folder, cache = tmp_path_factory.mktemp("heads"), tmp_path_factory.mktemp("features") / "cache"
    data = {"feature_cache": str(cache), "cache_views": 12, "cache_text": True}
    return tune(new_shapes, folder, HEADS_STEPS, HEADS_RATES, data, before=tuned.before, **HEADS)


@pytest.fixture(scope="session")
def tuned_adapter(tuned, new_shapes, tmp_path_factory):
    """Tuned model with LoRA adapters, whose learning rates are three to five times larger."""
    return tune(
        new_shapes,
        tmp_path_factory.mktemp("adapter"),
        before=tuned.before,
        lora="attention",
        lora_r=8,
        rates={"learning_rate": 5e-4, "vision_learning_rate": 5e-4, "text_learning_rate": 2e-3},
    )


def tune(dataset, folder, steps=80, rates=None, data=None, before=None, **model):
    """Fine-tune the packaged model; `before` is an evaluation of the same initial model on the same images."""
    from .training.common import build

    trainer = build(
        dataset,
        folder,
        "sam-ft/tiny",
        data={"color_jitter": 0.4, "negative_ratio": 0.4, "crop_probability": 0.7, **(data or {})},
        model={"pairs_per_chunk": 64, **model},
        max_steps=steps,
        per_device_train_batch_size=8,
        per_device_eval_batch_size=10,
        gradient_accumulation_steps=1,
        **({"learning_rate": 1.5e-4, "vision_learning_rate": 1e-4, "text_learning_rate": 7e-4} | (rates or {})),
        lr_scale=1.0,
        vision_layer_decay=1.0,
        weight_decay=0.01,
        lr_schedule="transformers",
        lr_scheduler_type="cosine",
        warmup_steps=10,
        logging_steps=20,
        num_pictures=2,
    )
    before = before or trainer.evaluate(metric_key_prefix="before")
    trainer.train()
    after = trainer.evaluate()
    trainer.save_model()
    return TunedRun(folder, trainer, before, after)


@pytest.fixture
def coco(tmp_path):
    """
    Return a function `coco(annotations, images=…, categories=…)` that writes a COCO file and returns its path.

    Images are 40×30 px by default, and are drawn unless `draw=False`.
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
    """Return an annotation with a square polygon."""
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


@pytest.fixture
def script(tmp_path, monkeypatch, capsys):
    """
    Return a function `script(name, *arguments)` that runs `recipes/name` in this process and in `tmp_path`.

    It returns exit status, output and error stream. A separate process would spend ten seconds on imports; only the
    tests of whole runs start one.
    """
    package = logging.getLogger("sam_ft")
    for attribute, value in (("handlers", []), ("propagate", package.propagate), ("level", package.level)):
        monkeypatch.setattr(package, attribute, value)
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        package.handlers.clear()
        file = str(Path(__file__).parents[1] / "recipes" / name)
        monkeypatch.setattr(sys, "argv", [file, *map(str, arguments)])
        capsys.readouterr()
        try:
            runpy.run_path(file, run_name="__main__")
            status = 0
        except SystemExit as end:
            status = end.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run
