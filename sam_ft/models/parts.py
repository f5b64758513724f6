"""Named parts of a model for freezing, adapters and learning rates."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class ModelParts:
    """
    Parts of a model, defined by prefixes of parameter names.

    Attributes:
        prefixes (`dict[str, tuple[str, ...]]`): Part -> prefixes of its parameters. Each parameter belongs to one
            part.
        groups (`dict[str, tuple[str, ...]]`): Group -> parts.
        unused (`tuple[str, ...]`): Prefixes of parameters that no output depends on.
        masks (`tuple[str, ...]`): Parts that only masks depend on.
    """

    prefixes: dict[str, tuple[str, ...]]
    groups: dict[str, tuple[str, ...]]
    unused: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()

    def expand_groups(self, names: list[str]) -> list[str]:
        """
        Replace groups by their parts.

        Args:
            names (`list[str]`): Names of parts and groups.

        Returns:
            `list[str]`: Keys of `prefixes`.

        Raises:
            `ValueError`: If a name is neither a part nor a group.
        """
        unknown = [name for name in names if name not in (*self.prefixes, *self.groups)]
        if unknown:
            raise ValueError(
                f"`freeze` has no part {unknown[0]!r}. Choose from: {', '.join((*self.groups, *self.prefixes))}."
            )
        return [part for name in names for part in self.groups.get(name, (name,))]

    def get_prefixes(self, names: list[str]) -> tuple[str, ...]:
        """
        Return the prefixes of the parameters of parts and groups.

        Args:
            names (`list[str]`): Names of parts and groups.

        Raises:
            `ValueError`: If a name is neither a part nor a group.
        """
        return sum((self.prefixes[part] for part in self.expand_groups(names)), ())

    def get_frozen_prefixes(self, names: list[str], *, with_masks: bool = True) -> tuple[str, ...]:
        """
        Return the prefixes of the parameters to freeze.

        Args:
            names (`list[str]`): Names of frozen parts and groups.
            with_masks (`bool`): Whether masks are trained; if not, the parts of `masks` are included.

        Returns:
            `tuple[str, ...]`: Prefixes of these parts and of `unused`.

        Raises:
            `ValueError`: If a name is neither a part nor a group.
        """
        return self.unused + self.get_prefixes([*names, *([] if with_masks else self.masks)])


@dataclass(frozen=True)
class LearningRateGroups:
    """
    Parameters with a learning rate of their own, and the layers of the vision trunk.

    Attributes:
        parts (`dict[str, list[str]]`): Learning rate -> parts. All other parts have the rate `transformer`.
        layer (`str`): Regex of a parameter of a layer in the vision trunk; its first group is the layer's number.
        without_decay (`str`): Substring of parameters of the vision trunk without layer-wise decay.
        trunk (`str`): Prefix of the vision trunk.
    """

    parts: dict[str, list[str]]
    layer: str
    without_decay: str
    trunk: str = "vision_encoder.backbone."


def strip_wrappers(name: str) -> str:
    """Remove the wrappers of PEFT and DistributedDataParallel from a parameter's name."""
    name = re.sub(r"^(module\.|base_model\.model\.)+", "", name)
    return re.sub(r"\.(base_layer|original_module|modules_to_save\.\w+)(?=\.)", "", name)
