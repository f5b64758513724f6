"""Untrusted weight files, from which tensors are read and nothing else."""

import json
import pickle
import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME


SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


def is_weight_file(name: str) -> bool:
    """Check whether a name has the suffix of a weight file and is no folder."""
    return Path(name).suffix in SUFFIXES and not Path(name).is_dir()


def read_weights(file: str | Path) -> dict[str, torch.Tensor]:
    """
    Read the tensors of a safetensors file, or of a PyTorch file that contains tensors only, to the host.

    From a checkpoint of the official trainer (`{"model": …, "optimizer": …}`) the model is read.

    Args:
        file (`str` or `Path`): The file.

    Returns:
        `dict[str, torch.Tensor]`: Tensors by name.

    Raises:
        `ValueError`: If the file is missing, truncated, no weight file, or contains code; names it.
    """
    file = Path(file)
    if not file.is_file():
        raise ValueError(f"there is no file {str(file)!r}. Check the path")
    content = _load_safetensors(file) if file.suffix == ".safetensors" else _load_pickle(file)
    if isinstance(content.get("model"), dict):
        content = content["model"]
    invalid = next((name for name in content if not isinstance(name, str)), None)
    if invalid is not None:
        raise ValueError(
            f"{file} is no checkpoint: its key {invalid!r} is no name. Expected a state dict, name: tensor"
        )
    weights = {name: tensor for name, tensor in content.items() if isinstance(tensor, torch.Tensor)}
    if not weights or len(weights) < len(content):
        other = next((name for name in content if name not in weights), None)
        problem = "it contains no tensor" if other is None else f"its entry {other!r} is no tensor"
        raise ValueError(
            f"{file} is no checkpoint: {problem}. Expected a state dict, name: tensor, or one under the key `model`"
        )
    return weights


def _load_safetensors(file: Path) -> dict:
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{file} is damaged or no safetensors file ({error}). Copy it again") from error


def _load_pickle(file: Path) -> dict:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if re.search(r"GLOBAL \S|Unsupported class", str(error)):
            raise ValueError(
                f"{file} contains more than tensors, which could run code when it is loaded "
                f"({_select_line(error)}). Use a safetensors file, or save the state dict alone"
            ) from error
        raise ValueError(
            f"{file} is damaged, no PyTorch file, or contains code ({_select_line(error)}). Copy it again, or use a "
            "safetensors file"
        ) from error
    except Exception as error:  # arbitrary bytes raise arbitrary errors
        raise ValueError(
            f"{file} is damaged, cut short, or no PyTorch file ({_select_line(error)}). Copy it again"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} contains a {type(content).__name__}; expected a state dict, name: tensor")
    return content


def _select_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    specific = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]
    return (specific or lines or [type(error).__name__])[0][:200]


def read_shapes(source: Path) -> dict[str, tuple[int, ...]]:
    """
    Read the names and shapes of the tensors of a file, or of a folder that `save_pretrained` wrote.

    Of safetensors files only the headers are read.

    Args:
        source (`Path`): Weight file or folder.

    Returns:
        `dict[str, tuple[int, ...]]`: Shapes by name.

    Raises:
        `ValueError`: As [`read_weights`]; if a folder contains no safetensors file.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for file in list_weight_files(source) if source.is_dir() else [source]:
        if file.suffix != ".safetensors":
            shapes |= {name: tuple(tensor.shape) for name, tensor in read_weights(file).items()}
            continue
        try:
            with safe_open(file, framework="pt") as opened:
                shapes |= {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118 (no mapping)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file} is damaged or no safetensors file ({error}). Copy it again") from error
    return shapes


def list_weight_files(folder: Path) -> list[Path]:
    """
    List the safetensors files of a saved model.

    Args:
        folder (`Path`): Its folder.

    Returns:
        `list[Path]`: The files.

    Raises:
        `ValueError`: If there is none, or a file of the index is missing.
    """
    index = folder / SAFE_WEIGHTS_INDEX_NAME
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{index} cannot be read ({error}). Copy it again") from error
        absent = [name for name in names if not (folder / name).is_file()]
        if absent:
            raise ValueError(f"{index} names {absent[0]!r}, which is missing. Copy the folder again")
        return [folder / name for name in names]
    if not (folder / SAFE_WEIGHTS_NAME).is_file():
        raise ValueError(f"the folder {str(folder)!r} contains no {SAFE_WEIGHTS_NAME}. Check the path")
    return [folder / SAFE_WEIGHTS_NAME]
