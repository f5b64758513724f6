"""Files of a model: paths, and detection of the model's family."""

import contextlib
from pathlib import Path

from huggingface_hub import is_offline_mode
from peft.utils import CONFIG_NAME as ADAPTER_CONFIG
from safetensors import SafetensorError
from transformers.utils import cached_file
from transformers.utils.peft_utils import find_adapter_config_file

from ..utils.json_files import read_json_file
from ..utils.text import short_repr
from .families import (
    CARRIED,
    FAMILIES,
    OWN_NAMES,
    TINY,
    TINY_SAM2,
    Family,
    describe_foreign_config,
    family_of_files,
)


TRAINED_PHRASES = "trained_phrases.json"  # saved with the weights of a run: the phrases that it was trained on
_UNTRAINED = {family.random_name: family for family in FAMILIES.values()}


def family_of(name: str, revision: str | None = None, expected: Family | None = None) -> Family:
    """
    Detect the family of a model from its name and config.

    Args:
        name (`str`): Hub id, folder, or name of a model of this package.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.
        expected (`Family`, *optional*): Required family.

    Returns:
        `Family`: The family; `expected` or SAM 3 if there is no config.

    Raises:
        `ValueError`: If the family is not `expected`, or is neither SAM 3 nor SAM 2; names the recipes of the family.
    """
    adapter = adapter_file(name, revision)
    config = None if adapter else file_beside(name, "config.json", revision)
    family = _UNTRAINED.get(name) or family_of_files(config, Path(adapter) if adapter else None)
    if family is None and config is not None:
        raise ValueError(
            f"`model_name_or_path`: {name!r} {describe_foreign_config(config)}, which is neither SAM 3 (`sam3`, "
            "`sam3_video`) nor SAM 2 (`sam2`, `sam2_video`). Pass a model such as "
            f"{' or '.join(family.example for family in FAMILIES.values())}"
        )
    if expected is not None and family not in (None, expected):
        raise ValueError(
            f"`model_name_or_path`: {name!r} is a {family.title}, but this script is for {expected.title}. Use "
            f"{family.recipes}, or pass a {expected.title} such as {expected.example}"
        )
    return family or expected or FAMILIES["sam3"]


def adapter_file(name: str, revision: str | None = None) -> str | None:
    """Return the path of an adapter's config, or `None` if the name is a model."""
    if name in OWN_NAMES:
        return None
    if Path(name).is_dir():
        file = Path(name) / ADAPTER_CONFIG
        return str(file) if file.is_file() else None
    check_exists(name)
    with naming_the_model(name):
        return find_adapter_config_file(name, revision=revision)


def file_beside(name: str, file: str, revision: str | None = None) -> Path | None:
    """Return the path of a file that is saved with a model's weights, in a folder or on the Hub, or `None`."""
    with naming_the_model(name):
        path = None if name in _UNTRAINED else cached_file(
            source_of(name), file, revision=revision, _raise_exceptions_for_missing_entries=False,
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
    file = file_beside(name, TRAINED_PHRASES, revision)
    if file is None:
        return None
    remedy = "Copy it again, or delete it: without it the phrases of the run are unknown"
    phrases = read_json_file(file, "model_name_or_path", remedy=remedy)
    if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases):
        raise ValueError(
            f"`model_name_or_path`: {file} contains {short_repr(phrases)}; expected a list of phrases. {remedy}"
        )
    return set(phrases)


def source_of(name: str) -> str:
    """
    Return the folder or Hub id of a model's files.

    A model of this package is loaded from its folder, so that saved files contain no name that only this package
    resolves.
    """
    if name in CARRIED:
        return str(CARRIED[name])
    check_exists(name)
    return name


@contextlib.contextmanager
def naming_the_model(name: str):
    """Convert exceptions of a broken or missing model to a `ValueError` with the model's name and a remedy."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError, TypeError, KeyError, ValueError) as error:
        remedy = (
            "The folder is damaged or contains another kind of model: copy it again, with tokenizer and processor"
            if Path(name).is_dir()
            else "Check the name; for facebook/sam3, request access on its page and run `hf auth login`"
        )
        raise ValueError(f"`model_name_or_path`: {name!r} cannot be loaded. {remedy}. ({error})") from error


def check_exists(name: str) -> None:
    """Raise `ValueError` if `name` is neither a folder with a model or adapter nor of the form `owner/name`."""
    if Path(name).is_dir():
        if not any((Path(name) / file).is_file() for file in ("config.json", ADAPTER_CONFIG)):
            raise ValueError(
                f"`model_name_or_path`: the folder {name!r} contains no config.json, so it is no saved model "
                "or adapter. Pass the output folder of a training, or a checkpoint-N folder in it."
            )
        return
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ValueError(
            f"`model_name_or_path`: there is no folder {name!r}. Pass a folder written by save_pretrained, a "
            f"Hub id such as facebook/sam3 or facebook/sam2.1-hiera-tiny, or {TINY} or {TINY_SAM2}."
        )
