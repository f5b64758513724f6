"""Offloading of frozen modules whose outputs are cached; they stay on the host and are saved with the model."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers import PreTrainedModel


class OffloadingModel(PreTrainedModel):
    """
    Base class of models with modules that can be offloaded.

    A subclass calls `prepare_offloading` at the end of its constructor.

    Attributes:
        saved_as (`type`): Transformers' class that saved checkpoints name.
        cached_from (`tuple[str, ...]`): Prefixes of the weights that `encode_images`, and so a feature cache, depends
            on.
        offloaded_when_cached (`tuple[str, ...]`): Modules that are not called if a feature cache is used.
        configure (`Callable`): Method that changes settings of a run, which a checkpoint does not contain.
    """

    saved_as: type[PreTrainedModel]
    cached_from: tuple[str, ...]
    offloaded_when_cached: tuple[str, ...]
    configure: Callable[..., None]

    def prepare_offloading(self) -> None:
        """Create the empty set of offloaded modules."""
        # Modules in a plain dictionary are not registered as submodules.
        self._offloaded: dict[str, torch.nn.Module] = {}

    def offload(self, *names: str) -> None:
        """
        Move frozen modules to the host and remove them from the model; they are still saved with it.

        Args:
            names (`str`): Names of modules, such as `vision_encoder.backbone`.
        """
        for name in names:
            self._offloaded[name] = self.get_submodule(name).cpu()
            parent, _, child = name.rpartition(".")
            setattr(self.get_submodule(parent), child, None)

    def refuse_if_offloaded(self, name: str, instead: str) -> None:
        """Raise `ValueError` if the module `name` is offloaded; `instead` is the input to pass."""
        if name in self._offloaded:
            raise ValueError(f"{name} is offloaded, because its outputs are cached. Pass {instead} in the batch")

    @staticmethod
    def require_input(name: str, value: torch.Tensor | None) -> torch.Tensor:
        """Return an input of a batch, or raise `ValueError` if it is missing."""
        if value is None:
            raise ValueError(f"`{name}` is missing in the batch. Pass it, or its precomputed features")
        return value

    @contextlib.contextmanager
    def restore_offloaded(self) -> Iterator[dict[str, torch.nn.Module]]:
        """Insert the offloaded modules into the model, on the host, within the context; yield them by name."""
        offloaded = dict(self._offloaded)
        for name, module in offloaded.items():
            parent, _, child = name.rpartition(".")
            setattr(self.get_submodule(parent), child, module)
        try:
            yield offloaded
        finally:
            self.offload(*offloaded)

    def load_state_dict(self, state_dict, *args, **kwargs):
        """Load a state dict; weights of offloaded modules are ignored."""
        offloaded = tuple(f"{name}." for name in self._offloaded)
        return super().load_state_dict(
            {k: v for k, v in state_dict.items() if not k.startswith(offloaded)}, *args, **kwargs
        )

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> Any:  # type: ignore[override]
        """
        Save the model, including offloaded modules, as a checkpoint of `saved_as`.

        The config's `dtype` is float32 if any parameter is: with bfloat16, `from_pretrained` would round trained
        weights.
        """
        with self.restore_offloaded() as offloaded:
            if kwargs.get("state_dict"):  # state dict gathered from a sharded model
                for name, module in offloaded.items():
                    kwargs["state_dict"] |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
            super().save_pretrained(save_directory, **kwargs)
        if kwargs.get("is_main_process", True):
            self.config.architectures = [self.saved_as.__name__]
            if any(p.dtype == torch.float32 for p in self.parameters()):
                self.config.dtype = "float32"
            self.config.save_pretrained(save_directory)
