"""Working folder of a page: links to the repository, programs at a reduced cost, and the files that pages assume."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image

from sam_ft.data.synthetic.scene_files import write_shape_scenes
from sam_ft.models.families import PACKAGED_MODELS
from sam_ft.options.model_names import TINY, TINY_SAM2
from sam_ft.options.scenes import SceneFiles, SceneOptions

from .pages import ROOT
from .program_server import SOCKET
from .reduced_program import PROGRAMS


SECONDS = 600  # limit of a command
MODELS = {  # gated models and the packaged ones in their place
    "facebook/sam3": TINY,
    "facebook/sam2.1-hiera-base-plus": TINY_SAM2,
    "facebook/sam2.1-hiera-large": TINY_SAM2,
}
# Data set -> names of its three classes: circles, rectangles and triangles.
DATA_SETS = {
    "path/to/coco": ["pothole", "manhole cover", "circle"],
    "path/to/data": ["pothole", "manhole cover", "circle"],
    "path/to/cracks": ["crack", "patch", "circle"],
}
IMAGE_FOLDERS = {"photos": ("path/to/coco", "train"), "more": ("path/to/coco", "val")}
PICTURES = ("street.jpg", "street_1.jpg", "street_7.jpg", "picture.jpg", "survey.tif", "kitchen.jpg")
_TRAIN, _CONCEPTS = "python recipes/sam3_ft.py --config", "recipes/configs/sam3_concepts.yaml"
# File or folder -> command that makes it.
MADE = {
    "out/mine": f"{_TRAIN} recipes/configs/sam3_lora_24gb.yaml --dataset_name path/to/coco --output_dir out/mine",
    "out/potholes": f"{_TRAIN} {_CONCEPTS} --dataset_name path/to/coco --output_dir out/potholes "
    "--concept_phrases pothole --feature_cache out/features-1",
    "someone/cracks": f"{_TRAIN} {_CONCEPTS} --dataset_name path/to/cracks --output_dir someone/cracks "
    "--concept_phrases crack --feature_cache out/features-2",
    "out/sam2": "python recipes/sam2_ft.py --config recipes/configs/sam2_ft.yaml --dataset_name path/to/data",
    "out/sam2-lora": "python recipes/sam2_ft.py --config recipes/configs/sam2_lora.yaml --dataset_name path/to/data "
    "--output_dir out/sam2-lora",
    "out/demo": "make demo",
    "path/to/sam3.pt": "python recipes/export.py --model_name_or_path facebook/sam3 --format official "
    "--output_path path/to/sam3.pt",
}
# File or folder -> another one, of which it is a copy.
COPIES = {
    "out/lora": "out/mine",
    "out/sam3-lora-24gb": "out/mine",
    "out/sam3-concepts": "out/potholes",
    "sam3.pt": "path/to/sam3.pt",
    "tuned.pt": "path/to/sam3.pt",
    "download.pt": "path/to/sam3.pt",
    "results.json": "out/mine/eval/results.json",
}
_OUTPUT_OPTIONS = r"--(?:output_dir|output_path|predictions_dir|target_dir|review_dir)[= ]\S+"


class WorkingFolder:
    """
    Folder in which the commands of a page run.

    Args:
        path (`Path`): The folder.
        server (`str`): Socket of the server that runs the programs.
        source (`WorkingFolder`, *optional*): Folder from which assumed files are copied. Without it, they are made.
    """

    def __init__(self, path: Path, server: str, source: "WorkingFolder | None" = None):
        self.path, self.source = path, source
        for name in ("recipes", "accelerate_configs", "benchmarks", "Makefile"):
            (path / name).symlink_to(ROOT / name)
        programs = path / ".venv" / "bin"
        programs.mkdir(parents=True)
        (programs / "activate").touch()
        for name in PROGRAMS:
            script = f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/docs/reduced_program.py" {name} "$@"\n'
            (programs / name).write_text(script, encoding="utf-8")
            (programs / name).chmod(0o755)
        self.environment = os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1",
            "CUDA_VISIBLE_DEVICES": "", SOCKET: server,
        }  # fmt: skip
        for name in MODELS:
            self.provide(name)

    def provide(self, name: str) -> Path:
        """Copy or make a file or folder that pages assume, unless it exists; return its path."""
        target = self.path / name
        if target.exists():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.source is None:
            self._make(name, target)
        else:
            _copy(self.source.provide(name), target)
        return target

    def provide_inputs(self, text: str) -> None:
        """Provide all assumed files that a command line or code names, its outputs excluded."""
        words = re.sub(_OUTPUT_OPTIONS, "", text)
        for name in (*DATA_SETS, *IMAGE_FOLDERS, *PICTURES, *MADE, *COPIES, "list.txt"):
            if re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w-])", words):
                self.provide(name)

    def run(self, line: str) -> None:
        """
        Run a command line with bash.

        Raises:
            RuntimeError: If its exit status is not 0; the message ends with the last lines of its output.
        """
        self.provide_inputs(line)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line], cwd=self.path, env=self.environment, timeout=SECONDS,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"exit status {done.returncode}: {line}\n{done.stdout[-3000:]}")

    def _make(self, name: str, target: Path) -> None:
        if name in MODELS:
            shutil.copytree(PACKAGED_MODELS[MODELS[name]], target)
        elif name in DATA_SETS:
            write_data_set(target, DATA_SETS[name])
        elif name in IMAGE_FOLDERS:
            data, split = IMAGE_FOLDERS[name]
            write_photos(self.provide(data), split, target)
        elif name in PICTURES:
            with Image.open(self.provide("photos") / "00001.jpg") as image:
                image.resize((1280, 720)).save(target)
        elif name in MADE:
            self.run(MADE[name])
        elif name == "list.txt":
            images = sorted(self.provide("photos").glob("*.jpg"))
            target.write_text("".join(f"photos/{image.name}\n" for image in images), encoding="utf-8")
        else:
            origin = COPIES[name]
            self.provide("out/mine" if origin.startswith("out/mine") else origin)
            _copy(self.path / origin, target)


def write_data_set(folder: Path, classes: list[str]) -> None:
    """Write scenes of circles, rectangles and triangles, whose classes have other names."""
    shapes = ["circle", "rectangle", "triangle"]
    scenes = SceneOptions(width=160, height=120, shapes=shapes, cut_off=0.0, seed=1)
    write_shape_scenes(folder, SceneFiles(scenes, num_train=6, num_validation=4))
    for file in (folder / "annotations").iterdir():
        content = json.loads(file.read_text(encoding="utf-8"))
        for category in content["categories"]:
            category["name"] = classes[shapes.index(category["name"])]
        file.write_text(json.dumps(content), encoding="utf-8")


def write_photos(data: Path, split: str, folder: Path) -> None:
    """Write the images of a split as JPEG files with a Label Studio export of their boxes, and `street.jpg`."""
    folder.mkdir()
    content = json.loads((data / "annotations" / f"instances_{split}.json").read_text(encoding="utf-8"))
    classes = {category["id"]: category["name"] for category in content["categories"]}
    tasks = []
    for entry in content["images"]:
        name, size = f"{Path(entry['file_name']).stem}.jpg", (entry["width"], entry["height"])
        with Image.open(data / split / entry["file_name"]) as image:
            image.convert("RGB").save(folder / name)
        results = []
        for annotation in content["annotations"]:
            if annotation["image_id"] == entry["id"]:
                x, y, w, h = (100 * value / size[i % 2] for i, value in enumerate(annotation["bbox"]))
                value = {"x": x, "y": y, "width": w, "height": h, "rotation": 0}
                value["rectanglelabels"] = [classes[annotation["category_id"]]]
                result = {"type": "rectanglelabels", "from_name": "box", "to_name": "image", "value": value}
                results.append(result | {"original_width": size[0], "original_height": size[1]})
        annotations = [{"id": entry["id"], "result": results, "was_cancelled": False}]
        tasks.append({"id": entry["id"], "data": {"image": f"/data/upload/1/{name}"}, "annotations": annotations})
    (folder / "export.json").write_text(json.dumps(tasks), encoding="utf-8")
    with Image.open(folder / "00001.jpg") as image:
        image.resize((1280, 720)).save(folder / "street.jpg")


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)
