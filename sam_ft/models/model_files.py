"""Files of a model: paths, and detection of the model's family."""

import contextlib
import json
from pathlib import Path
from typing import Any

from huggingface_hub import is_offline_mode
from safetensors import SafetensorError
from transformers.utils import cached_file
from transformers.utils.peft_utils import ADAPTER_CONFIG_NAME as ADAPTER_CONFIG
from transformers.utils.peft_utils import find_adapter_config_file

from ..options.concepts import CONCEPT_INFO
from ..utils.json_files import read_json_file
from ..utils.text import list_some, short_repr
from .families import DEFAULT_FAMILY, FAMILIES, PACKAGE_MODEL_NAMES, PACKAGED_MODELS, UNTRAINED
from .family_spec import FamilySpec


TRAINED_PHRASES = "trained_phrases.json"  # saved with the weights of a run: the phrases that it was trained on


def detect_family(name: str, revision: str | None = None, expected: str | None = None) -> FamilySpec:
    """
    Detect the family of a model from its name and config.

    Args:
        name (`str`): Hub id, folder, or name of a model of this package.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.
        expected (`str`, *optional*): Key of the required family.

    Returns:
        `FamilySpec`: The family; `expected` or SAM 3 if there is no config.

    Raises:
        `ValueError`: If the family is not `expected`, or is neither SAM 3 nor SAM 2; names the recipes of the family.
    """
    adapter = find_adapter_file(name, revision)
    config = None if adapter else find_saved_file(name, "config.json", revision)
    family = UNTRAINED.get(name) or _family_of_files(config, Path(adapter) if adapter else None)
    if family is None and config is not None:
        families = " nor ".join(f"{member.title} (`{key}`, `{key}_video`)" for key, member in FAMILIES.items())
        raise ValueError(
            f"`model_name_or_path`: {name!r} {_describe_foreign_config(config)}, which is neither {families}. Pass a "
            f"model such as {' or '.join(member.example for member in FAMILIES.values())}"
        )
    required = FAMILIES[expected] if expected else None
    if required is not None and family not in (None, required):
        raise ValueError(
            f"`model_name_or_path`: {name!r} is a {family.title}, but this script is for {required.title}. Use "
            f"{family.recipes}, or pass a {required.title} such as {required.example}"
        )
    return family or required or DEFAULT_FAMILY


def _family_of_files(config: Path | None, adapter: Path | None) -> FamilySpec | None:
    """
    Detect the family of a saved model or adapter.

    Args:
        config (`Path` or `None`): `config.json` of a model.
        adapter (`Path` or `None`): `adapter_config.json` of an adapter.

    Returns:
        `FamilySpec` or `None`: `None` if the files name no family.
    """
    model_type: Any = None
    if adapter is not None:
        mapping = _read(adapter).get("auto_mapping")
        model_type = mapping.get("base_model_class") if isinstance(mapping, dict) else None
    elif config is not None:
        model_type = _read(config).get("model_type")
    model_type = model_type if isinstance(model_type, str) else ""
    # The video models `sam3_video` and `sam2_video` contain the image model; SAM 3's tracker does not.
    return FAMILIES.get(model_type.lower().removesuffix("model").removesuffix("_video"))


def _read(file: Path) -> dict:
    """Read a JSON object; return an empty one if the file contains none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _describe_foreign_config(config: Path) -> str:
    """
    Describe the model of a `config.json` that is of no family, for an error message.

    Args:
        config (`Path`): The file.

    Returns:
        `str`: A part of a sentence that follows the model's name.

    Raises:
        `ValueError`: If the file is no JSON; names it.
    """
    content = read_json_file(config, "model_name_or_path", remedy="Copy the folder again")
    if not isinstance(content, dict) or "model_type" not in content:
        return f"has no `model_type` in {config}"
    architectures = content.get("architectures")
    classes = f" ({short_repr(architectures[0])})" if isinstance(architectures, list) and architectures else ""
    return f"is a model of the type {short_repr(content['model_type'])}{classes}"


def find_adapter_file(name: str, revision: str | None = None) -> str | None:
    """Return the path of an adapter's config, or `None` if the name is a model."""
    if name in PACKAGE_MODEL_NAMES:
        return None
    if Path(name).is_dir():
        file = Path(name) / ADAPTER_CONFIG
        return str(file) if file.is_file() else None
    check_exists(name)
    with add_model_to_errors(name):
        return find_adapter_config_file(name, revision=revision)


