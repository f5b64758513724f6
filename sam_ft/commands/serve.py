"""Backend of Label Studio: predictions of a model for tasks that are open there, over HTTP."""

import logging
import os
from pathlib import Path

from ..arguments import ModelArguments, ServeArguments
from ..inference.label_studio_backend import LabelStudioBackend, make_server
from ..inference.label_studio_images import TaskImages
from ..inference.sam3_predictor import Sam3Predictor
from ..inference.weights_fingerprint import compute_weights_fingerprint, format_model_version
from ..utils.console import stage
from ..utils.secrets import register_secret
from .key_conversion import to_model_options, to_predict_options


logger = logging.getLogger("sam_ft.run")

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve_label_studio(model_args: ModelArguments, serve_args: ServeArguments) -> None:
    """
    Load the model and serve predictions until the process is stopped.

    Args:
        model_args (`ModelArguments`): Model to predict with.
        serve_args (`ServeArguments`): Label Studio, images, network address and options of the prediction.

    Raises:
        ValueError: If a folder or URL is not valid, the model cannot be loaded, or the address cannot be used.
    """
    if serve_args.document_root is not None and not Path(serve_args.document_root).is_dir():
        raise ValueError(f"`document_root`: there is no folder {serve_args.document_root!r}")
    api_key = serve_args.label_studio_api_key or os.environ.get("LABEL_STUDIO_API_KEY")
    password = serve_args.server_password or os.environ.get("SAM_FT_SERVER_PASSWORD")
    for secret in (api_key, password):
        register_secret(secret)
    images = TaskImages(serve_args.label_studio, api_key, serve_args.document_root, serve_args.image_hosts)
    names = [model_args.model_name_or_path, *model_args.concepts]
    revisions = [model_args.model_revision, *(None for _ in model_args.concepts)]
    version = " + ".join(
        format_model_version(name, compute_weights_fingerprint(name, revision))
        for name, revision in zip(names, revisions, strict=True)
    )
    with stage("model"):
        options = to_predict_options(serve_args)
        predictor = Sam3Predictor.load(to_model_options(model_args, seed=0), options=options, device=serve_args.device)
        logger.info("  thresholds: %s", predictor.describe_thresholds())
    credentials = None if password is None else (serve_args.server_user, password)
    server = make_server(LabelStudioBackend(predictor, images, version, credentials), serve_args.host, serve_args.port)
    if credentials is None and serve_args.host not in _LOOPBACK:
        logger.warning("%s is reachable without a password; set `server_password`", serve_args.host)
    logger.info("%s on http://%s:%d", version, serve_args.host, server.port)
    try:
        server.serve_forever()
    finally:
        server.server_close()
