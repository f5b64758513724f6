"""Frozen modules that a run no longer asks: out of the model and off its device, and still saved with it."""

import contextlib

import torch
from transformers import PreTrainedModel


class ParkingModel(PreTrainedModel):
    """
    A model that parks modules; its class calls `prepare_parking` once it is built.

    Attributes:
        saved_as (`type`): Transformers' class, which its checkpoints name.
        cached_from (`tuple[str, ...]`): how the names of the weights begin that `encode_images` depends on, which a feature cache stores.
        parked_when_cached (`tuple[str, ...]`): the modules that nobody asks any more where it does.
    """

    saved_as: type[PreTrainedModel]
    cached_from: tuple[str, ...]
    parked_when_cached: tuple[str, ...]

    def prepare_parking(self) -> None:
        self._parked: dict[str, torch.nn.Module] = {}  # by name; in a dictionary, so that they are no submodules

    def park(self, *names: str) -> None:
        """
        Takes frozen modules whose answers are known out of the model, such as `vision_encoder.backbone`: they no longer go to
        its device, and are still saved with it.
        """
        for name in names:
            self._parked[name] = self.get_submodule(name).cpu()
            owner, _, child = name.rpartition(".")
            setattr(self.get_submodule(owner), child, None)

    def refuse_if_parked(self, name: str, instead: str) -> None:
        if name in self._parked:
            raise ValueError(f"{name} is parked: its answers are read from a cache. Give the batch's {instead}")

    @contextlib.contextmanager
    def unparked(self):
        """Parked modules back in their places, on the host, as long as the context lasts: for what must see the whole model."""
        parked = dict(self._parked)
        for name, module in parked.items():
            owner, _, child = name.rpartition(".")
            setattr(self.get_submodule(owner), child, module)
        try:
            yield parked
        finally:
            self.park(*parked)

    def load_state_dict(self, state_dict, *args, **kwargs):
        """As in `torch.nn.Module`; parked modules stay as they are."""
        parked = tuple(f"{name}." for name in self._parked)
        return super().load_state_dict(
            {k: v for k, v in state_dict.items() if not k.startswith(parked)}, *args, **kwargs
        )

    def save_pretrained(self, save_directory, **kwargs):
        """
        Saves under the name of `saved_as`, so that a reader without this package loads it, and as float32 where any part is: a
        checkpoint that says bfloat16 would round the trained parts of every reader.
        """
        with self.unparked() as parked:
            if kwargs.get("state_dict"):  # gathered from the processes of a sharded model
                kwargs["state_dict"] |= {f"{n}.{k}": v for n, m in parked.items() for k, v in m.state_dict().items()}
            super().save_pretrained(save_directory, **kwargs)
        if kwargs.get("is_main_process", True):
            self.config.architectures = [self.saved_as.__name__]
            if any(p.dtype == torch.float32 for p in self.parameters()):
                self.config.dtype = "float32"
            self.config.save_pretrained(save_directory)