def find_concept_info(name: str, revision: str | None = None) -> Path | None:
    """Return the path of the description of concepts, or `None` if the name is a model or an adapter."""
    if name in PACKAGE_MODEL_NAMES:
        return None
    if Path(name).is_dir():
        file = Path(name) / CONCEPT_INFO
        return file if file.is_file() else None
    check_exists(name)
    return find_saved_file(name, CONCEPT_INFO, revision)


def find_saved_file(name: str, file: str, revision: str | None = None) -> Path | None:
    """Return the path of a file that is saved with a model's weights, in a folder or on the Hub, or `None`."""
    if name in UNTRAINED:
        return None
    source = resolve_source(name)
    with add_model_to_errors(name):
        path = cached_file(
            source, file, revision=revision, _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=not is_offline_mode(),
        )  # fmt: skip
    return Path(path) if path else None


def read_trained_phrases(name: str, revision: str | None = None) -> set[str] | None:
    """
    Read the phrases that a saved model was trained on.

    Args:
        name (`str`): Hub id, folder, or name of a model of this package.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.

    Returns:
        `set[str]` or `None`: `None` if the model has no `trained_phrases.json`.

    Raises:
        `ValueError`: If the file is no JSON list of texts; names it.
    """
    file = find_saved_file(name, TRAINED_PHRASES, revision)
    if file is None:
        return None
    remedy = "Copy it again, or delete it: without it the phrases of the run are unknown"
    phrases = read_json_file(file, "model_name_or_path", remedy=remedy)
    if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases):
        raise ValueError(
            f"`model_name_or_path`: {file} contains {short_repr(phrases)}; expected a list of phrases. {remedy}"
        )
    return set(phrases)


def resolve_source(name: str) -> str:
    """
    Return the folder or Hub id of a model's files.

    A model of this package is loaded from its folder, so that saved files contain no name that only this package
    resolves.
    """
    if name in PACKAGED_MODELS:
        return str(PACKAGED_MODELS[name])
    check_exists(name)
    return name


@contextlib.contextmanager
def add_model_to_errors(name: str):
    """Convert exceptions of a broken or missing model to a `ValueError` with the model's name and a remedy."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError, TypeError, KeyError, ValueError) as error:
        remedy = (
            "The folder is damaged or contains another kind of model: copy it again, with tokenizer and processor"
            if Path(name).is_dir()
            else describe_neighbours(name)
            or "Check the name; for facebook/sam3, request access on its page and run `hf auth login`"
        )
        raise ValueError(f"`model_name_or_path`: {name!r} cannot be loaded. {remedy}. ({error})") from error


def describe_neighbours(name: str) -> str:
    """Describe the models beside a folder that does not exist: a misspelt folder has the form of a Hub id, too."""
    folder = Path(name).parent
    if Path(name).exists() or folder == Path("."):
        return ""
    models = sorted(file.parent.name for file in folder.glob(f"*/{TRAINED_PHRASES}"))
    return f"There is no folder {name}; {folder} contains the models {list_some(models)}" if models else ""


def is_hub_id(name: str) -> bool:
    """Return whether a name has the form `owner/name`."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def check_exists(name: str) -> None:
    """Raise `ValueError` if `name` is neither a folder with a model or adapter nor of the form `owner/name`."""
    if Path(name).is_dir():
        if not any((Path(name) / file).is_file() for file in ("config.json", ADAPTER_CONFIG, CONCEPT_INFO)):
            raise ValueError(
                f"`model_name_or_path`: the folder {name!r} contains no config.json, so it is no saved model "
                "or adapter. Pass the output folder of a training, or a checkpoint-N folder in it."
            )
        return
    if not is_hub_id(name):
        raise ValueError(
            f"`model_name_or_path`: there is no folder {name!r}. Pass a folder written by save_pretrained, a "
            f"Hub id such as facebook/sam3 or facebook/sam2.1-hiera-tiny, or {' or '.join(PACKAGED_MODELS)}."
        )
