"""Detection of NaN and infinity in weights and predictions, and the errors for them."""

from collections.abc import Iterable, Iterator

import torch


class NonFiniteError(ValueError):
    """A weight, loss, gradient, prediction or metric is NaN or infinite."""


class NonFiniteOutputError(NonFiniteError):
    """
    A prediction contains NaN or infinity.

    Attributes:
        tensor (`str`): Name of the tensor, such as `scores`.
        index (`int`): Index in the batch of the (image, phrase) pair, or of the object.
    """

    def __init__(self, tensor: str, index: int):
        super().__init__(f"the prediction of entry {index} of the batch has NaN or infinity in `{tensor}`")
        self.tensor, self.index = tensor, index


def check_output(tensor: torch.Tensor | None, name: str, index: int) -> None:
    """
    Check one prediction for NaN and infinity. Reads one number from the device.

    Args:
        tensor (`torch.Tensor` or `None`): The prediction.
        name (`str`): Name of the tensor, for the error.
        index (`int`): Index in the batch, for the error.

    Raises:
        `NonFiniteOutputError`: If it contains NaN or infinity.
    """
    if tensor is not None and tensor.numel() and not bool(tensor.isfinite().all()):
        raise NonFiniteOutputError(name, index)


def find_non_finite_tensor(tensors: Iterable[tuple[str, torch.Tensor]]) -> str | None:
    """
    Find the first tensor that contains NaN or infinity.

    Each tensor is read once, without a copy, and the device is read once.

    Args:
        tensors (`Iterable[tuple[str, torch.Tensor]]`): Name and tensor.

    Returns:
        `str` or `None`: Its name.
    """
    names, flags = [], []
    for name, tensor in tensors:
        if tensor.is_floating_point() and not tensor.is_meta and tensor.numel():
            names.append(name)
            flags.append(torch.stack(tensor.detach().aminmax()).isfinite().all())  # NaN if any value is NaN
    if not flags:
        return None
    finite = torch.stack([flag.to(flags[0].device) for flag in flags]).tolist()
    return None if all(finite) else names[finite.index(False)]


def check_weights(model: torch.nn.Module, source: str) -> None:
    """
    Check parameters, buffers and the scales of 4-bit parameters for NaN and infinity.

    Args:
        model (`torch.nn.Module`): A loaded model.
        source (`str`): Its name or path, for the error.

    Raises:
        `NonFiniteError`: If a tensor contains NaN or infinity; names it.
    """
    refuse_weight(find_non_finite_tensor(_tensors_of(model)), source)


def refuse_weight(name: str | None, source: str) -> None:
    """Raise `NonFiniteError` for the tensor `name` of the model or adapter `source`, unless `name` is `None`."""
    if name is not None:
        raise NonFiniteError(
            f"`model_name_or_path`: the tensor `{name}` of {source!r} contains NaN or infinity. The training that "
            "wrote it diverged, or the file is damaged. Use an earlier checkpoint, or copy the file again"
        )


def _tensors_of(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield names and tensors of parameters, scales of 4-bit parameters, and buffers."""
    for name, tensor in model.named_parameters():
        yield name, tensor
        state = getattr(tensor, "quant_state", None)  # bitsandbytes: NaN in a weight makes the scale of its block NaN
        for scales in (state, getattr(state, "state2", None)):
            for scale in (getattr(scales, "absmax", None), getattr(scales, "offset", None)):
                if isinstance(scale, torch.Tensor):
                    yield name, scale
    yield from model.named_buffers()
