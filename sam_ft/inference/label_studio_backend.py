"""
Backend of Label Studio: predictions of SAM 3 over the protocol of `label_studio_ml`.

The routes are `GET /health`, `POST /setup`, `POST /predict`, `GET /versions`, `POST /webhook` and `POST /train`; the
last two pass events and requests of trainings to [`ProjectTraining`]. Werkzeug serves them, because the package
`label-studio-ml` of PyPI requires releases of Flask, Jinja2 and Werkzeug from 2021.
"""

import hmac
import logging
import socket
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from werkzeug import serving
from werkzeug.exceptions import HTTPException, Unauthorized
from werkzeug.routing import Map, Rule
from werkzeug.serving import BaseWSGIServer
from werkzeug.wrappers import Request, Response

from ..utils.json_files import to_json
from ..utils.text import short_repr
from .exemplars import Exemplars
from .label_studio_config import LabellingConfig, read_labelling_config
from .label_studio_images import TaskImages
from .label_studio_regions import build_prediction
from .label_studio_training import ProjectTraining
from .predictor import ImagePrediction
from .sam3_predictor import Sam3Predictor
from .tiling import open_trusted_image


logger = logging.getLogger("sam_ft.run")

_MAX_BODY = 64 * 2**20  # bytes
_ROUTES = Map(
    [
        Rule("/", endpoint="health", methods=["GET"]),
        Rule("/health", endpoint="health", methods=["GET"]),
        Rule("/setup", endpoint="setup", methods=["POST"]),
        Rule("/predict", endpoint="predict", methods=["POST"]),
        Rule("/versions", endpoint="versions", methods=["GET", "POST"]),
        Rule("/webhook", endpoint="webhook", methods=["POST"]),
        Rule("/train", endpoint="train", methods=["POST"]),
    ]
)


@dataclass(frozen=True)
class ServedModel:
    """
    Model that tasks are predicted with.

    Attributes:
        predictor (`Sam3Predictor`): The predictor.
        version (`str`): Version of the predictions in Label Studio.
    """

    predictor: Sam3Predictor
    version: str


class LabelStudioBackend:
    """
    WSGI application that predicts tasks of Label Studio.

    The phrases are the labels of the labelling configuration. Rectangles that a user draws with a smart tool are
    exemplars of their label. A lock allows one forward pass at a time.

    Args:
        model (`ServedModel`): Model that is served first.
        images (`TaskImages`): Source of the images.
        credentials (`tuple[str, str]`, *optional*): User and password of the basic authentication; every request is
            accepted by default.

    Attributes:
        training (`ProjectTraining`, *optional*): Trainings on the annotations of a project; set it before serving.
    """

    def __init__(self, model: ServedModel, images: TaskImages, credentials: tuple[str, str] | None = None):
        self._model, self._images = model, images
        self._credentials, self._lock = credentials, threading.Lock()
        self.training: ProjectTraining | None = None
        self._routes: dict[str, Callable[[Request], dict]] = {
            "health": self._describe_health,
            "setup": self._set_up,
            "predict": self._predict,
            "versions": lambda _: {"versions": [self._model.version]},
            "webhook": self._receive_event,
            "train": self._start_training,
        }

    def replace_model(self, load: Callable[[], ServedModel]) -> None:
        """
        Load a model and serve it from now on.

        Args:
            load (`Callable[[], ServedModel]`): Loads the model. If it raises, the present model is still served.
        """
        with self._lock:  # loading changes the default type of tensors, which a forward pass reads
            self._model = load()

    def __call__(self, environ, start_response):
        request = Request(environ)
        request.max_content_length = _MAX_BODY
        try:
            self._check_credentials(request)
            endpoint, _ = _ROUTES.bind_to_environ(environ).match()
            content, status, headers = self._routes[endpoint](request), 200, None
        except HTTPException as error:
            content, status, headers = {"error": error.description}, error.code, error.get_headers(environ)
            headers = [header for header in headers if header[0].lower() != "content-type"]
        except ValueError as error:
            content, status, headers = {"error": str(error)}, 400, None
        except Exception as error:
            logger.exception("%s %s", request.method, request.path)
            content, status, headers = {"error": f"{type(error).__name__}; see the log of the backend"}, 500, None
        if status >= 400:
            logger.warning("%s %s: %s", request.method, request.path, content["error"])
        return Response(to_json(content), status, headers, mimetype="application/json")(environ, start_response)

    def _check_credentials(self, request: Request) -> None:
        given = request.authorization
        if self._credentials is None:
            return
        values = ("", "") if given is None else (given.username or "", given.password or "")
        matches = [hmac.compare_digest(a.encode(), b.encode()) for a, b in zip(values, self._credentials, strict=True)]
        if not all(matches):
            raise Unauthorized(
                "the user or the password of the basic authentication is missing or wrong. Set both in the model "
                "settings of the project in Label Studio"
            )

    def _describe_health(self, _request: Request) -> dict:
        # The state first: a finished training has replaced the model before it is described as finished.
        training = {} if self.training is None else {"training": self.training.describe()}
        model = self._model
        health = {"status": "UP", "model_class": type(model.predictor).__name__, "model_version": model.version}
        return health | training

    def _set_up(self, request: Request) -> dict:
        content = _read_object(request)
        if content.get("schema"):  # a server that only tests the connection sends none
            read_labelling_config(content["schema"])
        return {"model_version": self._model.version}

    def _predict(self, request: Request) -> dict:
        content = _read_object(request)
        tasks, params = content.get("tasks"), content.get("params")
        if not isinstance(tasks, list):
            raise ValueError(f"`tasks` must be a list of tasks, got {short_repr(tasks)}")
        config = read_labelling_config(content.get("label_config") or "")
        context = params.get("context") if isinstance(params, dict) else None
        drawn = _group_drawn_boxes(context, config)
        results, errors, model = [], [], self._model
        for task in tasks:
            try:
                results.append(self._predict_task(model, task, config, drawn))
            except ValueError as error:
                results.append({"error": str(error)})  # Label Studio logs it, and saves the predictions of the others
                errors.append(error)
        if errors and len(errors) == len(tasks):
            raise errors[0]
        for error in errors:
            logger.warning("%s", error)
        num_regions = sum(len(answer.get("result", ())) for answer in results)
        logger.info("%d tasks predicted, %d regions", len(tasks) - len(errors), num_regions)
        return {"results": results, "model_version": model.version}

    def _predict_task(self, model: ServedModel, task, config: LabellingConfig, drawn: dict[str, list[dict]]) -> dict:
        data = task.get("data") if isinstance(task, dict) else None
        reference = data.get(config.image_key) if isinstance(data, dict) else None
        try:
            if not isinstance(reference, str) or not reference:
                raise ValueError(
                    f"`data` has no image with the key {config.image_key!r}, which the labelling configuration names; "
                    f"got {short_repr(data)}"
                )
            source = self._images.load(reference)
            with self._lock:  # also of the decoder, whose limit of pixels is a global variable
                prediction = _predict_image(model.predictor, open_trusted_image(source), config, drawn)
            return build_prediction(prediction, config.tools, model.version, uuid.uuid4().hex[:8])
        except ValueError as error:
            where = f"task {task.get('id')}" if isinstance(task, dict) else "a task that is no object"
            raise ValueError(f"{where}: {error}") from error

    def _receive_event(self, request: Request) -> dict:
        """Receive an event; without trainings, those of annotations are accepted: every connected model gets them."""
        event = _read_object(request)
        if self.training is not None:
            self.training.receive(event)
        elif event.get("action") == "START_TRAINING":
            self._refuse_training()
        return {}

    def _start_training(self, request: Request) -> dict:
        project = _read_object(request).get("project")
        if self.training is None:
            self._refuse_training()
        self.training.request(project)
        return {}

    def _refuse_training(self) -> NoReturn:
        raise ValueError(
            "this backend starts no training. Start it with `train_project` set to the id of the project whose "
            "annotations train the model"
        )


