"""Demo page that compares models side by side in a browser."""

import logging
from pathlib import Path

from ..arguments import DemoArguments, ModelArguments
from ..inference.demo_page import build_page, load_predictors
from ..inference.phrases import list_phrases
from ..utils.console import stage
from .key_conversion import to_model_options


logger = logging.getLogger("sam_ft.run")


def serve_demo(model_args: ModelArguments, demo_args: DemoArguments) -> None:
    """
    Load the models and serve the page.

    Args:
        model_args (`ModelArguments`): The tuned model.
        demo_args (`DemoArguments`): Base model, folder of example images, host and port.

    Raises:
        ValueError: If the folder of example images does not exist.
    """
    tuned = to_model_options(model_args, seed=0)
    if demo_args.examples is not None and not Path(demo_args.examples).is_dir():
        raise ValueError(f"`examples`: there is no folder {demo_args.examples!r}")
    with stage("models"):
        predictors = load_predictors(tuned, demo_args.base, demo_args.device)
    page = build_page(predictors, demo_args.examples, list_phrases(tuned))
    logger.info("page of %s: http://%s:%d", " and ".join(predictors), demo_args.host, demo_args.port)
    page.launch(server_name=demo_args.host, server_port=demo_args.port, share=demo_args.share, quiet=True)
