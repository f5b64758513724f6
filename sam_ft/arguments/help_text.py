"""Text of `--help`, `--help KEY` and `--help-all`."""

import textwrap
from collections.abc import Iterable

from .key_specs import KeySpec
from .transformers_keys import CHOSEN_BY_TRANSFORMERS, TRANSFORMERS


WIDTH = 119
_COLUMN = 38  # characters of the key and its default
_MIN_DEFAULT = 8  # characters of the default behind a long key
_MAX_CHOICES = 60  # characters of the choices in a line
_MIN_CUT = 40  # characters of a text that is cut at the end of a clause
TOPICS = (
    "Model",
    "Data",
    "Synthetic scenes",
    "Prompts and augmentation",
    "Loss",
    "Training",
    "Evaluation",
    "Hub",
)


def format_short(program: str, specs: Iterable[KeySpec]) -> str:
    """
    Format one line for each key, by topic, without the rarely used keys of Transformers.

    Args:
        program (`str`): Name of the program.
        specs (`Iterable[KeySpec]`): Keys of the command.
    """
    members = _by_topic(specs)
    others = ", and the other keys of Transformers' TrainingArguments" if members.pop(TRANSFORMERS, None) else ""
    usage = [
        f"usage: {program} [--config FILE] [--KEY VALUE ...]",
        "",
        "  --config FILE     YAML file, or name of a packaged one, that sets keys; the command line overrides it",
        "  --help KEY ...    full description of keys",
        f"  --help-all        full description of all keys{others}",
    ]
    topics = ["\n".join([f"{topic}:", *map(_format_line, keys)]) for topic, keys in members.items()]
    return "\n\n".join(["\n".join(usage), *topics]) + "\n"


def format_full(specs: Iterable[KeySpec]) -> str:
    """
    Format the full description of keys, by topic.

    Args:
        specs (`Iterable[KeySpec]`): Keys to describe.
    """
    topics = [f"{topic}:\n" + "\n".join(map(_format_entry, keys)) for topic, keys in _by_topic(specs).items()]
    return "\n\n".join(topics) + "\n"


def _by_topic(specs: Iterable[KeySpec]) -> dict[str, list[KeySpec]]:
    members: dict[str, list[KeySpec]] = {}
    for spec in specs:
        members.setdefault(spec.topic, []).append(spec)
    others = [topic for topic in members if topic not in TOPICS and topic != TRANSFORMERS]
    # The keys of the command itself come first.
    return {topic: members[topic] for topic in (*others, *TOPICS, TRANSFORMERS) if topic in members}


def _format_line(spec: KeySpec) -> str:
    default = textwrap.shorten(
        _format_default(spec), max(_COLUMN - len(spec.name) - 3, _MIN_DEFAULT), placeholder=" …"
    )
    start = f"  {f'--{spec.name} {default}':<{_COLUMN}}  "
    sentence = spec.help.split(". ")[0].rstrip(".")
    choices = f" [{', '.join(spec.choices or ())}]"
    if all(choice in sentence for choice in spec.choices or ()) or len(choices) > _MAX_CHOICES:
        choices = ""
    return start + _cut(sentence, WIDTH - len(start) - len(choices)) + choices


def _cut(text: str, width: int) -> str:
    """Cut a text at the end of a clause, or of a word, and mark the cut."""
    if len(text) <= width:
        return text
    end = max(text.rfind(mark, _MIN_CUT, width - 1) for mark in ("; ", ": ", ", ", " ("))
    return f"{text[:end]} …" if end > 0 else textwrap.shorten(text, width, placeholder=" …")


def _format_entry(spec: KeySpec) -> str:
    sentences, choices = [spec.help], list(map(str, spec.choices or ()))
    is_described = ", ".join(choices) in spec.help or all(f"{choice}: " in spec.help for choice in choices)
    if not is_described:
        sentences.append(f"{'Any' if spec.is_list else 'One'} of {', '.join(choices)}.")
    if "Default:" not in spec.help:
        sentences.append(f"Default: {_format_default(spec) or 'none'}.")
    indent = " " * 6
    # Names such as sam-ft/tiny are not broken, so that they can be copied.
    text = textwrap.fill(
        " ".join(sentences), WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
    return f"  --{spec.name}\n{text}"


def _format_default(spec: KeySpec) -> str:
    if spec.default in (None, [], {}, CHOSEN_BY_TRANSFORMERS):
        return ""
    if isinstance(spec.default, list):
        return " ".join(map(str, spec.default))
    return str(spec.default).lower() if isinstance(spec.default, bool) else str(spec.default)
