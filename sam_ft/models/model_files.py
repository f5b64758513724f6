"""Where a name's files are, and which of the two models they hold."""

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


TRAINED_PHRASES = "trained_phrases.json"  # beside the weights of a run: what it was trained on
_RANDOM = {one.random_name: one for one in FAMILIES.values()}


def family_of(name: str, revision: str | None = None, expected: Family | None = None) -> Family:
    """
    Which model a name is: SAM 3 where nothing tells.

    Args:
        name (`str`): as `model_name_or_path`. revision (`str`, *optional*). expected (`Family`, *optional*): what it is to be.

    Raises:
        `ValueError`: where it is another model than `expected`; names the recipe for it.
    """
    adapter = adapter_file(name, revision)
    config = None if adapter else file_beside(name, "config.json", revision)
    found = _RANDOM.get(name) or family_of_files(config, Path(adapter) if adapter else None)
    if found is None and config is not None:
        raise ValueError(
            f"`model_name_or_path`: {name!r} {describe_foreign_config(config)}, which is neither SAM 3 (`sam3`, `sam3_video`) nor "
            f"SAM 2 (`sam2`, `sam2_video`). Name a model such as {' or '.join(one.example for one in FAMILIES.values())}"
        )
    if expected is not None and found not in (None, expected):
        raise ValueError(
            f"`model_name_or_path`: {name!r} is a {found.title}, but this script is for {expected.title}. Use {found.recipes}, or name a "
            f"{expected.title} such as {expected.example}"
        )
    return found or expected or FAMILIES["sam3"]


def adapter_file(name: str, revision: str | None = None) -> str | None:
    """The path of an adapter's config; `None` where the name is a model."""
    if name in OWN_NAMES:
        return None
    if Path(name).is_dir():
        file = Path(name) / ADAPTER_CONFIG
        return str(file) if file.is_file() else None
    check_exists(name)
    with naming_the_model(name):
        return find_adapter_config_file(name, revision=revision)


def file_beside(name: str, file: str, revision: str | None = None) -> Path | None:
    """A file that was saved beside a model's weights, in a folder or on the Hub; `None` where there is none."""
    with naming_the_model(name):
        found = None if name in _RANDOM else cached_file(
            source_of(name), file, revision=revision, _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=not is_offline_mode(),
        )  # fmt: skip
    return Path(found) if found else None


def read_trained_phrases(name: str, revision: str | None = None) -> set[str] | None:
    """
    Read the phrases that a saved model was trained on.

    Args:
        name (`str`): Folder, Hub id, or name of a carried model.
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
    Where a name's files are. A carried model is loaded from its folder, so that nothing saved from it names a base that
    only this package knows.
    """
    if name in CARRIED:
        return str(CARRIED[name])
    check_exists(name)
    return name


@contextlib.contextmanager
def naming_the_model(name: str):
    """Turns what a broken or missing model raises into one `ValueError` that names it and says what to do."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError, TypeError, KeyError, ValueError) as error:
        remedy = (
            "The folder is damaged or holds another kind of model: save or copy it again, tokenizer and processor files too"
            if Path(name).is_dir()
            else "Check the name; for facebook/sam3 ask for access on its page and run `hf auth login`"
        )
        raise ValueError(f"`model_name_or_path`: {name!r} cannot be loaded. {remedy}. ({error})") from error


def check_exists(name: str) -> None:
    """Raises `ValueError` for a path that does not exist; a Hub id has the form `owner/name`."""
    if Path(name).is_dir():
        if not any((Path(name) / file).is_file() for file in ("config.json", ADAPTER_CONFIG)):
            raise ValueError(
                f"`model_name_or_path`: the folder {name!r} holds no config.json, so it is no saved model or adapter. A training "
                "output keeps its model in the folder itself and in checkpoint-N folders."
            )
        return
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ValueError(
            f"`model_name_or_path`: there is no folder {name!r}. Give a folder written by save_pretrained, a Hub id like "
            f"facebook/sam3 or facebook/sam2.1-hiera-tiny, or {TINY} or {TINY_SAM2}."
        )
