"""Choice of the model family of a command: the option `--family`, else the model that the keys name."""

from pathlib import Path

from ..arguments.config_files import find_config
from ..utils.yaml_files import read_yaml_mapping


_FAMILIES = ("sam3", "sam2")


def choose_family(arguments: list[str]) -> tuple[str, list[str]]:
    """
    Remove `--family` from a command line and return the model family.

    Args:
        arguments (`list[str]`): Command line after the command's name.

    Returns:
        `tuple[str, list[str]]`: `sam3` or `sam2`, and the other arguments. Without the option, the family of
        `model_name_or_path` on the command line or in the YAML file; `sam3` if neither names a model.

    Raises:
        ValueError: If `--family` is another name, or the model belongs to neither family.
    """
    family, rest = _take(arguments, "family")
    if family is not None:
        if family not in _FAMILIES:
            raise ValueError(f"`--family` must be one of {', '.join(_FAMILIES)}, got {family!r}")
        return family, rest
    model = _take(arguments, "model_name_or_path")[0] or _take(arguments, "model-name-or-path")[0]
    config = _take(arguments, "config")[0]
    if model is None and config is not None:
        model = read_yaml_mapping(find_config(config), "--config").get("model_name_or_path")
    return _family_of_model(str(model)) if model else "sam3", rest


def _take(arguments: list[str], option: str) -> tuple[str | None, list[str]]:
    """Return the last value of `--option VALUE` or `--option=VALUE`, and the arguments without it."""
    value, rest, words = None, [], iter(arguments)
    for word in words:
        name, equals, text = word.partition("=")
        if name == f"--{option}":
            value = text if equals else next(words, "")
        else:
            rest.append(word)
    return value, rest


def _family_of_model(name: str) -> str:
    if Path(name).is_dir():
        # The import takes seconds, and only a model in a folder needs it.
        from ..models.model_files import detect_family

        return detect_family(name).key
    return "sam2" if "sam2" in Path(name).name.lower() else "sam3"
