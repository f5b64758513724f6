"""Backend of Label Studio: predictions of a model for tasks that are open there, and trainings, over HTTP."""

import contextlib
import logging
import os
from dataclasses import replace
from pathlib import Path

from ..arguments import ModelArguments, ServeArguments
from ..inference.label_studio_backend import LabelStudioBackend, ServedModel, make_server
from ..inference.label_studio_images import TaskImages
from ..inference.label_studio_training import ProjectTraining
from ..inference.sam3_predictor import Sam3Predictor
from ..inference.weights_fingerprint import compute_weights_fingerprint, format_model_version
from ..options.model import ModelOptions
from ..utils.console import stage
from ..utils.secrets import register_secret
from .key_conversion import to_model_options, to_predict_options
from .serve_training import ServedTrainings


logger = logging.getLogger("sam_ft.run")

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve_label_studio(model_args: ModelArguments, serve_args: ServeArguments) -> None:
    """
    Load the model and serve predictions until the process is stopped; with `train_project`, train it in between.

    Args:
        model_args (`ModelArguments`): Model to predict with.
        serve_args (`ServeArguments`): Label Studio, images, network address, trainings and options of the prediction.

    Raises:
        ValueError: If a folder or URL is not valid, the model cannot be loaded, the address cannot be used, or the
            project of the trainings cannot be read.
    """
    if serve_args.document_root is not None and not Path(serve_args.document_root).is_dir():
        raise ValueError(f"`document_root`: there is no folder {serve_args.document_root!r}")
    api_key = serve_args.label_studio_api_key or os.environ.get("LABEL_STUDIO_API_KEY")
    password = serve_args.server_password or os.environ.get("SAM_FT_SERVER_PASSWORD")
    for secret in (api_key, password):
        register_secret(secret)
    images = TaskImages(serve_args.label_studio, api_key, serve_args.document_root, serve_args.image_hosts)
    source, trainings = to_model_options(model_args, seed=0), None
    with contextlib.ExitStack() as stack:
        if serve_args.train_project is not None:
            trainings = ServedTrainings(serve_args, source, images)
            stack.enter_context(trainings.claim_folder(compute_model_version(source)))
        with stage("model"):
            finished = None if trainings is None else trainings.find_finished()
            model = _load(source if finished is None else _replace_model(source, finished), serve_args)
        credentials = None if password is None else (serve_args.server_user, password)
        backend = LabelStudioBackend(model, images, credentials)
        server = make_server(backend, serve_args.host, serve_args.port)
        stack.callback(server.server_close)
        if credentials is None and serve_args.host not in _LOOPBACK:
            logger.warning("%s is reachable without a password; set `server_password`", serve_args.host)
        if trainings is not None:
            backend.training = _build_training(trainings, backend, source, serve_args)
            stack.callback(backend.training.close)
            backend.training.start()
        logger.info("%s on http://%s:%d", model.version, serve_args.host, server.port)
        server.serve_forever()


def compute_model_version(source: ModelOptions) -> str:
    """
    Return the version of a model with its concepts in Label Studio, which changes with the weights.

    Args:
        source (`ModelOptions`): The model.
    """
    revisions = {source.model_name_or_path: source.revision}
    names = [source.model_name_or_path, *source.concepts]
    fingerprints = [compute_weights_fingerprint(name, revisions.get(name)) for name in names]
    return " + ".join(map(format_model_version, names, fingerprints))


def _load(source: ModelOptions, serve_args: ServeArguments) -> ServedModel:
    predictor = Sam3Predictor.load(source, options=to_predict_options(serve_args), device=serve_args.device)
    logger.info("  thresholds: %s", predictor.describe_thresholds())
    return ServedModel(predictor, compute_model_version(source))


def _replace_model(source: ModelOptions, folder: Path) -> ModelOptions:
    return replace(source, model_name_or_path=str(folder), revision=None, concepts=[])


def _build_training(
    trainings: ServedTrainings, backend: LabelStudioBackend, source: ModelOptions, serve_args: ServeArguments
) -> ProjectTraining:
    """Return the trainings of the backend, each of which replaces its model."""

    def train() -> str:
        name = trainings.run()
        tuned = _replace_model(source, trainings.folder_of(name))
        with stage(f"model of training {name}"):
            backend.replace_model(lambda: _load(tuned, serve_args))
        return name

    return ProjectTraining(
        serve_args.train_project, serve_args.train_after, Path(serve_args.train_dir), train, trainings.stop
    )
