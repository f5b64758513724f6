"""Keys of an evaluation."""

from dataclasses import dataclass

from .base import arg


@dataclass
class EvalArguments:
    """What is compared, and how the report is made."""

    compare: list[str] = arg(
        [],
        "Beside `model_name_or_path`: models (folder or Hub id) or COCO results files (.json) of other programs, `NAME=SOURCE` or SOURCE. "
        "The first one is what differences are taken from: name the base here.",
    )
    bootstrap_samples: int = arg(400, "Draws of images behind the 95 % intervals; 0: none.")
    overwrite: bool = arg(False, "Replace the files of an earlier evaluation with other settings in `output_dir`.")
    report_title: str = arg("SAM 3 evaluation", "Heading of the report.")

    def __post_init__(self):
        if self.bootstrap_samples < 0:
            raise ValueError(f"`bootstrap_samples` is {self.bootstrap_samples}; it must be 0 or more")
