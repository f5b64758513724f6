"""Files of weights that nobody vouches for: read as tensors and nothing else."""

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
    """Whether a name is meant as a file of weights, not as a folder or Hub id."""
    return Path(name).suffix in SUFFIXES and not Path(name).is_dir()


def read_weights(file: str | Path) -> dict[str, torch.Tensor]:
    """
    The tensors of a safetensors file, or of a PyTorch file without anything else in it, on the host.

    A training checkpoint of the official trainer (`{"model": …, "optimizer": …}`) gives its model.

    Raises:
        `ValueError`: naming the file, where it is not there, ends early, is no such file, or holds code.
    """
    file = Path(file)
    if not file.is_file():
        raise ValueError(f"there is no file {str(file)!r}")
    content = _safetensors(file) if file.suffix == ".safetensors" else _pickled(file)
    if isinstance(content.get("model"), dict):
        content = content["model"]
    odd = next((name for name in content if not isinstance(name, str)), None)
    if odd is not None:
        raise ValueError(f"{file} is no checkpoint: {odd!r} in it is no name. Expected a state dict, name: tensor")
    weights = {name: tensor for name, tensor in content.items() if isinstance(tensor, torch.Tensor)}
    if not weights or len(weights) < len(content):
        stray = next((name for name in content if name not in weights), None)
        raise ValueError(
            f"{file} is no checkpoint: {'it holds no tensor' if stray is None else f'{stray!r} in it is no tensor'}. Expected a "
            "state dict, name: tensor, or one under the key `model`"
        )
    return weights


def _safetensors(file: Path) -> dict:
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{file} is damaged or no safetensors file ({error}). Copy it again") from error


def _pickled(file: Path) -> dict:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if re.search(r"GLOBAL \S|Unsupported class", str(error)):
            raise ValueError(
                f"{file} holds more than tensors, which could run code when it is read: refused. Ask for safetensors, or let "
                f"whoever made it save the state dict alone ({_first_line(error)})"
            ) from error
        raise ValueError(
            f"{file} is damaged, no PyTorch file, or holds code: refused ({_first_line(error)}). Copy it again, or ask for safetensors"
        ) from error
    except Exception as error:  # of a reader that meets bytes of any kind
        raise ValueError(
            f"{file} is damaged, cut short, or no PyTorch file ({_first_line(error)}). Copy it again"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}; expected a state dict, name: tensor")
    return content


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]
    return (told or lines or [type(error).__name__])[0][:200]


def read_shapes(source: Path) -> dict[str, tuple[int, ...]]:
    """
    Names and shapes of the tensors of a file, or of a folder that `save_pretrained` wrote; safetensors are not read whole.

    Raises:
        `ValueError`: as [`read_weights`]; where a folder has no safetensors.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for file in weight_files(source) if source.is_dir() else [source]:
        if file.suffix != ".safetensors":
            shapes |= {name: tuple(tensor.shape) for name, tensor in read_weights(file).items()}
            continue
        try:
            with safe_open(file, framework="pt") as opened:
                shapes |= {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file} is damaged or no safetensors file ({error}). Copy it again") from error
    return shapes


def weight_files(folder: Path) -> list[Path]:
    """
    The safetensors of a saved model.

    Raises:
        `ValueError`: where there are none, or its index names one that is missing.
    """
    index = folder / SAFE_WEIGHTS_INDEX_NAME
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{index} cannot be read ({error}). Copy it again") from error
        absent = [name for name in names if not (folder / name).is_file()]
        if absent:
            raise ValueError(f"{index} names {absent[0]!r}, which is not there. Copy the folder again")
        return [folder / name for name in names]
    if not (folder / SAFE_WEIGHTS_NAME).is_file():
        raise ValueError(f"the folder {str(folder)!r} holds no {SAFE_WEIGHTS_NAME}")
    return [folder / SAFE_WEIGHTS_NAME]
