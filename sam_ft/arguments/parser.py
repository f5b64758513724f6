"""Parser of a YAML file and the command line; an unknown key is an error that names the nearest one."""

import argparse
import dataclasses
import difflib
import logging
import sys
from pathlib import Path

import yaml
from transformers import HfArgumentParser

from ..utils.secrets import is_secret_key, register_secret
from ..utils.yaml_files import read_yaml_mapping


logger = logging.getLogger("sam_ft.run")


def mapping(text: str) -> dict:
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


class RecipeParser(HfArgumentParser):
    """
    Parser of `--config FILE` and the command line, which overrides the file.

    Args:
        dataclass_types: Dataclasses whose fields are the keys.
        ignored: Dataclasses whose keys are allowed in the YAML file without effect, so that recipes can share a file.

    Raises:
        ValueError: If a key is unknown, a value has the wrong type, a `no` is unquoted, or the file is missing or
            malformed. The message names file and key.
    """

    def __init__(self, dataclass_types, *, ignored=(), **kwargs):
        super().__init__(dataclass_types, allow_abbrev=False, **kwargs)
        groups = dataclass_types if isinstance(dataclass_types, tuple | list) else [dataclass_types]
        # HfArgumentParser removes `None` from the types of the fields, so the types are read from the classes.
        classes = [base for group in groups for base in reversed(group.__mro__)]
        self._annotations = {
            key: str(annotation)
            for annotated in classes
            for key, annotation in vars(annotated).get("__annotations__", {}).items()
        }
        self._ignored = {field.name for group in ignored for field in dataclasses.fields(group)}
        for action in self._actions:
            action.type = mapping if action.type is dict else action.type
        self.add_argument("--config", help="YAML file that sets any of these keys; the command line overrides it.")

    def parse(self, arguments: list[str] | None = None, default: Path | None = None) -> tuple:
        """
        Parse the YAML file and the command line.

        Args:
            arguments (`list[str]`, *optional*): Command line without the program; by default that of the process.
            default (`Path`, *optional*): YAML file that is used for an empty command line.

        Returns:
            `tuple`: One instance of each dataclass.
        """
        arguments = sys.argv[1:] if arguments is None else arguments
        if not arguments and default is not None:
            logger.info("no arguments: using --config %s", default)
            arguments = ["--config", str(default)]
        self._refuse_typos(arguments)
        config_parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        config_parser.add_argument("--config")
        config = config_parser.parse_known_args(arguments)[0].config
        if config is not None:
            self._set_defaults_from_file(config)
        self.given = {
            action.dest for word in arguments if (action := self._option_string_actions.get(word.partition("=")[0]))
        }
        *instances, _ = self.parse_args_into_dataclasses(arguments)
        for instance in instances:
            for key in filter(is_secret_key, (field.name for field in dataclasses.fields(instance))):
                register_secret(getattr(instance, key))
        return tuple(instances)

    def error(self, message: str):
        """
        Raise `ValueError` instead of leaving the process, so that one handler reports all errors.

        Args:
            message (`str`): Error message of argparse.
        """
        raise ValueError(f"command line: {message}")

    def _options(self) -> dict[str, argparse.Action]:
        return {action.dest: action for action in self._actions if action.dest != "help"}

    def _refuse_typos(self, arguments: list[str]):
        options = self._option_string_actions
        for argument in arguments:
            name = argument.split("=")[0]
            if name.startswith("--") and name not in options:
                close_matches = difflib.get_close_matches(name, options, 1)
                hint = f" Did you mean `{close_matches[0]}`?" if close_matches else " See --help for all arguments."
                raise ValueError(f"Unknown argument `{name}`.{hint}")

    def _set_defaults_from_file(self, file: str):
        if not Path(file).is_file():
            shipped = sorted(str(path) for path in Path("recipes/configs").glob("*.yaml"))
            raise ValueError(
                f"`--config`: there is no file {file!r}. Available recipes: {', '.join(shipped) or 'recipes/configs/'}"
            )
        values = read_yaml_mapping(file, "--config")
        options = self._options()
        values = {key: value for key, value in values.items() if key in options or key not in self._ignored}
        for key, value in values.items():
            if key not in options or key == "config":
                close_matches = difflib.get_close_matches(str(key), options, 1)
                hint = f" Did you mean `{close_matches[0]}`?" if close_matches else ""
                raise ValueError(f"Unknown key `{key}` in {file}.{hint}")
            values[key] = self._convert_value(options[key], key, value, file)
            options[key].required = False
        self.set_defaults(**values)

    def _convert_value(self, action: argparse.Action, key: str, value, file: str):
        takes_bool = action.const is True or action.nargs == "?" or isinstance(action.default, bool)
        if isinstance(value, bool) and not takes_bool:
            word = "no" if value is False else "yes"
            raise ValueError(
                f"`{key}` is the YAML boolean {str(value).lower()} in {file}; YAML reads an unquoted `{word}` as a "
                f'boolean. Write `{key}: "{word}"` if you mean the word'
            )
        if isinstance(value, dict) or value is None:
            type_name, value_name = ("dict", "a mapping") if isinstance(value, dict) else ("None", "null")
            if type_name not in self._annotations.get(key, type_name):
                raise ValueError(
                    f"`{key}` is {value_name} in {file}, which is not allowed. Set a value or leave the key out"
                )
            return value
        if isinstance(value, list):
            if action.nargs not in ("+", "*"):
                if "list" in self._annotations.get(key, ""):  # `report_to` and others take one value or several.
                    return value
                raise ValueError(f"`{key}` is a list in {file}, expected one value: {value!r}")
            return [self._convert_item(action, key, item, file) for item in value]
        converted = self._convert_item(action, key, value, file)
        return [converted] if action.nargs in ("+", "*") else converted

    def _convert_item(self, action: argparse.Action, key: str, value, file: str):
        if isinstance(value, bool):
            return value
        try:
            converted = self._get_value(action, str(value))
            self._check_value(action, converted)
        except argparse.ArgumentError as error:
            raise ValueError(f"`{key}` in {file}: {error.message}") from error
        return converted
