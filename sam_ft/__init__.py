"""Fine-tuning recipes for SAM 3 and SAM 2 on Transformers, Accelerate, Datasets and PEFT."""

import ast
import importlib
from pathlib import Path


__version__ = "0.1.0"


def _read_public_names() -> dict[str, str]:
    """Read the public names and their modules from the stub file, which type checkers read too."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = (node for node in stub.body if isinstance(node, ast.ImportFrom))
    return {alias.name: node.module for node in imports for alias in node.names}


# Public name -> module that defines it, imported on first use, so that `--help` imports neither torch nor
# Transformers.
_PUBLIC = _read_public_names()
__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'sam_ft' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)


def __dir__():
    return [*globals(), *__all__]
