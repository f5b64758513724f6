"""Parser of a YAML file and the command line; an unknown key is an error that names the nearest one."""

import argparse
import difflib
import logging
import sys
from collections.abc import Sequence

import yaml

from ..options.training import SamTrainingKeys
from ..utils.secrets import is_secret_key, register_secret
from ..utils.yaml_files import read_yaml_mapping
from .config_files import find_config
from .help_text import format_full, format_short
from .key_specs import KeySpec, read_keys
from .run import RECIPES, RENAMED_KEYS
from .training import ParsedTraining
from .transformers_keys import read_transformers_keys


logger = logging.getLogger("sam_ft.run")

_OUTPUT_KEYS = ("predictions_dir", "target_dir", "gallery_dir", "review_dir", "output_path")
_HELP, _HELP_ALL = ("-h", "--help"), "--help-all"
_TRUE, _FALSE = ("yes", "true", "t", "y", "1"), ("no", "false", "f", "n", "0")


def parse_mapping(text: str) -> dict:
    """
    Parse a mapping from the command line.

    Args:
        text (`str`): YAML or JSON of one line, such as `{image: picture}`.

    Raises:
        argparse.ArgumentTypeError: If the text is no mapping.
    """
    value = yaml.safe_load(text)
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"expected {{key: value}}, got {text!r}")
    return value


def parse_boolean(text: str) -> bool:
    """
    Parse a boolean from the command line.

    Args:
        text (`str`): One of yes/no, true/false, t/f, y/n, 1/0, in upper or lower case.

    Raises:
        argparse.ArgumentTypeError: If the text is something else.
    """
    if text.lower() in (*_TRUE, *_FALSE):
        return text.lower() in _TRUE
    raise argparse.ArgumentTypeError(f"expected one of yes/no, true/false, t/f, y/n, 1/0, got {text!r}")


def parse_boolean_or_text(text: str) -> bool | str:
    """Parse a boolean from the command line; return any other text unchanged."""
    return text.lower() in _TRUE if text.lower() in (*_TRUE, *_FALSE) else text


_CONVERTERS = {"bool": parse_boolean, "dict": parse_mapping, "int": int, "float": float, "str": str}


class _StoreOneOrSeveral(argparse.Action):
    """Store one value as it is, and several as a list."""

    def __call__(self, parser, namespace, values, option_string=None):  # noqa: ARG002
        setattr(namespace, self.dest, values[0] if len(values) == 1 else values)


