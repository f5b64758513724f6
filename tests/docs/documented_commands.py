"""Command lines of the documentation: their words, and a check with the parser of the program that they call."""

import functools
import importlib.util
import os
import re
import shlex
from pathlib import Path

from sam_ft.commands.family_choice import choose_family
from sam_ft.commands.program import Command, find_command

from .pages import ROOT


# Programs of others: nothing but their names is checked here.
OTHER_PROGRAMS = {
    "cvat-cli", "docker", "export", "hf", "label-studio", "labelme", "pip", "sbatch", "sky", "source", "tensorboard",
    "unzip", "xanylabeling",
}  # fmt: skip
_ASSIGNMENT = re.compile(r"\w+=")


def split_lines(text: str) -> list[str]:
    """Split a block into command lines: continued lines are joined, empty lines and comments left out."""
    lines = re.sub(r"\\\n *", "", text).splitlines()
    return [line for line in lines if shlex.split(line, comments=True)]


def split_words(line: str) -> list[str]:
    """Split a command line into words, without comments and without assignments before the program."""
    words = shlex.split(line, comments=True)
    while _ASSIGNMENT.match(words[0]):
        words = words[1:]
    return words


@functools.cache
def load_recipe(name: str) -> Command:
    """Return the command of `recipes/NAME`."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, ROOT / "recipes" / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.COMMAND


@functools.cache
def read_make_targets() -> set[str]:
    """Return the targets of the Makefile."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([\w-]+):", text, re.MULTILINE))


def check_line(line: str) -> None:
    """
    Parse a command line with the parser of its program.

    Args:
        line (`str`): Line of a block.

    Raises:
        Exception: If the program, a file, a target or a key does not exist, or a value is not valid.
    """
    program, *words = split_words(line)
    if program == "accelerate":
        _check_launch(words)
    elif program == "python":
        check_script(words)
    elif program == "make":
        unknown = {word for word in words if "=" not in word} - read_make_targets()
        assert not unknown, f"the Makefile has no target {unknown}"
    elif program == "sam-ft":
        _check_command(words)
    else:
        assert program in OTHER_PROGRAMS, f"{program} is not a known program"


def check_script(words: list[str]) -> None:
    """Check a script and its arguments: of a recipe with its parser, of a benchmark the names of its options."""
    script, *arguments = words
    if script == "-m":
        assert arguments[0] in ("build", "pip"), arguments
    elif script.startswith("recipes/"):
        _parse(load_recipe(script.removeprefix("recipes/")), arguments)
    elif script.startswith("benchmarks/"):
        text = (ROOT / script).read_text(encoding="utf-8")
        own = arguments[: arguments.index("--keys") + 1] if "--keys" in arguments else arguments
        unknown = [word for word in own if word.startswith("--") and f'"{word}"' not in text]
        assert not unknown, f"{script} has no option {unknown}"
    else:
        assert script.startswith("out/"), f"{script} is neither a script of the repository nor an output"


def _check_launch(words: list[str]) -> None:
    from accelerate.commands.launch import launch_command_parser

    assert words[:2] == ["launch", "--quiet"], "without `--quiet`, the launcher adds a traceback to each error message"
    args = launch_command_parser().parse_args(words[1:])
    assert args.config_file is None or (ROOT / args.config_file).is_file()
    if args.module:
        assert args.training_script == "sam_ft"
        _check_command(args.training_script_args)
    else:
        check_script([args.training_script, *args.training_script_args])


def _check_command(words: list[str]) -> None:
    """Check the words behind `sam-ft`."""
    if words != ["--help"]:
        family, arguments = choose_family(words[1:])
        _parse(find_command(words[0], family), arguments)


def _parse(command: Command, arguments: list[str]) -> None:
    parser = command.make_parser()
    options = parser._option_string_actions
    on_cpu = ["--use_cpu", "true"] if "--use_cpu" in options else ["--device", "cpu"] if "--device" in options else []
    folder = Path.cwd()
    os.chdir(ROOT)
    try:
        parser.parse([*arguments, *on_cpu], command.default_config, command.base_config)
    finally:
        os.chdir(folder)
