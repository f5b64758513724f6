"""Keys of Transformers' `TrainingArguments`, read from its source without importing it, which takes seconds."""

import ast
import functools
from importlib.util import find_spec
from pathlib import Path

from .key_specs import KeySpec


TRANSFORMERS = "Transformers"
CHOSEN_BY_TRANSFORMERS = "chosen by Transformers"  # default that is computed when the source is executed
# Keys of Transformers that `--help` lists with those of this package, by topic.
COMMON_KEYS = {
    "max_steps": "Training",
    "optim": "Training",
    "lr_scheduler_type": "Training",
    "lr_scheduler_kwargs": "Training",
    "bf16": "Training",
    "use_cpu": "Training",
    "resume_from_checkpoint": "Training",
    "eval_steps": "Evaluation",
    "save_steps": "Training",
    "push_to_hub": "Hub",
    "hub_model_id": "Hub",
    "hub_private_repo": "Hub",
    "hub_token": "Hub",
}


@functools.cache
def read_transformers_keys() -> dict[str, KeySpec]:
    """Read the keys of `TrainingArguments`: name, type, default, help and choices."""
    file = Path(find_spec("transformers").origin).parent / "training_args.py"
    tree = ast.parse(file.read_text(encoding="utf-8"))
    class_body = next(
        node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "TrainingArguments"
    )
    fields = (node for node in class_body if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Call))
    return {spec.name: spec for spec in map(_read_field, fields)}


def _read_field(node: ast.AnnAssign) -> KeySpec:
    keywords = {keyword.arg: keyword.value for keyword in node.value.keywords}
    metadata = keywords.get("metadata", ast.Dict([], []))
    texts = {
        name.value: value for name, value in zip(metadata.keys, metadata.values) if isinstance(name, ast.Constant)
    }
    name, choices = node.target.id, _evaluate(texts.get("choices"), None)
    default = [] if "default_factory" in keywords else _evaluate(keywords.get("default"), CHOSEN_BY_TRANSFORMERS)
    help = str(_evaluate(texts.get("help"), "")).replace("%%", "%")
    topic = COMMON_KEYS.get(name, TRANSFORMERS)
    return KeySpec(name, ast.unparse(node.annotation), default, help, topic, tuple(choices) if choices else None)


def _evaluate(node: ast.expr | None, fallback):
    """Evaluate a literal; return the fallback for another expression."""
    try:
        return fallback if node is None else ast.literal_eval(node)
    except ValueError:
        return fallback
