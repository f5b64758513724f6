"""Keys of the evaluation."""

from dataclasses import dataclass

from .base import arg


@dataclass
class EvalArguments:
    """Compared models, confidence intervals and report of an evaluation."""

    compare: list[str] = arg(
        [],
        "Models (folder or Hub id) or COCO results files (.json) of other programs to evaluate beside "
        "`model_name_or_path`, each as SOURCE or NAME=SOURCE. The report gives differences to the first one, so name "
        "the base model first.",
    )
    bootstrap_samples: int = arg(
        400, "Number of bootstrap resamples of the images for the 95-percent confidence intervals; 0 computes none."
    )
    overwrite: bool = arg(
        False, "Replace the files that an earlier evaluation with other settings wrote to `output_dir`."
    )
    report_title: str = arg("SAM 3 evaluation", "Title of the HTML report.")

    def __post_init__(self):
        if self.bootstrap_samples < 0:
            raise ValueError(f"`bootstrap_samples` is {self.bootstrap_samples}; it must be 0 or more")
