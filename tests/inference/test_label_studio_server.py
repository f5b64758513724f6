"""The labelling loop with a Label Studio server (`make test-label-studio`): predict, correct, train, predict better."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from sam_ft.data.loading import find_phrase_splits
from sam_ft.data.sources import read_splits
from sam_ft.data.synthetic.scene_files import write_shape_scenes
from sam_ft.inference.label_studio_config import read_labelling_config
from sam_ft.inference.label_studio_regions import build_prediction
from sam_ft.inference.predictor import ImagePrediction
from sam_ft.ops.masks import decode_mask
from sam_ft.options.data import DatasetOptions, ReadOptions
from sam_ft.options.model_names import TINY
from sam_ft.options.scenes import NEW_SHAPES, SHAPES, SceneFiles, SceneOptions

from ..training.common import ROOT


pytestmark = pytest.mark.label_studio

TOKEN = "0123456789abcdef0123456789abcdef01234567"
PROGRAM = os.environ.get("LABEL_STUDIO", "label-studio")
TRAIN, VALIDATION = 20, 12
CONFIG = f"""
model_name_or_path: {TINY}
concept_tokens: 8
pairs_per_chunk: 64
resize: plain
color_jitter: 0.5
crop_probability: 0.7
min_crop: 0.7
negative_ratio: 0.4
max_steps: 120
per_device_train_batch_size: 10
gradient_accumulation_steps: 1
learning_rate: 1.5e-2
lr_scale: 1.0
weight_decay: 0.0
lr_schedule: transformers
lr_scheduler_type: cosine
warmup_steps: 0
eval_strategy: "no"
save_strategy: "no"
report_to: none
validation_fraction: 0.1
"""


def find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        return opened.getsockname()[1]


def wait_for(function, seconds: float, what: str):
    """Call a function until its result is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if result := function():
                return result
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"no {what} within {seconds} s")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Document root with scenes in `photos`, of which only stars, hearts and crosses are labelled."""
    folder = tmp_path_factory.mktemp("root")
    scenes = SceneOptions(
        shapes=[*NEW_SHAPES, *NEW_SHAPES, *SHAPES], min_shapes=1, max_shapes=2, sizes=["medium", "large"],
        fills=["solid"], grounds=["plain", "gradient", "speckled"], clutter=0.0, seed=11,
    )  # fmt: skip
    files = SceneFiles(scenes, num_train=TRAIN, num_validation=VALIDATION, train_labels=list(NEW_SHAPES))
    write_shape_scenes(folder / "photos", files)
    return folder


@pytest.fixture(scope="module")
def studio(root, tmp_path_factory):
    """Client of a started Label Studio."""
    data, port = tmp_path_factory.mktemp("data"), find_free_port()
    environment = os.environ | {
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(root),
        "ML_BLOCK_LOCAL_IP": "false",
        "SSRF_PROTECTION_ENABLED": "false",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
    }
    command = [
        PROGRAM, "start", "--no-browser", "--data-dir", data, "--port", port, "--internal-host", "127.0.0.1",
        "--username", "user@example.com", "--password", "integration-test", "--user-token", TOKEN,
        "--enable-legacy-api-token",
    ]  # fmt: skip
    with (data / "server.log").open("wb") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, env=environment)
    headers = {"Authorization": f"Token {TOKEN}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=120) as client:
        try:
            wait_for(lambda: process.poll() is None and client.get("/health").status_code == 200, 300, "Label Studio")
            yield client
        finally:
            process.terminate()
            process.wait(30)


def make_command(recipe: str, keys: dict) -> list[str]:
    words = [[f"--{key}", *map(str, value if isinstance(value, list) else [value])] for key, value in keys.items()]
    return [sys.executable, str(ROOT / "recipes" / recipe), *itertools.chain(*words)]


class Backend:
    """A process of `sam-ft serve` with its messages."""

    def __init__(self, studio, root: Path, project: int, port: int):
        self.url, self.log = f"http://127.0.0.1:{port}", root / "serve.log"
        (root / "train.yaml").write_text(CONFIG)
        keys = {
            "model_name_or_path": TINY, "label_studio": str(studio.base_url), "document_root": root, "port": port,
            "device": "cpu", "train_project": project, "train_config": root / "train.yaml", "train_after": TRAIN,
            "train_dir": root / "trainings",
        }  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                make_command("serve.py", keys), stdout=log, stderr=log, env=os.environ | {"LABEL_STUDIO_API_KEY": TOKEN},
            )  # fmt: skip
        wait_for(lambda: self.health["status"] == "UP", 120, "backend")

    @property
    def health(self) -> dict:
        assert self.process.poll() is None, self.log.read_text()
        return httpx.get(f"{self.url}/health").json()

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(60)


def send(studio, method: str, path: str, **options) -> dict | list:
    response = studio.request(method, path, **options)
    assert response.status_code < 300, f"{path}: {response.status_code} {response.text[:1000]}"
    return response.json() if response.content else {}


def retrieve_predictions(studio, project: int) -> list[dict]:
    """Predict all tasks, as the action "Retrieve predictions" of the Data Manager does, and return the tasks."""
    ids = [task["id"] for task in list_tasks(studio, project)]
    action = {"selectedItems": {"all": False, "included": ids}, "project": project}
    send(studio, "POST", f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}", json=action)
    return list_tasks(studio, project)


def list_tasks(studio, project: int) -> list[dict]:
    return send(studio, "GET", f"/api/tasks?project={project}&page_size=1000&fields=all")["tasks"]


def read_rows(folder: Path) -> dict:
    """Read the rows of all splits by split and name of the image."""
    splits, _ = find_phrase_splits(DatasetOptions(str(folder)))
    read = read_splits(splits, ReadOptions(allow_outside_images=True))
    return {split: {Path(row["example_id"]).stem.zfill(5): row for row in rows} for split, (rows, _) in read.items()}


def unite_masks(rows: dict[str, dict]) -> dict[tuple[str, str], np.ndarray]:
    """Return the union of the masks of each image and new phrase."""
    masks = {}
    for name, row in rows.items():
        size = row["height"], row["width"]
        for phrase in row["phrases"]:
            if phrase["text"] in NEW_SHAPES:
                parts = [decode_mask(row["instances"][i]["segmentation"], *size) for i in phrase["instances"]]
                masks[name, phrase["text"]] = np.any([np.zeros(size, bool), *parts], axis=0)
    return masks


def score(tasks: list[dict], version: str, truth: dict, folder: Path) -> float:
    """Compute the mean IoU of predictions of a version, over the pairs of image and phrase with an object."""
    export = []
    for task in tasks:
        (prediction,) = [p for p in task["predictions"] if p["model_version"] == version]
        export.append({"id": task["id"], "data": task["data"], "annotations": [{"result": prediction["result"]}]})
    folder.mkdir()
    (folder / "export.json").write_text(json.dumps(export))
    (folder / "images").symlink_to(folder.parent / "photos")
    has_regions = any(task["annotations"][0]["result"] for task in export)
    found = unite_masks(read_rows(folder)["train"]) if has_regions else {}
    ious = [
        0.0 if (mask := found.get(key)) is None else (mask & expected).sum() / (mask | expected).sum()
        for key, expected in truth.items()
        if expected.any()
    ]
    return float(np.mean(ious))


def build_annotation(row: dict, tools) -> list[dict]:
    """Convert the ground truth of an image to regions, as a user draws them."""
    detections = {
        phrase["text"]: [
            {"score": 1.0, "bbox": row["instances"][i]["bbox"],
             "segmentation": {"size": [row["height"], row["width"]], "counts": row["instances"][i]["segmentation"]}}
            for i in phrase["instances"]
        ]
        for phrase in row["phrases"] if phrase["text"] in NEW_SHAPES
    }  # fmt: skip
    prediction = ImagePrediction(row["example_id"], row["height"], row["width"], detections)
    return build_prediction(prediction, tools, "", row["example_id"][:8])["result"]


def predict_and_import(studio, root: Path) -> tuple[int, str]:
    """Create a project with a task for each image and predictions of the training images; return id and config."""
    keys = {
        "model_name_or_path": TINY, "images": root / "photos", "phrases": list(NEW_SHAPES), "outputs": "label_studio",
        "predictions_dir": root / "predictions", "device": "cpu",
    }  # fmt: skip
    subprocess.run(make_command("sam3_predict.py", keys), check=True)
    config = (root / "predictions/label_studio/config.xml").read_text()
    project = send(studio, "POST", "/api/projects", json={"title": "Shapes", "label_config": config})["id"]
    send(studio, "POST", "/api/storages/localfiles", json={"project": project, "path": str(root / "photos")})
    tasks = json.loads((root / "predictions/label_studio/tasks.json").read_text())
    tasks = [task if "/train/" in task["data"]["image"] else {"data": task["data"]} for task in tasks]
    send(studio, "POST", f"/api/projects/{project}/import", json=tasks)
    return project, config


def submit_annotations(studio, tasks: list[dict], rows: dict[str, dict], config: str) -> None:
    """Submit the ground truth of the training images."""
    tools = read_labelling_config(config).tools
    for task in tasks:
        if "/train/" in task["data"]["image"]:
            result = build_annotation(rows[Path(task["data"]["image"]).stem], tools)
            send(studio, "POST", f"/api/tasks/{task['id']}/annotations", json={"result": result})


def test_the_model_improves_with_submitted_annotations(root, studio):
    project, config = predict_and_import(studio, root)
    rows = read_rows(root / "photos")
    port = find_free_port()
    backend = Backend(studio, root, project, port)
    try:
        model = {"project": project, "url": backend.url, "title": "SAM 3", "is_interactive": True}
        connection = send(studio, "POST", "/api/ml", json=model)
        assert connection["state"] == "CO"
        base = backend.health["model_version"]
        before = retrieve_predictions(studio, project)
        assert len(before) == TRAIN + VALIDATION
        assert all([p["model_version"] for p in task["predictions"]] == [base] for task in before)

        submit_annotations(studio, before, rows["train"], config)
        wait_for(lambda: backend.health["training"]["state"] == "running", 60, "training")
        health = wait_for(
            lambda: (h := backend.health)["training"]["state"] == "waiting" and h, 600, "end of the training"
        )
        assert health["training"]["finished"] == "0001", health
        assert "error" not in health["training"]
        tuned = health["model_version"]
        assert tuned != base

        prelabel = {"model_version": "SAM 3", "show_collab_predictions": True}  # the title of the model, not a version
        send(studio, "PATCH", f"/api/projects/{project}", json=prelabel)
        task = send(studio, "GET", f"/api/projects/{project}/next")  # the next task of "Label All Tasks"
        assert {prediction["model_version"] for prediction in task["predictions"]} == {tuned}
        truth = unite_masks(rows["validation"])
        after = retrieve_predictions(studio, project)
        validation = [task for task in after if "/val/" in task["data"]["image"]]
        scores = [score(validation, version, truth, root / f"{n}") for n, version in enumerate((base, tuned))]
        print(f"mean IoU before {scores[0]:.3f}, after {scores[1]:.3f}")  # noqa: T201
        assert scores[1] > scores[0] + 0.2, scores

        backend.stop(signal.SIGKILL)
        backend = Backend(studio, root, project, port)
        assert backend.health["model_version"] == tuned
        send(studio, "POST", f"/api/ml/{connection['id']}/train", json={})  # the button "Start Training"
        wait_for(lambda: psutil.Process(backend.process.pid).children(), 60, "process of the training")
        (training,) = psutil.Process(backend.process.pid).children()
        backend.stop(signal.SIGKILL)
        training.wait(60)  # ends with the backend
        backend = Backend(studio, root, project, port)
        assert backend.health["model_version"] == tuned
        for file in [backend.log, *(root / "trainings").rglob("*")]:
            assert not file.is_file() or TOKEN.encode() not in file.read_bytes(), file
    finally:
        backend.stop()
