"""Trainings of a Label Studio project: events, one training at a time, recorded progress, and the exported data."""

import json
import threading
from pathlib import Path

import httpx
import pytest

from sam_ft.inference.label_studio_export import export_project
from sam_ft.inference.label_studio_images import TaskImages
from sam_ft.inference.label_studio_training import PROGRESS_FILE, ProjectTraining

from ..data.readers.test_layouts import read


TOKEN = "legacy-token-of-the-user"
CONFIG = (
    '<View><Image name="picture" value="$photo"/><RectangleLabels name="box" toName="picture">'
    '<Label value="circle"/><Label value="square"/></RectangleLabels></View>'
)


class Trainings:
    """Trainings that end when the test releases them."""

    def __init__(self):
        self.started, self.released, self.num, self.error = threading.Semaphore(0), threading.Semaphore(0), 0, None

    def __call__(self):
        self.num += 1
        self.started.release()
        assert self.released.acquire(timeout=10)
        if self.error is not None:
            raise self.error
        return f"{self.num:04d}"

    def has_started(self, seconds=10.0):
        return self.started.acquire(timeout=seconds)


@pytest.fixture
def trainings():
    return Trainings()


@pytest.fixture
def make(tmp_path, trainings):
    """Make the trainings of project 3, which end with the test."""
    made = []

    def start(min_annotations=2, project=3):
        made.append(ProjectTraining(project, min_annotations, tmp_path, trainings, trainings.released.release))
        made[-1].start()
        return made[-1]

    yield start
    for training in made:
        training.close()


def event(*ids, action="ANNOTATION_CREATED", project=3, **fields):
    annotations = [{"id": number, **fields} for number in ids]
    return {
        "action": action,
        "project": {"id": project},
        "annotation": annotations if len(ids) > 1 else annotations[0],
    }


def wait(training, **expected):
    end = threading.Event()
    for _ in range(1000):
        if (described := training.describe()).items() >= expected.items():
            return described
        end.wait(0.01)
    raise AssertionError(described)


def test_annotations_start_a_training_and_those_during_it_count_for_the_next(make, trainings):
    training = make()
    training.receive(event(1))
    training.receive(event(1, action="ANNOTATION_UPDATED"))
    training.receive(event(2, was_cancelled=True))
    training.receive({"action": "TASKS_CREATED", "project": {"id": 8}})
    assert training.describe() == {
        "state": "waiting", "project": 3, "new_annotations": 1, "train_after": 2, "finished": None
    }  # fmt: skip
    training.receive(event(2, 3, action="ANNOTATIONS_CREATED"))
    assert trainings.has_started()
    wait(training, state="running", new_annotations=0)
    training.receive(event(4))
    training.receive(event(5))
    assert not trainings.has_started(0.05), "one training at a time"
    trainings.released.release()
    assert trainings.has_started()
    wait(training, state="running", finished="0001")
    trainings.released.release()
    wait(training, state="waiting", finished="0002", new_annotations=0)


def test_a_request_starts_a_training_without_new_annotations(make, trainings):
    training = make(min_annotations=0)
    training.receive(event(*range(20)))
    assert not trainings.has_started(0.05)
    training.receive({"action": "START_TRAINING", "project": {"id": 3}})
    assert trainings.has_started()
    training.request("3.1718000000")  # after the present one
    trainings.released.release()
    assert trainings.has_started()


def test_a_failed_training_is_reported_and_the_next_one_clears_it(make, trainings, caplog):
    training = make(min_annotations=1)
    trainings.error = ValueError("no image can be read.")
    training.receive(event(1))
    trainings.released.release()
    wait(training, state="waiting", error="no image can be read.", finished=None, new_annotations=0)
    trainings.error = ZeroDivisionError()
    training.receive(event(1))
    trainings.released.release()
    wait(training, error="ZeroDivisionError; see the log of the backend")
    trainings.error = None
    training.receive(event(1))
    trainings.released.release()
    assert "error" not in wait(training, finished="0003")


def test_a_killed_process_continues_with_its_annotations(make, trainings, tmp_path):
    training = make(min_annotations=1)
    training.receive(event(1))
    trainings.released.release()
    wait(training, finished="0001")
    training.receive(event(7))
    training.receive(event(8))
    assert trainings.has_started()
    assert trainings.has_started()
    killed = (tmp_path / PROGRESS_FILE).read_text()
    trainings.error = ValueError("stopped")
    training.close()
    assert (tmp_path / PROGRESS_FILE).read_text() == killed
    assert json.loads(killed) == {"finished": "0001", "new_annotations": [7, 8]}
    trainings.error = None
    second = make(min_annotations=2)
    assert trainings.has_started()
    assert second.describe()["finished"] == "0001"
    (tmp_path / PROGRESS_FILE).write_text('{"other": 1}')
    with pytest.raises(ValueError, match=r"progress.json is no record of trainings. Choose another `train_dir`"):
        make()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (event(1, project=5), "the event belongs to project 5, but the annotations of project 3 train this model"),
        ({"action": "START_TRAINING"}, "the event belongs to project None"),
        ({"action": "ANNOTATION_UPDATED", "project": 3}, "must contain its annotation, got None. Switch on 'Send pay"),
        (event("x"), "must contain its annotation"),
    ],
)
def test_events_that_are_refused(make, content, message):
    training = make()
    with pytest.raises(ValueError, match=message):
        training.receive(content)
    assert training.describe()["new_annotations"] == 0


