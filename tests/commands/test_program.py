"""Console script `sam-ft COMMAND`: commands, model family and packaged configs."""

import importlib
import json
import logging
import re
import sys
from pathlib import Path

import pytest

from sam_ft.arguments.config_files import find_config, list_packaged_configs
from sam_ft.commands import program
from sam_ft.commands.family_choice import choose_family
from sam_ft.commands.program import COMMANDS, find_command


ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.py"))


@pytest.fixture
def run(monkeypatch, capsys):
    """Return a function that runs `sam-ft` in this process and returns exit status, output and error stream."""
    package = logging.getLogger("sam_ft")
    for attribute, value in (("handlers", []), ("propagate", package.propagate), ("level", package.level)):
        monkeypatch.setattr(package, attribute, value)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["sam-ft", *map(str, words)])
        try:
            program.main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def test_help_lists_every_command_and_config(run):
    status, out, _ = run("--help")
    assert status == 0
    for command in COMMANDS:
        assert re.search(rf"^  {command.name} ", out, re.MULTILINE), command.name
    assert "sam3_lora_24gb" in out
    assert run()[1] == out
    assert run("--version")[1].startswith("sam-ft 0.")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: f"{c.name} {c.families[0]}")
def test_the_function_of_each_command_exists(command):
    module, _, function = command.function.partition(":")
    assert callable(getattr(importlib.import_module(f"sam_ft.commands.{module}"), function))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: f"{c.name} {c.families[0]}")
def test_help_of_each_command(run, command):
    status, out, _ = run(command.name, "--help", *(["--family", "sam2"] if command.families[0] == "sam2" else []))
    assert status == 0
    assert out.startswith(f"usage: sam-ft {command.name} ")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.name)
def test_recipes_run_the_commands_of_the_console_script(recipe):
    text = recipe.read_text(encoding="utf-8")
    words = re.search(r"COMMAND = find_command\((.*)\)", text)[1].replace('"', "").split(", ")
    command = find_command(*words)
    assert command.families[0] == ("sam2" if recipe.name.startswith("sam2_") else "sam3")
    assert len(text.splitlines()) < 40


def test_an_unknown_command_is_refused(run):
    status, _, err = run("train")
    assert status == 1
    assert "`sam-ft train` is not a command. Choose from: demo-run, finetune, evaluate" in err
    status, _, err = run("export", "--family", "sam2")
    assert status == 1
    assert "does not support the model family 'sam2'" in err
    assert run("predict", "--family", "sam4")[0] == 1


def test_the_model_sets_the_family(tmp_path):
    assert choose_family([]) == ("sam3", [])
    assert choose_family(["--family=sam2", "--seed", "1"]) == ("sam2", ["--seed", "1"])
    assert choose_family(["--model_name_or_path", "facebook/sam2.1-hiera-tiny"])[0] == "sam2"
    assert choose_family(["--model_name_or_path", "facebook/sam3"])[0] == "sam3"
    assert choose_family(["--config", "sam2_lora"])[0] == "sam2"
    assert choose_family(["--config", "sam2_lora", "--model_name_or_path", "sam-ft/tiny"])[0] == "sam3"
    for family in ("sam2", "sam3"):  # A run's folder has any name.
        (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
        arguments = ["--model_name_or_path", str(tmp_path)]
        assert choose_family(arguments) == (family, arguments)


def test_packaged_configs_are_found_by_name(tmp_path, monkeypatch):
    assert sorted(file.stem for file in (ROOT / "recipes" / "configs").glob("*.yaml")) == list_packaged_configs()
    assert Path(find_config("sam3_lora_24gb")).read_text() == Path(find_config("sam3_lora_24gb.yaml")).read_text()
    monkeypatch.chdir(tmp_path)
    Path("demo").write_text("seed: 3\n")
    assert find_config("demo") == "demo"  # A file of the user comes first.
    with pytest.raises(ValueError, match="Did you mean `sam3_lora_24gb`"):
        find_config("recipes/configs/sam3_lora_24g.yaml")


def test_a_command_runs_with_a_packaged_config(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--config", "demo", "--scene_train_images", "2", "--scene_eval_images", "2", "--num_pictures", "0"]
    status, _, err = run("check", *words)
    assert status == 0, err
    assert "usable" in err
    status, _, err = run("check", "--dataset_name", tmp_path / "missing")
    assert status == 2, err


def test_a_base_config_is_used_without_config_alone(tmp_path):
    review = find_command("review")
    (tmp_path / "mine.yaml").write_text("lora: attention\n")

    def parse(*words):
        return review.make_parser().parse([*words, "--dataset_name", "data"], base=review.base_config)[0]

    assert (parse().concept_tokens, parse().lora) == (8, None)
    mine = parse("--config", str(tmp_path / "mine.yaml"))
    assert (mine.concept_tokens, mine.lora) == (None, "attention")
