"""Predictions in the actors of a Ray cluster; tests with the marker `ray` start one (`make test-ray`)."""

import functools
import os
import pickle
import shutil
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sam_ft import Sam3Predictor
from sam_ft.inference import ray_engine
from sam_ft.inference.batch_prediction import run_job
from sam_ft.inference.image_sources import find_images
from sam_ft.inference.prediction_job import PredictionJob
from sam_ft.inference.ray_engine import run_job_on_ray
from sam_ft.options.model import ModelOptions
from sam_ft.options.model_names import TINY
from sam_ft.options.prediction import OUTPUTS, PredictOptions
from sam_ft.utils.processes import ProcessGroup
from sam_ft.utils.ray_actors import (
    ActorPool,
    _WorkerActor,
    check_reachable,
    choose_actors,
    choose_items_per_task,
    connect,
)


PHRASES = ["circle", "red square", "star"]
OPTIONS = PredictOptions(score_threshold=0.3)
LOAD = functools.partial(Sam3Predictor.load, ModelOptions(TINY), device="cpu")


def make_job(shapes, folder, **changes):
    return PredictionJob(find_images([str(shapes / "train")]), PHRASES, folder, list(OUTPUTS), **changes)


def read_files(folder):
    """Read all files but the lists with modification times."""
    files = (file for file in folder.rglob("*") if file.is_file() and ".files" not in file.parts)
    return {file.relative_to(folder): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def expected(shapes, tmp_path_factory):
    """Lines, outputs and records of one process; file names in the outputs are relative to their folder."""
    folder = tmp_path_factory.mktemp("one") / "out"
    lines = run_job(LOAD(options=OPTIONS), make_job(shapes, folder))
    return lines, read_files(folder)


@pytest.fixture
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ray") / "out"


@pytest.fixture
def without_cluster(monkeypatch):
    """Run the code of an actor in this process."""

    def map_items(images, make_worker, pool, items_per_task):
        actor, rest = _WorkerActor(os.getcwd(), pickle.loads(pickle.dumps(make_worker))), list(images)
        for start in range(0, len(rest), items_per_task):
            task = pa.table({"items": [pickle.dumps(rest[start : start + items_per_task])]})
            for table in actor(task):
                finished, problem = pickle.loads(table["results"][0].as_py())
                yield from finished
                if problem:
                    raise ValueError(problem)

    monkeypatch.setattr(ray_engine, "map_items", map_items)


def test_driver_and_actor_write_the_outputs_of_one_process(shapes, expected, folder, without_cluster):
    lines = run_job_on_ray(LOAD, make_job(shapes, folder), OPTIONS, ActorPool(2, 1, 0))
    assert (lines, read_files(folder)) == expected


def test_errors_of_an_actor_end_in_the_line_of_one_process(shapes, folder, without_cluster, tmp_path):
    (tmp_path / "bad.png").write_text("text")
    job = PredictionJob(find_images([str(tmp_path / "bad.png")]), PHRASES, folder, ["coco"])
    with pytest.raises(ValueError, match="bad.png.*--on_bad_images skip"):
        run_job_on_ray(LOAD, job, OPTIONS, ActorPool(1, 1, 0))
    load = functools.partial(Sam3Predictor.load, ModelOptions(str(tmp_path / "no model")))
    with pytest.raises(ValueError, match="no model"):
        run_job_on_ray(load, job, OPTIONS, ActorPool(1, 1, 0))


@pytest.mark.parametrize(
    "total, nodes, actors, device, expected",
    [
        ({"CPU": 64, "GPU": 8}, [{"CPU": 64, "GPU": 8}], None, None, (8, 1, 1)),
        ({"CPU": 64, "GPU": 8}, [{"CPU": 64, "GPU": 8}], 2, None, (2, 1, 1)),
        ({"CPU": 64, "GPU": 8}, [{"CPU": 64, "GPU": 8}], None, "cpu", (16, 4, 0)),
        ({"CPU": 4}, [{"CPU": 4}], None, "cuda", (1, 1, 1)),  # a cluster that adds machines when they are requested
        ({"CPU": 2}, [{"CPU": 2}], None, None, (1, 2, 0)),
        ({"CPU": 2}, [{"CPU": 2}], 2, None, (2, 1, 0)),
        ({"CPU": 16}, [{"memory": 1}, *[{"CPU": 2}] * 8], None, None, (4, 2, 0)),  # an actor lies on one machine
        ({"CPU": 1}, [{"CPU": 1}], 2, None, (2, 0.5, 0)),
    ],
)
def test_number_and_resources_of_actors(total, nodes, actors, device, expected):
    assert choose_actors(total, nodes, actors, device) == ActorPool(*expected)


def test_tasks_are_whole_batches():
    assert choose_items_per_task(40, 1, ActorPool(2, 1, 0)) == 2
    assert choose_items_per_task(40, 4, ActorPool(2, 1, 0)) == 4
    assert choose_items_per_task(1_000_000, 6, ActorPool(8, 1, 1)) == 258


def test_keys_are_checked(script, monkeypatch):
    call = ["sam3_predict.py", "--images", "x.png", "--phrases", "circle"]
    assert "`ray_actors` is used with `engine: ray` only" in script(*call, "--ray_actors", "2")[2]

    class TwoProcesses(ProcessGroup):
        def gather(self, value):
            return [value] * 2

    with monkeypatch.context() as context:
        context.setattr(ProcessGroup, "start", lambda: TwoProcesses(0, 2))
        assert "Start it without `accelerate launch`" in script(*call, "--engine", "ray")[2]
    monkeypatch.setitem(sys.modules, "ray", None)
    status, _, output = script(*call, "--engine", "ray")
    assert status == 1
    assert output.count("\n") == 1
    assert 'pip install "sam-ft[ray]"' in output


def test_unreachable_address():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ValueError, match=f"no Ray cluster answers at {address}"):
            check_reachable(address)
    with pytest.raises(ValueError, match="must be HOST:PORT"):
        check_reachable("127.0.0.1")


