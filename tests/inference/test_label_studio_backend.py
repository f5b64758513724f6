"""Backend of Label Studio: routes, images, exemplars and refused requests, over a server on the loopback interface."""

import base64
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from PIL import Image

from sam_ft import PredictOptions, Sam3Predictor
from sam_ft.inference.exemplars import Exemplars
from sam_ft.inference.label_studio_backend import LabelStudioBackend, ServedModel, make_server
from sam_ft.inference.label_studio_config import read_labelling_config
from sam_ft.inference.label_studio_images import TaskImages
from sam_ft.inference.label_studio_regions import build_prediction
from sam_ft.inference.label_studio_training import ProjectTraining
from sam_ft.options.model_names import TINY


LABELS = '<Label value="circle"/><Label value="Square" alias="red square"/>'
CONFIG = (
    '<View><Image name="picture" value="$photo"/>'
    f'<BrushLabels name="brush" toName="picture">{LABELS}</BrushLabels>'
    f'<PolygonLabels name="outline" toName="picture">{LABELS}</PolygonLabels>'
    f'<RectangleLabels name="box" toName="picture" smart="true">{LABELS}</RectangleLabels></View>'
)
ACCESS, PERSONAL = "short-lived", "head.body.signature"


class Studio(BaseHTTPRequestHandler):
    """Label Studio's responses: uploads for a token, and the exchange of a personal token."""

    def do_GET(self):
        if self.headers.get("Authorization") not in ("Token legacy", f"Bearer {ACCESS}"):
            return self._respond(401, b"{}")
        if self.path == "/ls/data/upload/1/photo.png":
            return self._respond(200, self.server.image)
        return self._respond(404, b"{}")

    def do_POST(self):
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        is_valid = self.path == "/ls/api/token/refresh" and content == {"refresh": PERSONAL}
        self._respond(200 if is_valid else 401, json.dumps({"access": ACCESS}).encode())

    def _respond(self, status, content):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def predictor():
    return Sam3Predictor.from_pretrained(TINY, options=PredictOptions(score_threshold=0.3), device="cpu")


@pytest.fixture(scope="module")
def file(shapes):
    return sorted((shapes / "train").glob("*.png"))[0]


@pytest.fixture(scope="module")
def studio(file):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Studio)
    server.image = file.read_bytes()
    with Serving(server):
        yield f"http://127.0.0.1:{server.server_port}/ls"


class Serving:
    """Context in which a thread serves requests."""

    def __init__(self, server):
        self.server, self.thread = server, threading.Thread(target=server.serve_forever, daemon=True)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture(scope="module")
def client(predictor, studio, file):
    images = TaskImages(studio, "legacy", file.parent.parent)
    server = make_server(LabelStudioBackend(ServedModel(predictor, "tiny 1"), images), "127.0.0.1", 0)
    with Serving(server), httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as connection:
        yield connection


@pytest.fixture
def local(file):
    return f"/data/local-files/?d={file.parent.name}/{file.name}"


def predict(client, *references, config=CONFIG, context=None):
    tasks = [{"id": number, "data": {"photo": reference}} for number, reference in enumerate(references, 1)]
    request = {"tasks": tasks, "label_config": config, "project": "1.2", "params": {"context": context}}
    return client.post("/predict", json=request)


def box(x, y, w, h, label="circle", **fields):
    value = {"x": x, "y": y, "width": w, "height": h, "rotation": 0, "rectanglelabels": [label]}
    return {"type": "rectanglelabels", "from_name": "box", "to_name": "picture", "value": value, **fields}


def without_ids(answer):
    return answer | {"result": [{k: v for k, v in region.items() if k != "id"} for region in answer["result"]]}


def test_the_server_connects(client):
    health = {"status": "UP", "model_class": "Sam3Predictor", "model_version": "tiny 1"}
    assert client.get("/health").json() == health
    request = {"project": "1.2", "schema": CONFIG, "hostname": "http://localhost:8080", "access_token": "unused"}
    assert client.post("/setup", json=request).json() == {"model_version": "tiny 1"}
    assert client.post("/setup", json={"project": None, "schema": None}).status_code == 200
    assert client.request("GET", "/versions", json={"project": "1.2"}).json() == {"versions": ["tiny 1"]}


def test_tasks_are_predicted_with_the_labels_as_phrases(client, predictor, file, local):
    response = predict(client, local, "/data/upload/1/photo.png")
    assert response.status_code == 200, response.text
    first, second = response.json()["results"]
    prediction = predictor(Image.open(file), ["circle", "red square"])
    expected = build_prediction(prediction, read_labelling_config(CONFIG).tools, "tiny 1", "x")
    assert len(expected["result"]) >= 2
    assert {region["from_name"] for region in expected["result"]} <= {"brush", "outline"}
    assert without_ids(first) == without_ids(second) == without_ids(json.loads(json.dumps(expected)))
    ids = [region["id"] for answer in (first, second) for region in answer["result"]]
    assert len(set(ids)) == len(ids), "ids of an earlier prediction of the task must not return"


