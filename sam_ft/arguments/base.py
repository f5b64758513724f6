"""Base of the dataclasses of keys, and a decorator that declares the keys of options in them."""

from dataclasses import dataclass
from typing import ClassVar

from ..options.keys import check_values, get_keys, key_of


@dataclass
class Keys:
    """
    Base class of the dataclasses of keys.

    Attributes:
        key_topic (`str`): Heading of the keys in `--help`; the class that declares a key first sets it.
    """

    key_topic: ClassVar[str]

    def __post_init__(self) -> None:
        check_values(self)


def with_keys_of(*options: type, leave_out: tuple[str, ...] = ()):
    """
    Make a class decorator that declares the keys of options in a dataclass of keys.

    Args:
        options (`type`): Dataclasses of options; keys that the class itself declares come first and are
            not replaced.
        leave_out (`tuple[str, ...]`): Keys that are not declared.
    """

    def decorate(cls: type) -> type:
        declared_here = cls.__dict__.get("__annotations__", {})
        annotations = {}
        for source in options:
            for name, declared in get_keys(source).items():
                if name not in declared_here and name not in leave_out:
                    annotations[name] = declared.type
                    setattr(cls, name, key_of(source, name))
        cls.__annotations__ = declared_here | annotations
        return dataclass(cls)

    return decorate
