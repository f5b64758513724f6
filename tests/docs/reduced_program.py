"""
Programs of the documentation at a reduced cost: a script that runs a command line with appended keys.

    python reduced_program.py python recipes/sam3_ft.py --config recipes/configs/sam3_lora_24gb.yaml

`WorkingFolder` puts it into the folder `.venv/bin` of a page under the names of `PROGRAMS`. `REDUCED` lists what is
appended to each command, so that it takes seconds on one CPU core; later keys replace those of the page. `accelerate
launch` runs one process without a launcher, whose options `test_pages.py` parses. Of the Makefile, the demos run, and
other targets are resolved only. Python programs run in forks of `program_server.py`.
"""

import os
import shutil
import sys
from pathlib import Path

from sam_ft.commands.family_choice import choose_family
from sam_ft.commands.program import Command, find_command
from tests.docs.documented_commands import load_recipe
from tests.docs.program_server import run_in_fork


PROGRAMS = ("python", "accelerate", "sam-ft", "make")
RUN_TARGETS = {"demo", "demo-full"}

# Key -> value; each command gets those that it has.
REDUCED = {
    "use_cpu": "true", "device": "cpu", "resolution": "96", "max_steps": "1", "per_device_eval_batch_size": "8",
    "optim": "adamw_torch", "dataloader_num_workers": "0", "num_pictures": "1", "bootstrap_samples": "20",
    "disable_tqdm": "true", "probe_images": "1", "num_folds": "2", "workers": "0", "num_proc": "1",
}  # fmt: skip
# Options of benchmarks are inserted before those of the page, because the last one takes all words behind it.
REDUCED_BENCHMARKS = {"fewshot.py": ["--methods", "heads"]}


def reduce_arguments(command: Command, arguments: list[str]) -> list[str]:
    """Return the arguments of a command with the appended keys."""
    if arguments == ["--help"]:
        return arguments
    if not arguments and command.default_config:
        arguments = ["--config", command.default_config]
    options = command.make_parser()._option_string_actions.keys()
    if "--card" in arguments:  # a prediction simulates the full-size model, with a fused optimizer
        options = options - {"--resolution", "--optim"}
    if "--verify" in arguments:  # the file has the tensors of the packaged model
        arguments = [*arguments, "--base=facebook/sam3"]
    if command.name == "review":  # it sets both for its folds
        options = options - {"--num_pictures", "--probe_images"}
    return [*arguments, *(f"--{key}={value}" for key, value in REDUCED.items() if f"--{key}" in options)]


def reduce_script(words: list[str]) -> list[str]:
    """Return a script with its arguments and the appended keys."""
    script, *arguments = words
    folder, _, name = script.rpartition("/")
    if folder == "recipes":
        return [script, *reduce_arguments(load_recipe(name), arguments)]
    if folder == "benchmarks":
        return [script, *REDUCED_BENCHMARKS[name], *arguments]
    return words


def reduce_program(program: str, words: list[str]) -> list[str]:
    """
    Return the words that run instead of a documented command line: of a Python program those behind `python`.

    Args:
        program (`str`): One of `PROGRAMS`.
        words (`list[str]`): Its arguments.
    """
    if program == "make":
        make = shutil.which("make", path="/usr/local/bin:/usr/bin:/bin")
        return [make, "-o", ".venv/.done", *([] if RUN_TARGETS.issuperset(words) else ["--dry-run"]), *words]
    if program == "accelerate" and "sam_ft" in words:  # `accelerate launch -m sam_ft COMMAND`
        program, words = "sam-ft", words[words.index("sam_ft") + 1 :]
    if program == "sam-ft":
        start = "from sam_ft.commands.program import main; main()"
        if words != ["--help"]:
            family, arguments = choose_family(words[1:])
            arguments = reduce_arguments(find_command(words[0], family), arguments)
            words = [words[0], "--family", family, *arguments]
        return ["-c", start, *words]
    if program == "accelerate":
        words = words[next(i for i, word in enumerate(words) if word.endswith(".py")) :]
    return reduce_script(words)


def main() -> None:
    """Run the program in place of this process, or in a fork of the server."""
    program, words = Path(sys.argv[1]).name, sys.argv[2:]
    command = reduce_program(program, words)
    if program == "make":
        os.execv(command[0], command)
    sys.exit(run_in_fork(command))


if __name__ == "__main__":
    main()