def test_a_task_that_fails_among_others(client, local):
    """Label Studio logs a result without regions and saves the others."""
    response = predict(client, local, "/data/local-files/?d=../a.png")
    assert response.status_code == 200
    first, second = response.json()["results"]
    assert first["result"]
    assert second.keys() == {"error"}
    assert second["error"].startswith("task 2: the image")


def test_rectangles_are_exemplars_of_their_label(client, predictor, file, local, monkeypatch):
    width, height = Image.open(file).size
    calls = []
    call = Sam3Predictor.__call__
    monkeypatch.setattr(
        Sam3Predictor, "__call__", lambda self, *arguments: calls.append(arguments[1:]) or call(self, *arguments)
    )
    drawn = [box(10, 20, 30, 40), box(50, 50, 25, 25, is_positive=0), box(0, 0, 50, 50, "red square")]
    response = predict(client, local, context={"result": drawn})
    assert response.status_code == 200, response.text
    scaled = [[w * width / 100 if i % 2 == 0 else w * height / 100 for i, w in enumerate(b)] for b in (
        (10, 20, 30, 40), (50, 50, 25, 25), (0, 0, 50, 50)
    )]  # fmt: skip
    assert calls == [
        (["circle"], Exemplars(scaled[:2], [1, 0])),
        (["red square"], Exemplars(scaled[2:], [1])),
    ]


@pytest.mark.parametrize(
    "reference, message",
    [
        ("/data/local-files/?d=../secret.png", "task 1: the image .* lies outside `document_root`"),
        ("/data/local-files/?d=/etc/passwd", "lies outside `document_root`"),
        ("/data/local-files/?d=train%2F..%2F..%2Fsecret.png", "lies outside `document_root`"),
        ("/data/local-files/?d=train/missing.png", "does not exist below `document_root`"),
        ("/data/local-files/?d=link.png", "lies outside `document_root`"),
        ("/data/local-files/?d=%00", "lies outside|has no valid path|does not exist"),
        ("/data/local-files/?d=text.png", "cannot be read"),
        ("/data/upload/1/missing.png", "cannot be downloaded .*404"),
        ("http://169.254.169.254/latest/meta-data", "neither on .* nor on a host of `image_hosts`"),
        ("//example.com/a.png", "cannot be downloaded|neither on"),
        ("file:///etc/passwd", "neither on"),
        ("s3://bucket/a.png", "neither on"),
        ("http://[::1", "not a valid URL"),
        ("http://127.0.0.1:1/a.png", "cannot be downloaded"),
        (None, "`data` has no image with the key 'photo'"),
    ],
)
def test_an_image_that_cannot_be_read(predictor, studio, tmp_path, reference, message):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.png").write_bytes(b"")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "text.png").write_text("text")
    backend = LabelStudioBackend(ServedModel(predictor, "tiny 1"), TaskImages(studio, "legacy", root, ["127.0.0.1:1"]))
    with httpx.Client(transport=httpx.WSGITransport(backend), base_url="http://backend") as client:
        response = predict(client, reference)
    assert response.status_code == 400
    assert re.search(message, response.json()["error"]), response.text


@pytest.mark.parametrize(
    "config, message",
    [
        ("<View", "cannot be read as XML"),
        ("", "cannot be read as XML"),
        ('<View><Choices name="c" toName="picture"/></View>', "has no PolygonLabels, BrushLabels, RectangleLabels"),
        (CONFIG.replace("<Image ", "<Video "), "has no <Image> with the name 'picture'"),
        (CONFIG.replace('value="$photo"', 'valueList="$photos"'), "lists of images are not supported"),
        (CONFIG.replace('name="brush" toName="picture"', 'name="brush" toName="other"'), "draw on several images"),
    ],
)
def test_an_unknown_configuration(client, local, config, message):
    response = predict(client, local, config=config)
    assert response.status_code == 400
    assert message in response.json()["error"]
    if config:
        assert message in client.post("/setup", json={"schema": config}).json()["error"]


@pytest.mark.parametrize(
    "result, message",
    [
        ({"type": "keypointlabels", "value": {}}, "exemplars are rectangles"),
        (box(0, 0, 10, 10, "dog"), "no label of the labelling configuration"),
        (box(0, 0, 10, None), "needs x, y, width and height in percent"),
        (box(0, 0, 0, 0), "has no area"),
        ("text", "exemplars are rectangles"),
    ],
)
def test_a_drawn_region_that_is_no_exemplar(client, local, result, message):
    response = predict(client, local, context={"result": [result]})
    assert response.status_code == 400
    assert message in response.json()["error"]


