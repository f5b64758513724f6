"""Demo page to compare models side by side in a browser: a picture, phrases, exemplar boxes.

    python recipes/demo.py --model_name_or_path out/demo --base sam-ft/tiny --examples data/test_shapes

It needs `pip install sam-ft[demo]`. The keys are the model keys, from the YAML files of
sam3_ft.py; `--help` lists them.
"""

import logging
from pathlib import Path

from sam_ft.arguments import DataArguments, DemoArguments, LossArguments, ModelArguments, Sam3TrainingArguments
from sam_ft.arguments.parser import RecipeParser
from sam_ft.utils.console import as_program, stage


logger = logging.getLogger("sam_ft.run")


def make_parser() -> RecipeParser:
    """Build the parser of the model keys and of the page's keys."""
    return RecipeParser((ModelArguments, DemoArguments), ignored=(DataArguments, LossArguments, Sam3TrainingArguments))


def main(model_args: ModelArguments, demo_args: DemoArguments) -> None:
    """Load the models and serve the page.

    Args:
        model_args (`ModelArguments`): The tuned model.
        demo_args (`DemoArguments`): Base model, folder of example images, host and port.

    Raises:
        ValueError: If the folder of example images does not exist.
    """
    from sam_ft.inference.demo_page import build_page, load_predictors
    from sam_ft.models.model_files import read_trained_phrases

    tuned = model_args.options(seed=0)
    if demo_args.examples is not None and not Path(demo_args.examples).is_dir():
        raise ValueError(f"`examples`: there is no folder {demo_args.examples!r}")
    with stage("models"):
        predictors = load_predictors(tuned, demo_args.base, demo_args.device)
    phrases = sorted(read_trained_phrases(model_args.model_name_or_path, model_args.model_revision) or [])
    page = build_page(predictors, demo_args.examples, phrases)
    logger.info("%s on http://%s:%d", " and ".join(predictors), demo_args.host, demo_args.port)
    page.launch(server_name=demo_args.host, server_port=demo_args.port, share=demo_args.share, quiet=True)


if __name__ == "__main__":
    with as_program():
        main(*make_parser().parse())
