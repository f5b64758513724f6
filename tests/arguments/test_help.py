"""Help, keys that are read from Transformers' source, and imports of the parser."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import TrainingArguments

from sam_ft.arguments import SAM2_ARGUMENTS, SAM3_ARGUMENTS
from sam_ft.arguments.key_specs import read_keys
from sam_ft.arguments.parser import RecipeParser
from sam_ft.arguments.transformers_keys import COMMON_KEYS, read_transformers_keys
from sam_ft.data.synthetic import scenes
from sam_ft.options.scenes import ALL_SHAPES, COLOR_NAMES, FILLS, SIZE_NAMES


ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(file.name for file in (ROOT / "recipes").glob("*.py"))


def run(*words):
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("statement", ["import sam_ft.arguments.parser", "import sam_ft.options.training"])
def test_keys_are_imported_without_heavy_packages(statement):
    heavy = ("torch", "transformers", "datasets", "peft", "accelerate", "numpy")
    done = run("-c", f"import sys; {statement}; print([name for name in {heavy} if name in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_prediction_and_check_import_no_peft():
    # PEFT imports bitsandbytes, which takes 1 s and 60 MB; only adapters need it.
    heavy = ("peft", "bitsandbytes")
    statement = "import sam_ft.commands.predict, sam_ft.commands.check"
    done = run("-c", f"import sys; {statement}; print([name for name in {heavy} if name in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("words", [["--help"], ["--help-all"], ["--learning_rat", "1"], ["--lora_r", "0"]])
def test_help_and_refusals_import_no_torch(words):
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['sam3_ft.py', *{words!r}]\n"
        "try:\n    runpy.run_path('recipes/sam3_ft.py', run_name='__main__')\n"
        "finally:\n    assert not {'torch', 'transformers', 'datasets'} & sys.modules.keys()\n"
    )
    done = run("-c", code)
    assert "AssertionError" not in done.stderr
    assert "gemm_4bit_forward" not in done.stdout + done.stderr


@pytest.mark.parametrize("recipe", RECIPES)
def test_help_is_short_and_lists_the_keys(recipe):
    done = run(f"recipes/{recipe}", "--help")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) < 250
    assert max(map(len, lines)) <= 119
    assert lines[0] == f"usage: {recipe} [--config FILE] [--KEY VALUE ...]"


def test_help_is_grouped_by_topic():
    lines = run("recipes/sam3_ft.py", "--help").stdout.splitlines()
    topics = [line.rstrip(":") for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert topics == [
        "Model", "Data", "Synthetic scenes", "Prompts and augmentation", "Loss", "Training", "Evaluation", "Hub",
    ]  # fmt: skip
    assert any(line.split()[:2] == ["--lora_r", "16"] for line in lines)
    assert not any("--adam_beta1" in line for line in lines)


def test_full_help_describes_all_keys():
    text = run("recipes/sam3_ft.py", "--help-all").stdout
    assert "--adam_beta1\n" in text
    names = {name for group in SAM3_ARGUMENTS for name in read_keys(group)} | read_transformers_keys().keys()
    assert {line.strip().removeprefix("--") for line in text.splitlines() if line.startswith("  --")} >= names


def test_help_of_single_keys():
    text = run("recipes/sam3_ft.py", "--help", "lora_r", "--feature-cache").stdout
    assert "LoRA rank, 1 to 4096" in text
    assert "Default: 16." in text
    assert "--feature_cache" in text
    assert len(text.splitlines()) < 12


def test_keys_of_transformers_are_those_of_its_dataclass():
    declared = {field.name: field for field in dataclasses.fields(TrainingArguments) if field.init}
    assert read_transformers_keys().keys() == declared.keys()
    assert COMMON_KEYS.keys() <= declared.keys()
    for name, spec in read_transformers_keys().items():
        default = declared[name].default
        if isinstance(spec.default, bool | int | float):
            assert spec.default == default, name
        assert spec.help or name in ("output_dir",), name


@pytest.mark.parametrize("groups", [SAM3_ARGUMENTS, SAM2_ARGUMENTS])
def test_the_parser_accepts_each_key_of_a_family(groups):
    parsed = {action.dest for action in RecipeParser(groups)._actions}
    declared = {name for group in groups for name in read_keys(group)}
    assert parsed == declared | read_transformers_keys().keys() | {"config"}


def test_names_in_help_are_those_of_the_registries():
    assert tuple(scenes.COLORS) == COLOR_NAMES
    assert tuple(scenes.SIZES) == SIZE_NAMES
    assert tuple(scenes._FILL_WEIGHTS) == FILLS
    assert set(scenes._OUTLINES) == set(ALL_SHAPES)
