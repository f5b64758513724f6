"""Keys of the evaluation."""

from dataclasses import dataclass
from typing import ClassVar

from ..options.keys import key
from .base import Keys


@dataclass
class EvalArguments(Keys):
    """Compared models, confidence intervals and report of an evaluation."""

    key_topic: ClassVar[str] = "Evaluation"

    compare: list[str] = key(
        [],
        "Models (folder or Hub id) or COCO results files (.json) of other programs to evaluate beside "
        "`model_name_or_path`, each as SOURCE or NAME=SOURCE. The report gives differences to the first one, so name "
        "the base model first.",
    )
    bootstrap_samples: int = key(
        400,
        "Number of bootstrap resamples of the images for the 95-percent confidence intervals; 0 computes none.",
        low=0,
    )
    overwrite: bool = key(
        False, "Replace the files that an earlier evaluation with other settings wrote to `output_dir`."
    )
    report_title: str = key("SAM 3 evaluation", "Title of the HTML report.")