# ---- Export


def rectangle(label):
    value = {"x": 10, "y": 20, "width": 50, "height": 25, "rotation": 0, "rectanglelabels": [label]}
    return {"id": label, "type": "rectanglelabels", "from_name": "box", "to_name": "picture", "value": value,
            "original_width": 160, "original_height": 120}  # fmt: skip


def make_task(number, image, *results, **fields):
    annotations = [{"id": number, "result": list(results), "completed_by": {"email": "a@example.com"}, **fields}]
    return {"id": number, "data": {"photo": image, "note": "private"}, "annotations": annotations, "predictions": [{}]}


@pytest.fixture
def studio(shapes):
    """Label Studio's API as a transport: a project, its export, and an upload."""

    class Studio:
        tasks, project, requests, file = [], {"label_config": CONFIG}, [], sorted((shapes / "train").glob("*.png"))[0]

        def connect(self, token=TOKEN, url="http://studio/ls", **options):
            images = TaskImages(url, token, **options)
            images.client._client = httpx.Client(transport=httpx.MockTransport(self.respond))
            return images

        def respond(self, request):
            self.requests.append(request.url.path)
            if request.headers.get("Authorization") != f"Token {TOKEN}":
                return httpx.Response(401, json={})
            if request.url.path == "/ls/api/projects/3/export":
                assert request.url.params["exportType"] == "JSON"
                return httpx.Response(200, json=self.tasks)
            if request.url.path == "/ls/api/projects/3/":
                return httpx.Response(200, json=self.project)
            if request.url.path == "/ls/data/upload/3/a.png":
                return httpx.Response(200, content=self.file.read_bytes())
            return httpx.Response(404, text="<html>")

    return Studio()


def test_the_reader_reads_the_export(studio, tmp_path, caplog):
    local = f"/data/local-files/?d={studio.file.parent.name}/{studio.file.name}"
    studio.tasks = [
        make_task(1, "/data/upload/3/a.png?signature=secret", rectangle("circle"), rectangle("square")),
        make_task(2, local),
        make_task(3, local, rectangle("circle"), was_cancelled=True),
        make_task(4, "/data/upload/3/missing.png", rectangle("circle")),
    ]
    images = studio.connect(document_root=studio.file.parents[1])
    assert export_project(images, 3, tmp_path / "1.json") == 2
    assert "task 4 is left out: the image 'http://studio/ls/data/upload/3/missing.png' cannot be down" in caplog.text
    assert export_project(images, 3, tmp_path / "2.json") == 2
    assert studio.requests.count("/ls/data/upload/3/a.png") == 1, "downloads are kept"
    written = (tmp_path / "1.json").read_text()
    assert written == (tmp_path / "2.json").read_text()
    for text in (TOKEN, "a@example.com", "private", "secret", "predictions"):
        assert text not in written
        assert not any(text in file.name for file in (tmp_path / "images").iterdir())
    rows, report = read(tmp_path / "1.json", allow_outside_images=True)
    assert report.positives == {"circle": 1, "square": 1}
    assert [len(row["instances"]) for row in rows] == [2, 0]
    assert rows[0]["instances"][0]["bbox"] == [16.0, 24.0, 80.0, 30.0]
    assert sorted(Path(row["example_id"]).name[17:] for row in rows) == sorted(["a.png", studio.file.name])


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {}, "project 3 has no submitted annotation. Submit tasks in Label Studio"),
        (
            {"tasks": [make_task(1, None)]},
            {},
            "no image of project 3 can be loaded: task 1 is left out: its `data` has no",
        ),
        ({"tasks": {}}, {}, "http://studio/ls/ does not respond as Label Studio does"),
        ({"project": []}, {}, "does not respond as Label Studio does"),
        ({"project": {"label_config": "<View/>"}}, {}, "the labelling configuration has no PolygonLabels"),
        ({}, {"token": "wrong"}, "`label_studio_api_key` is missing or not valid: .*/projects/3/' responds with"),
        ({}, {"url": "http://studio"}, "`label_studio_api_key`|has no project 3"),
    ],
)
def test_projects_that_cannot_be_exported(studio, tmp_path, changes, options, message):
    vars(studio).update(changes)
    with pytest.raises(ValueError, match=message):
        export_project(studio.connect(**options), 3, tmp_path / "1.json")
    assert not list(tmp_path.iterdir())


def test_a_server_that_does_not_exist(tmp_path):
    with pytest.raises(
        ValueError, match=r"`label_studio`: http://127.0.0.1:1/ cannot be used .*Start Label Studio, or"
    ):
        export_project(TaskImages("http://127.0.0.1:1", TOKEN), 3, tmp_path / "1.json")