@pytest.fixture(scope="module")
def cluster():
    """Cluster of two CPUs; this process stays connected to it."""
    ray = pytest.importorskip("ray")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200 * 2**20)
    yield ray
    ray.shutdown()


@pytest.mark.ray
def test_two_actors_write_the_outputs_of_one_process(cluster, shapes, expected, folder):
    with connect(None, 2) as pool:
        lines = run_job_on_ray(LOAD, make_job(shapes, folder), OPTIONS, pool)
    assert (lines, read_files(folder)) == expected
    assert cluster.is_initialized(), "the connection was not opened by the prediction"


@pytest.mark.ray
def test_a_killed_actor_is_replaced(cluster, shapes, expected, folder):
    killed = []

    def kill_an_actor():
        end = time.monotonic() + 120
        while not list(folder.glob("predictions/*.json")) and time.monotonic() < end:
            time.sleep(0.05)
        for process in psutil.Process().children(recursive=True):
            if process.name().startswith("ray::MapWorker") and not killed:
                killed.append(process.pid)
                os.kill(process.pid, signal.SIGKILL)

    thread = threading.Thread(target=kill_an_actor)
    thread.start()
    with connect(None, 2) as pool:
        lines = run_job_on_ray(LOAD, make_job(shapes, folder), OPTIONS, pool)
    thread.join()
    assert killed
    assert (lines, read_files(folder)) == expected


@pytest.mark.ray
def test_error_lines_of_the_command(cluster, shapes, script, tmp_path):
    (tmp_path / "photos").mkdir()
    shutil.copyfile(shapes / "train" / "00001.png", tmp_path / "photos" / "a.png")
    (tmp_path / "photos" / "b.png").write_text("text")
    call = ["sam3_predict.py", "--images", "photos", "--phrases", "circle", "--workers", "0"]
    status, _, expected = script(*call, "--predictions_dir", "one")
    assert status == 1
    status, _, output = script(*call, "--predictions_dir", "two", "--engine", "ray")
    assert status == 1
    assert output.splitlines()[-1] == expected.splitlines()[-1]
    assert [file.name for file in (tmp_path / "two" / "predictions").glob("[!.]*")] == ["a.json"]


@pytest.mark.ray
def test_prediction_over_data_sets(cluster, shapes, tmp_path):
    """Files, pixels, encoded images and streamed rows of a Hub data set result in the same detections."""
    import datasets

    from sam_ft.inference.ray import predict

    files = sorted((shapes / "train").glob("*.png"))
    rows = [{"image": {"bytes": file.read_bytes(), "path": None}} for file in files]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "images.parquet")
    features = datasets.Features({"image": datasets.Image()})
    streamed = datasets.IterableDataset.from_generator(functools.partial(iter, rows), features=features)
    sources = [
        [str(shapes / "train")],
        cluster.data.read_images(str(shapes / "train"), include_paths=True),
        cluster.data.read_parquet(str(tmp_path / "images.parquet")),
        streamed,
    ]
    results = []
    for source in sources:
        detections = predict(source, TINY, PHRASES, options=OPTIONS, batch_size=2, dtype="float32").take_all()
        results.append(sorted((row["phrase"], row["score"], row["segmentation"]) for row in detections))
        names = {row["image"] for row in detections}
    assert results[0]
    assert all(result == results[0] for result in results)
    assert all(len(name) == 32 for name in names), "digests"
    assert {Path(row["image"]).stem for row in predict(sources[1], TINY, PHRASES, options=OPTIONS).take_all()} <= {
        file.stem for file in files
    }
