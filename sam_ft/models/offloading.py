"""Offloading of frozen modules whose outputs are cached; they stay on the host and are saved with the model."""

import contextlib

import torch
from transformers import PreTrainedModel


class ParkingModel(PreTrainedModel):
    """
    Base class of models with modules that can be offloaded ("parked").

    A subclass calls `prepare_parking` at the end of its constructor.

    Attributes:
        saved_as (`type`): Transformers' class that saved checkpoints name.
        cached_from (`tuple[str, ...]`): Prefixes of the weights that `encode_images`, and so a feature cache, depends
            on.
        parked_when_cached (`tuple[str, ...]`): Modules that are not called if a feature cache is used.
    """

    saved_as: type[PreTrainedModel]
    cached_from: tuple[str, ...]
    parked_when_cached: tuple[str, ...]

    def prepare_parking(self) -> None:
        """Create the empty set of offloaded modules."""
        # Modules in a plain dictionary are not registered as submodules.
        self._parked: dict[str, torch.nn.Module] = {}

    def park(self, *names: str) -> None:
        """
        Move frozen modules to the host and remove them from the model; they are still saved with it.

        Args:
            names (`str`): Names of modules, such as `vision_encoder.backbone`.
        """
        for name in names:
            self._parked[name] = self.get_submodule(name).cpu()
            parent, _, child = name.rpartition(".")
            setattr(self.get_submodule(parent), child, None)

    def refuse_if_parked(self, name: str, instead: str) -> None:
        """Raise `ValueError` if the module `name` is offloaded; `instead` is the input to pass."""
        if name in self._parked:
            raise ValueError(f"{name} is parked, because its outputs are cached. Pass {instead} in the batch")

    @contextlib.contextmanager
    def unparked(self):
        """Insert the offloaded modules into the model, on the host, within the context; yield them by name."""
        parked = dict(self._parked)
        for name, module in parked.items():
            parent, _, child = name.rpartition(".")
            setattr(self.get_submodule(parent), child, module)
        try:
            yield parked
        finally:
            self.park(*parked)

    def load_state_dict(self, state_dict, *args, **kwargs):
        """Load a state dict; weights of offloaded modules are ignored."""
        parked = tuple(f"{name}." for name in self._parked)
        return super().load_state_dict(
            {k: v for k, v in state_dict.items() if not k.startswith(parked)}, *args, **kwargs
        )

    def save_pretrained(self, save_directory, **kwargs):
        """
        Save the model, including offloaded modules, as a checkpoint of `saved_as`.

        The config's `dtype` is float32 if any parameter is: with bfloat16, `from_pretrained` would round trained
        weights.
        """
        with self.unparked() as parked:
            if kwargs.get("state_dict"):  # state dict gathered from a sharded model
                kwargs["state_dict"] |= {f"{n}.{k}": v for n, m in parked.items() for k, v in m.state_dict().items()}
            super().save_pretrained(save_directory, **kwargs)
        if kwargs.get("is_main_process", True):
            self.config.architectures = [self.saved_as.__name__]
            if any(p.dtype == torch.float32 for p in self.parameters()):
                self.config.dtype = "float32"
            self.config.save_pretrained(save_directory)
