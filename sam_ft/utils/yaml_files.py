"""Strict YAML: duplicate keys and aliases that expand without bound are errors."""

from pathlib import Path

import yaml

from .text import short_repr


MAX_NODES = 1_000_000  # values, keys included, after aliases are expanded


class _StrictLoader(yaml.SafeLoader):
    def construct_mapping(self, node, deep=False):
        merged = "tag:yaml.org,2002:merge"  # `<<: *other`
        seen = set()
        for key in (self.construct_object(key, deep=True) for key, _ in node.value if key.tag != merged):
            if key in seen:
                raise yaml.YAMLError(f"the key {short_repr(key)} occurs twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str):
    """
    Parse one YAML document strictly.

    Args:
        text (`str`): The YAML text.

    Returns:
        Plain values; `None` for an empty document.

    Raises:
        `yaml.YAMLError`: If the text is no YAML, a key occurs twice, or it has more than `MAX_NODES` values after its
            aliases (`*name`) are expanded.
        `RecursionError`: If the text is nested too deeply.
    """
    loader = _StrictLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _expanded_size(node, {}, set()) > MAX_NODES:
            raise yaml.YAMLError(
                f"it contains more than {MAX_NODES} values after its aliases (`*name`) are expanded; "
                "write it without aliases"
            )
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _expanded_size(node, sizes: dict[int, int], parents: set[int]) -> int:
    """
    Count the nodes of a tree whose aliases point to shared nodes.

    Args:
        node (`yaml.Node`): The root.
        sizes (`dict[int, int]`): Results of nodes that were counted, by their `id`.
        parents (`set[int]`): The `id` of each node that contains this one.
    """
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) in parents:
        raise yaml.YAMLError("an alias (`*name`) refers to a value that contains it; write it without aliases")
    if id(node) not in sizes:
        parents.add(id(node))
        children = (
            node.value if isinstance(node, yaml.SequenceNode) else (part for pair in node.value for part in pair)
        )
        sizes[id(node)] = 1 + sum(_expanded_size(child, sizes, parents) for child in children)
        parents.remove(id(node))
    return sizes[id(node)]


def read_yaml_mapping(file: str, argument: str) -> dict:
    """
    Read a file of `key: value` lines.

    Args:
        file (`str`): The file.
        argument (`str`): The argument that names the file, for errors.

    Returns:
        `dict`: The values; empty for an empty file.

    Raises:
        `ValueError`: If the file is missing, no UTF-8 text, no YAML or no mapping, has a duplicate key, or has more
            than `MAX_NODES` values after its aliases are expanded; names argument and file.
    """
    try:
        values = parse_yaml(Path(file).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(f"`{argument}`: there is no file {file!r} ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"`{argument}`: {file} is not UTF-8 text; save it as UTF-8") from error
    except RecursionError as error:
        raise ValueError(f"`{argument}`: {file} is nested too deeply; write it with fewer levels") from error
    except (yaml.YAMLError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise ValueError(f"`{argument}`: {file} is not YAML: {error}") from error
    if values is not None and not isinstance(values, dict):
        raise ValueError(f"`{argument}`: {file} contains a {type(values).__name__}; expected lines `key: value`")
    return values or {}
