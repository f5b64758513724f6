"""Declaration of keys: default, help, allowed range and choices of a field of a dataclass in one place."""

import difflib
import math
import typing
from collections.abc import Collection
from dataclasses import MISSING, Field, field, fields
from typing import Any, TypeVar

from ..utils.text import short_repr


Options = TypeVar("Options")


def key(default, help: str, *, name: str | None = None, low=None, high=None, above=None, below=None, choices=None):
    """
    Declare a field of a dataclass that a user can set by a key.

    Args:
        default: Default value; a list or dict is copied for each instance.
        help (`str`): Text of `--help`.
        name (`str`, *optional*): Name of the key. Default: the name of the field.
        low (`float`, *optional*): Smallest allowed value, included.
        high (`float`, *optional*): Largest allowed value, included.
        above (`float`, *optional*): Lower bound, excluded.
        below (`float`, *optional*): Upper bound, excluded.
        choices (`Sequence[str]`, *optional*): Allowed values, or allowed items of a list.
    """
    limits = {"name": name, "low": low, "high": high, "above": above, "below": below, "choices": choices}
    metadata = {"help": help, **{name: value for name, value in limits.items() if value is not None}}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def key_of(options: type, name: str, default=MISSING, help: str | None = None):
    """
    Declare a field with the declaration of another dataclass, except for a changed default or help.

    Args:
        options (`type`): Dataclass that declares the key.
        name (`str`): Name of the key there.
        default (*optional*): Default value that replaces the declared one.
        help (`str`, *optional*): Text of `--help` that replaces the declared one.
    """
    declared = get_keys(options)[name]
    metadata = {**declared.metadata, "name": name}
    if help is not None:
        metadata["help"] = help
    if default is not MISSING:
        return key(default, **metadata)
    if declared.default_factory is not MISSING:
        return field(default_factory=declared.default_factory, metadata=metadata)
    return field(default=declared.default, metadata=metadata)


def get_keys(options: type) -> dict[str, Field]:
    """Return the fields of a dataclass that are keys, by the name of the key; others have no help text."""
    return {get_key_name(f): f for f in fields(options) if "help" in f.metadata}


def get_key_name(declared: Field) -> str:
    """Return the name of the key of a field."""
    return declared.metadata.get("name", declared.name)


def get_default(declared: Field):
    """Return the default value of a field."""
    return declared.default if declared.default_factory is MISSING else declared.default_factory()


def build_options(options: type[Options], source: object, **overrides: Any) -> Options:
    """
    Build an options object from the keys of the same names.

    Args:
        options (`type`): Dataclass to instantiate.
        source: Instance of a dataclass of keys. Keys that it lacks keep their defaults.
        overrides: Fields that are not read from `source`.
    """
    values = {
        declared.name: getattr(source, name)
        for name, declared in get_keys(options).items()
        if declared.name not in overrides and hasattr(source, name)
    }
    return options(**values, **overrides)


def check_values(options: object) -> None:
    """
    Check the values of a dataclass against the ranges and choices of its keys.

    Args:
        options: Instance of a dataclass of options or keys; `None` is not checked.

    Raises:
        ValueError: If a value is not allowed. The message names key, allowed values and value.
    """
    for name, declared in get_keys(type(options)).items():
        value = getattr(options, declared.name)
        if value is None:
            continue
        if "choices" in declared.metadata:
            check_choice(name, value, declared.metadata["choices"])
        elif declared.metadata.keys() & {"low", "high", "above", "below"}:
            _check_number(name, value, declared)


def check_choice(name: str, value: object, choices: Collection) -> None:
    """
    Check that a value, or each item of a list, is one of the choices; the list must not be empty.

    Args:
        name (`str`): Name of the key, for the message.
        value (`str` or `list[str]`): Value of the key.
        choices (`Collection[str]`): Allowed values.

    Raises:
        ValueError: If the value is not allowed. The message suggests the closest choice.
    """
    items = value if isinstance(value, list | tuple) else [value]
    unknown = [item for item in items if item not in choices]
    if items and not unknown:
        return
    close_matches = difflib.get_close_matches(str(unknown[0]), list(choices), 1) if unknown else []
    hint = f". Did you mean {close_matches[0]!r}?" if close_matches else ""
    quantity = "one or more of" if isinstance(value, list | tuple) else "one of"
    raise ValueError(f"`{name}` must be {quantity} {', '.join(choices)}, got {short_repr(value)}{hint}")


def _check_number(name: str, value, declared: Field) -> None:
    low, high, above, below = (declared.metadata.get(limit) for limit in ("low", "high", "above", "below"))
    is_integer = int in (declared.type, *typing.get_args(declared.type))
    is_number = isinstance(value, int if is_integer else int | float) and not isinstance(value, bool)
    if is_number and math.isfinite(value):
        in_range = (low is None or value >= low) and (high is None or value <= high)
        if in_range and (above is None or value > above) and (below is None or value < below):
            return
    noun = "an integer " if is_integer else ""
    if low is not None and high is not None:
        allowed = f"{noun}between {low:g} and {high:g}"
    elif above is not None and below is not None:
        allowed = f"{noun}above {above:g} and below {below:g}"
    elif above is not None:
        allowed = f"{noun}above {above:g}"
    else:
        allowed = f"{noun and 'an integer of '}at least {low:g}"
    raise ValueError(f"`{name}` must be {allowed}, got {short_repr(value)}")
