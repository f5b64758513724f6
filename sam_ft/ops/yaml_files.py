"""YAML files that a person wrote: read strictly, so that a slip is an error and not another setting."""

from pathlib import Path

import yaml


class _StrictLoader(yaml.SafeLoader):
    def construct_mapping(self, node, deep=False):
        merged = "tag:yaml.org,2002:merge"  # `<<: *other`
        seen = set()
        for key in (self.construct_object(key, deep=True) for key, _ in node.value if key.tag != merged):
            if key in seen:
                raise yaml.YAMLError(f"the key {key!r} stands twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml_mapping(file: str, argument: str) -> dict:
    """
    Reads a file of `key: value` lines.

    Args:
        file (`str`): its path. argument (`str`): the argument that named it, for messages.

    Raises:
        `ValueError`: naming argument and file, where it is missing, no text, no YAML, no mapping, or has a key twice.
    """
    try:
        values = yaml.load(Path(file).read_text(encoding="utf-8-sig"), _StrictLoader)
    except OSError as error:
        raise ValueError(f"`{argument}`: there is no file {file!r} ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"`{argument}`: {file} is not UTF-8 text; save it as UTF-8") from error
    except (yaml.YAMLError, TypeError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(f"`{argument}`: {file} is not YAML: {error}") from error
    if values is not None and not isinstance(values, dict):
        raise ValueError(f"`{argument}`: {file} holds a {type(values).__name__}; expected lines `key: value`")
    return values or {}
