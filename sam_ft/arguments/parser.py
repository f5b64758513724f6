"""One YAML file and the command line on top of it; typos are refused with the nearest name."""

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
    """A mapping as YAML or JSON writes it in one line, `{image: picture}`."""
    value = yaml.safe_load(text)
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"expected {{key: value}}, found {text!r}")
    return value


class RecipeParser(HfArgumentParser):
    """
    Reads `--config FILE` and then the command line, which wins.

    Args:
        dataclass_types: the dataclasses whose fields are the keys.
        ignored: dataclasses whose keys may stand in the YAML file too and mean nothing here, so that one file serves several
            recipes.

    Raises:
        `ValueError`: on an unknown key (names the nearest), a value of the wrong type, an unquoted `no`, a missing or
            malformed file; always with the file and key.
    """

    def __init__(self, dataclass_types, *, ignored=(), **kwargs):
        super().__init__(dataclass_types, allow_abbrev=False, **kwargs)
        kinds = dataclass_types if isinstance(dataclass_types, tuple | list) else [dataclass_types]
        # from the classes: HfArgumentParser takes `None` out of the fields' own types
        classes = [base for kind in kinds for base in reversed(kind.__mro__)]
        self._annotations = {k: str(t) for c in classes for k, t in vars(c).get("__annotations__", {}).items()}
        self._ignored = {f.name for kind in ignored for f in dataclasses.fields(kind)}
        for action in self._actions:
            action.type = mapping if action.type is dict else action.type
        self.add_argument("--config", help="YAML file whose keys are these arguments.")

    def parse(self, arguments: list[str] | None = None, default: Path | None = None) -> tuple:
        """
        Args:
            arguments (`list[str]`, *optional*): the command line without the program; `sys.argv` where not given.
            default (`Path`, *optional*): YAML file that stands for an empty command line.

        Returns:
            `tuple`: an instance of each dataclass.
        """
        arguments = sys.argv[1:] if arguments is None else arguments
        if not arguments and default is not None:
            logger.info("no arguments: running %s", default)
            arguments = ["--config", str(default)]
        self._refuse_typos(arguments)
        first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        first.add_argument("--config")
        config = first.parse_known_args(arguments)[0].config
        if config is not None:
            self._take_defaults(config)
        self.given = {
            action.dest for word in arguments if (action := self._option_string_actions.get(word.partition("=")[0]))
        }
        *instances, _ = self.parse_args_into_dataclasses(arguments)
        for instance in instances:
            for key in filter(is_secret_key, (field.name for field in dataclasses.fields(instance))):
                register_secret(getattr(instance, key))
        return tuple(instances)

    def error(self, message: str):
        """A command line that argparse refuses becomes a `ValueError`, so that one place reports all of them."""
        raise ValueError(f"command line: {message}")

    def _options(self) -> dict[str, argparse.Action]:
        return {action.dest: action for action in self._actions if action.dest != "help"}

    def _refuse_typos(self, arguments: list[str]):
        known = self._option_string_actions
        for argument in arguments:
            name = argument.split("=")[0]
            if name.startswith("--") and name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f" Did you mean `{near[0]}`?" if near else " See --help for all of them."
                raise ValueError(f"Unknown argument `{name}`.{hint}")

    def _take_defaults(self, file: str):
        if not Path(file).is_file():
            near = sorted(str(p) for p in Path("recipes/configs").glob("*.yaml"))
            raise ValueError(
                f"`--config`: there is no file {file!r}. Shipped: {', '.join(near) or 'recipes/configs/'}"
            )
        values = read_yaml_mapping(file, "--config")
        options = self._options()
        values = {key: value for key, value in values.items() if key in options or key not in self._ignored}
        for key, value in values.items():
            if key not in options or key == "config":
                near = difflib.get_close_matches(str(key), options, 1)
                hint = f" Did you mean `{near[0]}`?" if near else ""
                raise ValueError(f"Unknown key `{key}` in {file}.{hint}")
            values[key] = self._typed(options[key], key, value, file)
            options[key].required = False
        self.set_defaults(**values)

    def _typed(self, action: argparse.Action, key: str, value, file: str):
        takes_bool = action.const is True or action.nargs == "?" or isinstance(action.default, bool)
        if isinstance(value, bool) and not takes_bool:
            word = "no" if value is False else "yes"
            raise ValueError(
                f"`{key}` is the YAML boolean {str(value).lower()} in {file}; an unquoted `{word}` or `off` means that. "
                f'Write `{key}: "{word}"` if you meant the word'
            )
        if isinstance(value, dict) or value is None:
            kind, found = ("dict", "a mapping") if isinstance(value, dict) else ("None", "null")
            if kind not in self._annotations.get(key, kind):
                raise ValueError(
                    f"`{key}` is {found} in {file}, which it does not take; give a value or leave the key out"
                )
            return value
        if isinstance(value, list):
            if action.nargs not in ("+", "*"):
                if "list" in self._annotations.get(key, ""):  # one value or several, such as `report_to`
                    return value
                raise ValueError(f"`{key}` is a list in {file}, expected one value: {value!r}")
            return [self._one(action, key, item, file) for item in value]
        typed = self._one(action, key, value, file)
        return [typed] if action.nargs in ("+", "*") else typed

    def _one(self, action: argparse.Action, key: str, value, file: str):
        if isinstance(value, bool):
            return value
        try:
            typed = self._get_value(action, str(value))
            self._check_value(action, typed)
        except argparse.ArgumentError as error:
            raise ValueError(f"`{key}` in {file}: {error.message}") from error
        return typed