class RecipeParser(argparse.ArgumentParser):
    """
    Parser of `--config FILE` and the command line, which overrides the file.

    Args:
        groups (`tuple[type, ...]`): Dataclasses of keys; with keys of training, those of Transformers are keys too.
        ignored (`tuple[type, ...]`): Dataclasses whose keys are allowed in the YAML file without effect, so that
            recipes can share a file.
        prog (`str`, *optional*): Name of the program in the help, by default that of the process.

    Raises:
        ValueError: If a key is unknown, a value has the wrong type, a `no` is unquoted, or the file is missing or
            malformed. The message names file and key.
    """

    def __init__(self, groups: tuple[type, ...], *, ignored: tuple[type, ...] = (), prog: str | None = None):
        super().__init__(prog=prog, allow_abbrev=False, add_help=False)
        self._groups = groups
        self._specs = describe_keys(groups)
        # Transformers' keys are passed on only if they are set, so that Transformers chooses their defaults.
        self._transformers_only = frozenset(describe_transformers_keys(groups))
        self._ignored = describe_keys(ignored).keys()
        for spec in self._specs.values():
            self._add_key(spec)
        self.add_argument("--config")

    def parse(
        self, arguments: Sequence[str] | None = None, default: str | None = None, base: str | None = None
    ) -> tuple:
        """
        Parse the YAML file and the command line, or print the help and exit.

        Args:
            arguments (`Sequence[str]`, *optional*): Command line without the program; by default that of the process.
            default (`str`, *optional*): YAML file or packaged name that is used for an empty command line.
            base (`str`, *optional*): YAML file or packaged name that is used for a command line without `--config`.

        Returns:
            `tuple`: One instance of each dataclass; for keys of training a [`ParsedTraining`].
        """
        arguments = sys.argv[1:] if arguments is None else arguments
        self._print_help_and_exit(arguments)
        if not arguments and default is not None:
            logger.info("no arguments: using --config %s", default)
            arguments = ["--config", default]
        self._refuse_unknown(arguments)
        config_parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        config_parser.add_argument("--config")
        config = config_parser.parse_known_args(arguments)[0].config or base
        if config is not None:
            self._set_defaults_from_file(find_config(config))
        options = self._option_string_actions
        command_line_keys = {options[name].dest for word in arguments if (name := word.partition("=")[0]) in options}
        values = vars(self.parse_args(arguments))
        for name in filter(is_secret_key, values):
            register_secret(values[name])
        return tuple(self._build_group(group, values, command_line_keys) for group in self._groups)

    def error(self, message: str):
        """
        Raise `ValueError` instead of leaving the process, so that one handler reports all errors.

        Args:
            message (`str`): Error message of argparse.
        """
        raise ValueError(f"command line: {message}")

    def format_help(self) -> str:
        """Return the text of `--help`."""
        return format_short(self.prog, self._specs.values())

    def _add_key(self, spec: KeySpec) -> None:
        default = argparse.SUPPRESS if spec.name in self._transformers_only else spec.default
        settings = {"default": default, "type": _converter(spec), "choices": spec.choices}
        if spec.item_type == "bool":
            settings |= {"nargs": "?", "const": True}
        elif spec.is_list:
            settings["nargs"] = "+"
        elif spec.allows("list["):
            settings |= {"nargs": "+", "action": _StoreOneOrSeveral}
        self.add_argument(*_flags(spec.name), **settings)
        if spec.item_type == "bool" and spec.default is True:
            self.add_argument(*_flags(f"no_{spec.name}"), dest=spec.name, action="store_false", default=default)

    def _build_group(self, group: type, values: dict, command_line_keys: set[str]):
        group_values = {name: values[name] for name in read_keys(group)}
        if not issubclass(group, SamTrainingKeys):
            return group(**group_values)
        transformers_values = {name: values[name] for name in self._transformers_only if name in values}
        return ParsedTraining(group(**group_values), transformers_values, command_line_keys)

    def _print_help_and_exit(self, arguments: list[str]) -> None:
        if _HELP_ALL in arguments:
            text = format_full(self._specs.values())
        elif any(word in _HELP for word in arguments):
            names = [word.lstrip("-").replace("-", "_") for word in arguments if word not in _HELP]
            chosen = [self._specs[name] for name in names if name in self._specs]
            text = format_full(chosen) if chosen else self.format_help()
        else:
            return
        self._print_message(text, sys.stdout)
        self.exit()

    def _actions_by_key(self) -> dict[str, argparse.Action]:
        return {action.dest: action for action in reversed(self._actions)}

    def _refuse_unknown(self, arguments: list[str]) -> None:
        options = self._option_string_actions
        for argument in arguments:
            name = argument.split("=")[0]
            if name.startswith("--") and name not in options:
                hint = self._explain_unknown(name.lstrip("-").replace("-", "_"), "--", options)
                raise ValueError(f"Unknown argument `{name}`.{hint or ' See --help for all arguments.'}")

    def _explain_unknown(self, name: str, prefix: str, valid_names) -> str:
        """Return a sentence that names the new name of a key, the recipe that takes it, or the nearest key."""
        if name in RENAMED_KEYS:
            return f" It was renamed to `{prefix}{RENAMED_KEYS[name]}`."
        recipes = [recipe for recipe, groups in RECIPES.items() if name in describe_keys(groups)]
        if recipes:
            folders = [key for key in self._specs if key in _OUTPUT_KEYS] if name == "output_dir" else []
            instead = f" Set `{prefix}{folders[0]}`, the output folder of this command." if folders else ""
            return f" It is a key of {' and '.join(recipes)}, and this command has no such key.{instead}"
        close_matches = difflib.get_close_matches(f"{prefix}{name}", valid_names, 1)
        return f" Did you mean `{close_matches[0]}`?" if close_matches else ""

    def _set_defaults_from_file(self, file: str) -> None:
        values = read_yaml_mapping(file, "--config")
        values = {key: value for key, value in values.items() if key in self._specs or key not in self._ignored}
        actions = self._actions_by_key()
        for key, value in values.items():
            if key not in self._specs:
                hint = self._explain_unknown(str(key), "", self._specs)
                raise ValueError(f"Unknown key `{key}` in {file}.{hint}")
            values[key] = self._convert_value(actions[key], self._specs[key], value, file)
        self.set_defaults(**values)

    def _convert_value(self, action: argparse.Action, spec: KeySpec, value, file: str):
        if isinstance(value, bool) and not (spec.item_type == "bool" or spec.allows("False")):
            word = "no" if value is False else "yes"
            raise ValueError(
                f"`{spec.name}` is the YAML boolean {str(value).lower()} in {file}; YAML reads an unquoted `{word}` "
                f'as a boolean. Write `{spec.name}: "{word}"` if you mean the word'
            )
        if isinstance(value, dict) or value is None:
            type_name, value_name = ("dict", "a mapping") if isinstance(value, dict) else ("None", "null")
            if not spec.allows(type_name):
                raise ValueError(
                    f"`{spec.name}` is {value_name} in {file}, which is not allowed. Set a value or leave the key out"
                )
            return value
        if isinstance(value, list):
            if spec.is_list:
                return [self._convert_item(action, item, file) for item in value]
            if spec.allows("list"):  # `report_to` and others take one value or several.
                return value
            raise ValueError(f"`{spec.name}` is a list in {file}, expected one value: {value!r}")
        converted = self._convert_item(action, value, file)
        return [converted] if spec.is_list else converted

    def _convert_item(self, action: argparse.Action, value, file: str):
        if isinstance(value, bool):
            return value
        try:
            converted = self._get_value(action, str(value))
            self._check_value(action, converted)
        except argparse.ArgumentError as error:
            raise ValueError(f"`{action.dest}` in {file}: {error.message}") from error
        return converted


def describe_transformers_keys(groups: tuple[type, ...]) -> dict[str, KeySpec]:
    """Describe the keys of Transformers that no dataclass declares, if there are keys of training."""
    training = next((group for group in groups if issubclass(group, SamTrainingKeys)), None)
    if training is None:
        return {}
    return {name: spec for name, spec in read_transformers_keys().items() if name not in read_keys(training)}


def describe_keys(groups: tuple[type, ...]) -> dict[str, KeySpec]:
    """Describe all keys of dataclasses, those of Transformers included."""
    declared = {name: spec for group in groups for name, spec in read_keys(group).items()}
    return declared | describe_transformers_keys(groups)


def _converter(spec: KeySpec):
    return parse_boolean_or_text if spec.item_type == "bool" and "str" in spec.types else _CONVERTERS[spec.item_type]


def _flags(name: str) -> list[str]:
    """Return the option with underscores and, as Transformers' parser accepts it, with dashes."""
    return list(dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"]))
