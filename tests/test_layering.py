"""Allowed imports between the folders, and names that would shadow a dependency."""

import ast
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "sam_ft"
# Folders below each folder that it may import; all of them may import `utils`, and all but `utils` import `options`.
BELOW_MODELS = {"losses", "metrics", "data", "reporting", "ops"}
ALLOWED = {
    "utils": set(),
    "options": set(),
    "arguments": set(),
    "ops": set(),
    "losses": {"ops"},
    "metrics": {"ops"},
    "data": {"ops"},
    "reporting": {"data", "metrics", "ops"},
    "models": {"losses", "ops"},
    "optim": {"models"},
    "evaluation": {"models", "metrics", "data", "reporting", "ops"},
    "training": {"evaluation", "optim", "models", *BELOW_MODELS},
    "inference": {"models", *BELOW_MODELS},
    "export": {"models", *BELOW_MODELS},
    "planning": {"models", "losses", "data", "ops"},
    "commands": {
        "arguments",
        "training",
        "inference",
        "export",
        "planning",
        "evaluation",
        "optim",
        "models",
        *BELOW_MODELS,
    },
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(file):
    """Yield the modules that a file imports as absolute dotted names, and whether at its top level."""
    package = file.relative_to(ROOT).with_suffix("").parts
    tree = ast.parse(file.read_text(encoding="utf-8"))
    top = set(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level]) if node.level else ""
            yield ".".join(filter(None, [base, node.module])), node in top


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_folders_import_only_folders_below(file):
    parts = file.relative_to(PACKAGE).parts
    folder = parts[0] if len(parts) > 1 else None
    allowed = ALLOWED.get(folder, set()) | {folder, "utils"} | ({"options"} if folder != "utils" else set())
    for module, at_top in imported(file):
        assert module.split(".")[0] != "sam3" or not at_top, "training must run where the official package is missing"
        if folder in ALLOWED and module.startswith("sam_ft.") and module != "sam_ft":
            assert module.split(".")[1] in allowed, f"{file.name} imports {module}"


def test_all_folders_are_in_the_table():
    folders = {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    assert folders == set(ALLOWED)


def test_no_name_shadows_a_dependency():
    dependencies = {
        "torch",
        "transformers",
        "accelerate",
        "datasets",
        "peft",
        "evaluate",
        "sam3",
        "safetensors",
        "PIL",
    }
    names = {p.stem for parent in ("recipes", ".", "benchmarks") for p in (ROOT / parent).glob("*.py")}
    assert not names & dependencies


def test_recipes_import_only_the_package():
    for file in (ROOT / "recipes").glob("*.py"):
        assert {m.split(".")[0] for m, _ in imported(file)} <= {
            "sam_ft",
            "sys",
            "json",
            "logging",
            "pathlib",
            "tempfile",
        }
        assert len(file.read_text().splitlines()) <= 120
