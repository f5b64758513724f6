"""YAML files of `--config`: a file of the user, or a packaged one by its name."""

import difflib
from pathlib import Path


PACKAGED_CONFIGS = Path(__file__).resolve().parents[1] / "configs"  # a link to recipes/configs in a clone


def list_packaged_configs() -> list[str]:
    """List the names of the packaged YAML files, such as `sam3_lora_24gb`."""
    return sorted(file.stem for file in PACKAGED_CONFIGS.glob("*.yaml"))


def find_config(config: str) -> str:
    """
    Find the file of `--config`.

    Args:
        config (`str`): Path of a YAML file, or the name of a packaged one, with or without `.yaml`.

    Returns:
        `str`: Path of the file.

    Raises:
        ValueError: If there is neither such a file nor such a name.
    """
    if Path(config).is_file():
        return config
    names, name = list_packaged_configs(), config.removesuffix(".yaml")
    if name in names:
        return str(PACKAGED_CONFIGS / f"{name}.yaml")
    close_matches = difflib.get_close_matches(Path(name).name, names, 1)
    hint = f" Did you mean `{close_matches[0]}`?" if close_matches else ""
    raise ValueError(
        f"`--config`: there is no file {config!r}, and no packaged config of this name.{hint} Packaged configs: "
        f"{', '.join(names)}"
    )
