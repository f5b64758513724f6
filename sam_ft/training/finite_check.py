"""Detection of NaN and infinity in losses, gradients and metrics of a run."""

import contextlib
import math
from collections.abc import Iterator

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from ..models.finite import NonFiniteError, NonFiniteOutputError
from ..models.parts import strip_wrappers
from ..utils.json_files import find_non_finite
from ..utils.text import list_some


_REMEDY = (
    "Training stops before the optimizer step, so the last checkpoint is not affected. Lower the learning rates, keep "
    "`max_grad_norm: 0.1`, and look at these examples"
)


class FiniteCheck:
    """
    Check of the losses and gradients of each optimizer step.

    Losses stay on the device. An optimizer step transfers one number from it, whatever the number of micro-batches. If
    that number is not 0, all processes search for the cause and raise the same error.
    """

    def __init__(self):
        self._batches: list[tuple[list[str], list[str], torch.Tensor]] = []  # (example ids, names, values)

    def add(self, labels: list[dict], loss: torch.Tensor, parts: dict[str, torch.Tensor]) -> None:
        """
        Store the losses of a micro-batch.

        Args:
            labels (`list[dict]`): Labels of the batch, each with an `example_id`.
            loss (`torch.Tensor`, scalar): Weighted loss.
            parts (`dict[str, torch.Tensor]`): Parts of the loss by name.
        """
        values = [torch.as_tensor(value, dtype=torch.float32, device=loss.device) for value in (*parts.values(), loss)]
        ids = [str(label["example_id"]) for label in labels]
        self._batches.append((ids, [*parts, "loss"], torch.stack([value.detach() for value in values])))

    def check(self, model: torch.nn.Module, accelerator: Accelerator, step: int) -> None:
        """
        Check the stored losses and the gradients before clipping; all processes must call it.

        Args:
            model (`torch.nn.Module`): Model after the last backward pass of the step.
            accelerator (`Accelerator`): Accelerator that reduces over the processes.
            step (`int`): Number of the step, counted from 1, for the error.

        Raises:
            NonFiniteError: If any value of any process is NaN or infinite. The message names step, examples, and loss
                part or parameter.
        """
        batches, self._batches = self._batches, []
        gradients = {
            strip_wrappers(name): getattr(
                parameter.grad, "_local_tensor", parameter.grad
            )  # A DTensor holds its shard there.
            for name, parameter in model.named_parameters()
            if parameter.grad is not None and parameter.grad.numel()
        }
        largest = torch._foreach_norm(list(gradients.values()), float("inf")) if gradients else []
        device = accelerator.device
        values = [values.to(device) for _, _, values in batches]
        values += [torch.stack([norm.float().to(device) for norm in largest])] if gradients else []
        if not values:
            return
        problems = torch.cat(values).isfinite().logical_not().sum().float()
        if not float(accelerator.reduce(problems, "sum")):
            return
        # A non-finite loss of one process makes the gradients of all processes non-finite, so losses come first.
        descriptions = gather_object([_describe_loss(batches)]) + gather_object(
            [_describe_gradient(batches, gradients, largest)]
        )
        raise NonFiniteError(f"step {step}: {next(filter(None, descriptions))}. {_REMEDY}")


def _describe_loss(batches) -> str | None:
    """Name the first non-finite loss part of this process."""
    for ids, names, values in batches:
        for name, value in zip(names, values.tolist(), strict=True):
            if not math.isfinite(value):
                return f"`{name}` is {value} in the batch of {_list_ids(ids)}"
    return None


def _describe_gradient(batches, gradients: dict[str, torch.Tensor], largest) -> str | None:
    """Name the first parameter of this process whose gradient is not finite."""
    norms = {name: float(norm) for name, norm in zip(gradients, largest, strict=True)}
    bad = [name for name, norm in norms.items() if not math.isfinite(norm)]
    if not bad:
        return None
    ids = _list_ids([example_id for batch_ids, _, _ in batches for example_id in batch_ids])
    return f"the gradient of `{bad[0]}` is {norms[bad[0]]} ({len(bad)} of {len(norms)} parameters), batch of {ids}"


def _list_ids(ids: list[str]) -> str:
    return list_some((repr(example_id) for example_id in ids), 8)


@contextlib.contextmanager
def add_step_to_errors(step: int, labels: list[dict]) -> Iterator[None]:
    """
    Add step and examples to a `ValueError` of the training forward, such as the matcher's about non-finite costs.

    Args:
        step (`int`): Number of the step, counted from 1.
        labels (`list[dict]`): Labels of the batch, each with an `example_id`.
    """
    try:
        yield
    except ValueError as error:
        ids = _list_ids([str(label["example_id"]) for label in labels])
        raise ValueError(f"step {step}, batch of {ids}: {error}") from error


def describe_non_finite_output(error: NonFiniteOutputError, target: str) -> str:
    """
    Describe a non-finite prediction for the user.

    Args:
        error (`NonFiniteOutputError`): Error of the model.
        target (`str`): Description of the example and its phrase or object.
    """
    return (
        f"evaluation, {target}: the prediction has NaN or infinity in `{error.tensor}`. The training diverged, or the "
        "precision is too low: use an earlier checkpoint, lower the learning rates, or evaluate in float32"
    )


def check_metrics(metrics: dict, name: str) -> None:
    """
    Check that metrics are finite before they are logged or written.

    Args:
        metrics (`dict`): Metrics by name.
        name (`str`): Name of the metrics in the error.

    Raises:
        NonFiniteError: If a metric is NaN or infinite.
    """
    metric = find_non_finite(metrics)
    if metric is not None:
        raise NonFiniteError(f"{name}: `{metric}` is not a finite number, so these metrics are not written")
