"""
Commands of the console script `sam-ft` and of the recipes: parse the keys of a command, then run it.

Importing this module imports neither torch nor Transformers, so that help and refusals are fast.
"""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from .. import __version__
from ..arguments import (
    SAM2_ARGUMENTS,
    SAM3_ARGUMENTS,
    CheckArguments,
    ConvertArguments,
    DataArguments,
    DemoArguments,
    EvalArguments,
    ExportArguments,
    ModelArguments,
    PlanArguments,
    PredictArguments,
    ReviewArguments,
    Sam2ModelArguments,
    Sam2PredictArguments,
    ServeArguments,
)
from ..arguments.config_files import list_packaged_configs
from ..arguments.parser import RecipeParser
from ..utils.console import as_program
from .family_choice import choose_family


@dataclass(frozen=True)
class Command:
    """
    One command for one model family.

    Attributes:
        name (`str`): Name in `sam-ft NAME`.
        families (`tuple[str, ...]`): Model families of the command, `sam3` or `sam2`.
        summary (`str`): Line of `sam-ft --help`.
        groups (`tuple[type, ...]`): Dataclasses of its keys.
        function (`str`): `module:function` in this folder; called with one instance of each dataclass. The result
            `False` sets the exit status 1.
        ignored (`tuple[type, ...]`): Dataclasses whose keys a YAML file may contain without effect.
        default_config (`str`, *optional*): Packaged YAML file for an empty command line.
        base_config (`str`, *optional*): Packaged YAML file for a command line without `--config`.
        error_status (`int`): Exit status of an error, 1 by default.
    """

    name: str
    families: tuple[str, ...]
    summary: str
    groups: tuple[type, ...]
    function: str
    ignored: tuple[type, ...] = ()
    default_config: str | None = None
    base_config: str | None = None
    error_status: int = 1

    def make_parser(self, prog: str | None = None) -> RecipeParser:
        """Build the parser; `prog` is the program's name in the help, by default that of the process."""
        return RecipeParser(self.groups, ignored=self.ignored, prog=prog)

    def run(self, arguments: Sequence[str] | None = None, *, prog: str | None = None):
        """
        Parse the keys and call the function of the command.

        Args:
            arguments (`Sequence[str]`, *optional*): Command line, by default that of the process.
            prog (`str`, *optional*): Name of the program in the help.

        Returns:
            The result of the function.

        Raises:
            ValueError: If a key or value is not valid, or the command raises it.
        """
        groups = self.make_parser(prog).parse(arguments, self.default_config, self.base_config)
        module, _, function = self.function.partition(":")
        return getattr(importlib.import_module(f".{module}", __package__), function)(*groups)


_BOTH = (*SAM3_ARGUMENTS, *SAM2_ARGUMENTS)
COMMANDS = (
    Command("demo-run", ("sam3",), "Train concepts of three shapes for the packaged model, without GPU and download.",
            SAM3_ARGUMENTS, "finetune:run_fine_tuning", base_config="demo"),
    Command("finetune", ("sam3",), "Fine-tune SAM 3 on phrases and masks, or SAM 2 on clicks, boxes and masks.",
            SAM3_ARGUMENTS, "finetune:run_fine_tuning", default_config="demo"),
    Command("finetune", ("sam2",), "", SAM2_ARGUMENTS, "finetune:run_fine_tuning", default_config="sam2_smoke"),
    Command("evaluate", ("sam3",), "Evaluate one model, or compare several models side by side.",
            (*SAM3_ARGUMENTS, EvalArguments), "evaluate:run_evaluation"),
    Command("evaluate", ("sam2",), "", (*SAM2_ARGUMENTS, EvalArguments), "evaluate:run_evaluation"),
    Command("predict", ("sam3",), "Predict masks for many images; write COCO, pictures or files of labelling tools.",
            (ModelArguments, PredictArguments), "predict:predict_sam3", ignored=SAM3_ARGUMENTS),
    Command("predict", ("sam2",), "", (Sam2ModelArguments, Sam2PredictArguments), "predict:predict_sam2",
            ignored=SAM2_ARGUMENTS),
    Command("check", ("sam3", "sam2"), "Check a data set for defects, and write a page that shows the model's input.",
            (DataArguments, CheckArguments), "check:check_data", ignored=_BOTH, error_status=2),
    Command("review", ("sam3",), "Find wrong labels: predict each image with a model that was not trained on it.",
            (*SAM3_ARGUMENTS, ReviewArguments), "review:review_labels", base_config="sam3_concepts"),
    Command("convert", ("sam3", "sam2"), "Convert a data set to COCO with phrases, or to rows for the Hub.",
            (DataArguments, ConvertArguments), "convert:convert_data", ignored=_BOTH),
    Command("plan", ("sam3",), "Measure or predict memory and time of a run before it starts.",
            (*SAM3_ARGUMENTS, PlanArguments), "plan:run_plan"),
    Command("export", ("sam3",), "Export a tuned model: Transformers, sam3.pt, video, ONNX.",
            (ModelArguments, ExportArguments), "export:export_model", ignored=SAM3_ARGUMENTS),
    Command("demo", ("sam3",), "Serve a page that compares models in a browser.",
            (ModelArguments, DemoArguments), "demo:serve_demo", ignored=SAM3_ARGUMENTS),
    Command("serve", ("sam3",), "Serve predictions to Label Studio while people label.",
            (ModelArguments, ServeArguments), "serve:serve_label_studio", ignored=SAM3_ARGUMENTS),
)  # fmt: skip


def find_command(name: str, family: str = "sam3") -> Command:
    """
    Return a command of a model family.

    Args:
        name (`str`): Name of the command.
        family (`str`): `sam3` or `sam2`.

    Raises:
        ValueError: If there is no such command, or it does not support the family.
    """
    named = [command for command in COMMANDS if command.name == name]
    if not named:
        raise ValueError(f"`sam-ft {name}` is not a command. Choose from: {', '.join(_names())}")
    supported = next((command for command in named if family in command.families), None)
    if supported is None:
        raise ValueError(f"`sam-ft {name}` does not support the model family {family!r}, only {named[0].families[0]}")
    return supported


def run_recipe(command: Command) -> None:
    """Run a command as the program of a recipe; errors end in one line and an exit status."""
    with as_program(failed=command.error_status):
        result = command.run()
    if result is False:
        sys.exit(1)


def main() -> None:
    """Run the console script `sam-ft COMMAND [--family sam3|sam2] [--KEY VALUE …]`."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        sys.stdout.write(_format_help())
    elif name == "--version":
        sys.stdout.write(f"sam-ft {__version__}\n")
    else:
        with as_program(failed=1 if name != "check" else 2):
            family, arguments = choose_family(arguments)
            result = find_command(name, family).run(arguments, prog=f"sam-ft {name}")
        if result is False:
            sys.exit(1)


def _names() -> list[str]:
    return list(dict.fromkeys(command.name for command in COMMANDS))


def _format_help() -> str:
    lines = [f"  {command.name:10}{command.summary}" for command in COMMANDS if command.summary]
    return "\n".join(
        [
            "usage: sam-ft COMMAND [--config NAME or FILE] [--family sam3 or sam2] [--KEY VALUE ...]",
            "",
            *lines,
            "",
            "`sam-ft COMMAND --help` lists the keys of a command.",
            "`--family` is only needed where the model does not determine it, such as for `sam-ft finetune --help`.",
            f"Packaged configs: {', '.join(list_packaged_configs())}",
            "",
        ]
    )
