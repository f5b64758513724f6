"""Demo page that compares models side by side in a browser."""

import logging
from pathlib import Path

from ..arguments import DemoArguments, ModelArguments
from ..inference.demo_page import build_page, load_predictors
from ..models.loading import read_concept_sources
from ..models.model_files import read_trained_phrases
from ..options.model import ModelOptions
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
    logger.info("%s on http://%s:%d", " and ".join(predictors), demo_args.host, demo_args.port)
    page.launch(server_name=demo_args.host, server_port=demo_args.port, share=demo_args.share, quiet=True)


def list_phrases(options: ModelOptions) -> list[str]:
    """
    List the phrases that a model was trained on, those of its concepts included.

    Args:
        options (`ModelOptions`): The model.
    """
    trained = read_trained_phrases(options.model_name_or_path, options.revision) or set()
    _, files = read_concept_sources(options)
    return sorted(trained.union(entry.phrase for file in files for entry in file.info.concepts))
