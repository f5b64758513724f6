"""Description of a key for the parser and the help, made from a dataclass of keys."""

import dataclasses
import functools
from dataclasses import dataclass

from ..options.keys import get_default


@dataclass(frozen=True)
class KeySpec:
    """
    Description of a key.

    Attributes:
        name (`str`): Name of the key.
        annotation (`str`): Type as in source text, such as `int | None`.
        default: Default value.
        help (`str`): Text of `--help`.
        topic (`str`): Heading in `--help`.
        choices (`tuple`, *optional*): Allowed values.
    """

    name: str
    annotation: str
    default: object
    help: str
    topic: str
    choices: tuple | None = None

    @property
    def types(self) -> list[str]:
        """Alternatives of the annotation, such as `["int", "None"]`."""
        return [part.strip() for part in self.annotation.split("|")]

    @property
    def is_list(self) -> bool:
        """Return whether the value is a list; a key that also takes text is none."""
        return "str" not in self.types and any(part.startswith("list[") for part in self.types)

    @property
    def item_type(self) -> str:
        """Type of one item: `bool`, `dict`, `int`, `float` or `str`; text for types that are not known here."""
        types = [part.removeprefix("list[").rstrip("]") if self.is_list else part for part in self.types]
        if "bool" in types:
            return "bool"
        if "str" not in types and any(part.startswith("dict") for part in types):
            return "dict"
        return next((part for part in types if part in ("int", "float")), "str")

    def allows(self, kind: str) -> bool:
        """Return whether a type name, such as `None` or `dict`, is part of the annotation."""
        return kind in self.annotation


@functools.cache
def read_keys(group: type) -> dict[str, KeySpec]:
    """
    Describe the keys of a dataclass.

    Args:
        group (`type`): Dataclass of keys; fields without help are no keys.
    """
    return {
        declared.name: KeySpec(
            declared.name,
            declared.type.__name__ if isinstance(declared.type, type) else str(declared.type),
            get_default(declared),
            declared.metadata["help"],
            _topic_of(group, declared.name),
            declared.metadata.get("choices"),
        )
        for declared in dataclasses.fields(group)
        if "help" in declared.metadata
    }


def _topic_of(group: type, name: str) -> str:
    """Return the topic of the class that declares a key first."""
    return next(base.key_topic for base in reversed(group.__mro__) if name in base.__dict__.get("__annotations__", {}))