def test_events_are_accepted_but_no_training(client):
    assert client.post("/webhook", json={"action": "ANNOTATION_CREATED", "annotation": {}}).json() == {}
    for route in ("/webhook", "/train"):
        response = client.post(route, json={"action": "START_TRAINING", "project": {"id": 1}})
        assert (response.status_code, "starts no training" in response.json()["error"]) == (400, True)


def test_a_training_replaces_the_model(predictor, studio, file, local, tmp_path):
    images = TaskImages(studio, "legacy", file.parent.parent)
    backend, loads = LabelStudioBackend(ServedModel(predictor, "tiny 1"), images), ["tiny 2", None]

    def load():
        if (version := loads.pop(0)) is None:
            raise ValueError("the weights cannot be read")
        return ServedModel(predictor, version)

    backend.training = ProjectTraining(3, 2, tmp_path, lambda: backend.replace_model(load) or "0001")
    backend.training.start()
    with httpx.Client(transport=httpx.WSGITransport(backend), base_url="http://backend") as client:
        for number in (1, 2):
            event = {"action": "ANNOTATION_CREATED", "project": {"id": 3}, "annotation": {"id": number}}
            assert client.post("/webhook", json=event).json() == {}
        assert wait(client, state="waiting", finished="0001") == "tiny 2"
        assert client.post("/setup", json={"schema": CONFIG}).json() == {"model_version": "tiny 2"}
        assert {answer["model_version"] for answer in predict(client, local).json()["results"]} == {"tiny 2"}
        assert client.post("/train", json={"project": "3.1718000000", "annotations": []}).json() == {}
        error = "the weights cannot be read"
        assert wait(client, state="waiting", finished="0001", error=error) == "tiny 2", "the model is still served"
        response = client.post("/train", json={"project": "5.1718000000"})
        assert (response.status_code, "belongs to project '5'" in response.json()["error"]) == (400, True)
    backend.training.close()


def wait(client, **expected):
    """Wait for a state of the trainings and return the version of the model."""
    for _ in range(1000):
        health = client.get("/health").json()
        if health["training"].items() >= expected.items():
            return health["model_version"]
        time.sleep(0.01)
    raise AssertionError(health)


def test_other_requests_are_refused(client):
    assert client.post("/validate", json={}).status_code == 404
    assert client.get("/predict").json()["error"].startswith("The method is not allowed")
    assert client.post("/predict", content="[]", headers={"Content-Type": "text/plain"}).status_code == 415
    assert "must be a JSON object" in client.post("/predict", json=[]).json()["error"]
    assert "`tasks` must be a list" in client.post("/predict", json={"tasks": 3}).json()["error"]
    request = {"tasks": ["text"], "label_config": CONFIG}
    assert client.post("/predict", json=request).json()["error"].startswith("a task that is no object: `data` has no")
    assert client.post("/predict", content="{", headers={"Content-Type": "application/json"}).status_code == 400


def test_basic_authentication(predictor, studio):
    backend = LabelStudioBackend(ServedModel(predictor, "tiny 1"), TaskImages(studio), ("user", "pässword"))
    with httpx.Client(transport=httpx.WSGITransport(backend), base_url="http://backend") as client:
        response = client.get("/health")
        assert (response.status_code, "is missing or wrong" in response.json()["error"]) == (401, True)
        assert client.get("/health", auth=("user", "other")).status_code == 401
        header = {"Authorization": "Basic " + base64.b64encode("user:pässword".encode()).decode()}
        assert client.get("/health", headers=header).status_code == 200


def test_tokens_of_label_studio(studio, file):
    reference = "/data/upload/1/photo.png"
    for token in ("legacy", PERSONAL):
        assert TaskImages(studio, token).load(reference) == file.read_bytes()
        assert TaskImages(studio, token).load(studio + reference) == file.read_bytes()
    for token in (None, "wrong", "a.wrong.one"):
        with pytest.raises(ValueError, match="`label_studio_api_key` is missing or not valid"):
            TaskImages(studio, token).load(reference)
    with pytest.raises(ValueError, match="must be a URL such as http://localhost:8080, got 'localhost:8080'"):
        TaskImages("localhost:8080")


def test_an_error_of_the_program_is_logged(predictor, studio, file, local, monkeypatch, caplog):
    monkeypatch.setattr(Sam3Predictor, "__call__", lambda *_: 1 / 0)
    backend = LabelStudioBackend(ServedModel(predictor, "tiny 1"), TaskImages(studio, None, file.parent.parent))
    with httpx.Client(transport=httpx.WSGITransport(backend), base_url="http://backend") as client:
        response = predict(client, local)
    assert response.status_code == 500
    assert response.json() == {"error": "ZeroDivisionError; see the log of the backend"}