def _predict_image(
    predictor: Sam3Predictor, image, config: LabellingConfig, drawn: dict[str, list[dict]]
) -> ImagePrediction:
    if not drawn:
        return predictor(image, config.phrases)
    predictions = [predictor(image, [label], _to_exemplars(boxes, image.size)) for label, boxes in drawn.items()]
    for other in predictions[1:]:
        predictions[0].detections |= other.detections
    return predictions[0]


def _read_object(request: Request) -> dict:
    content = request.get_json()  # refuses other content types, which browsers send across origins
    if not isinstance(content, dict):
        raise ValueError(f"the request must be a JSON object, got {short_repr(content)}")
    return content


def _group_drawn_boxes(context, config: LabellingConfig) -> dict[str, list[dict]]:
    """Group the results of rectangles that a user drew by their label; empty without a drawn region."""
    results = context.get("result") if isinstance(context, dict) else None
    if not results:
        return {}
    grouped: dict[str, list[dict]] = {}
    for result in results if isinstance(results, list) else [results]:
        kind = result.get("type") if isinstance(result, dict) else None
        if kind not in ("rectangle", "rectanglelabels"):
            raise ValueError(
                f"a drawn region has the type {short_repr(kind)}, but exemplars are rectangles. Use the smart tool of "
                "RectangleLabels"
            )
        value = result.get("value")
        labels = value.get("rectanglelabels") if isinstance(value, dict) else None
        if not isinstance(labels, list) or not labels or labels[0] not in config.phrases:
            raise ValueError(f"a drawn rectangle has no label of the labelling configuration, got {short_repr(value)}")
        grouped.setdefault(labels[0], []).append(result)
    return grouped


def _to_exemplars(results: list[dict], size: tuple[int, int]) -> Exemplars:
    """Convert rectangles in percent of an image of width and height `size`; `is_positive: 0` marks a negative one."""
    boxes = []
    for result in results:
        value = result["value"]
        if value.get("rotation"):
            raise ValueError("a drawn rectangle is rotated. Draw exemplars without a rotation")
        try:
            sides = [float(value[key]) / 100 for key in ("x", "y", "width", "height")]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"a drawn rectangle needs x, y, width and height in percent, got {short_repr(value)}"
            ) from error
        boxes.append([side * length for side, length in zip(sides, size * 2, strict=True)])
    return Exemplars(boxes, [int(bool(result.get("is_positive", 1))) for result in results])


class _RequestHandler(serving.WSGIRequestHandler):
    """Handler of connections that does not log requests; the backend logs predictions and errors."""

    def log_request(self, *_) -> None:
        pass


def make_server(backend: LabelStudioBackend, host: str, port: int) -> BaseWSGIServer:
    """
    Open the network address of a backend; `serve_forever` of the result then serves it, a thread for each request.

    Args:
        backend (`LabelStudioBackend`): The backend.
        host (`str`): Network address.
        port (`int`): Network port; 0 chooses a free one.

    Raises:
        `ValueError`: If the address cannot be used.
    """
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as opened:
            # Werkzeug ends the process if it cannot open an address, so it takes over an open socket.
            return serving.make_server(
                host, port, backend, threaded=True, request_handler=_RequestHandler, fd=opened.fileno()
            )
    except OSError as error:
        raise ValueError(f"`host` and `port`: {host}:{port} cannot be used ({error}). Choose another port") from error
