"""LoRA adapters by PEFT: target layers, saving, loading and merging."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MethodType
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import CONFIG_NAME
from transformers import PreTrainedModel

from ..options.model import LoraOptions
from ..utils.files import write_atomically
from ..utils.json_files import write_json
from ..utils.regex import matches_within
from .base_fingerprint import (
    BASE_FINGERPRINT,
    BASE_FOLDER,
    check_base_fingerprint,
    compute_base_fingerprint,
    read_base_fingerprint,
    write_base_fingerprint,
)
from .families import get_family_of_model
from .freezing import freeze
from .lora_targets import find_modules_to_save, find_targets
from .offloading import OffloadingModel
from .parts import strip_wrappers


class AdaptedSam(PeftModel):
    """
    [`Sam3ForConceptSegmentation`] or [`Sam2ForPromptSegmentation`] with adapters.

    A saved adapter names Transformers' class, so `Sam3Model.from_pretrained(folder)` or
    `Sam2Model.from_pretrained(folder)` loads base and adapter without this package.

    Attributes:
        save_base (`Callable[[Path], None]`, *optional*): Writes the base to a folder. Set if the base is available
            only on this machine; the base is then saved with the adapter.
        base_fingerprint (`dict[str, str]`, *optional*): See [`compute_base_fingerprint`]; saved with the adapter.
        allow_other_base (`bool`): Whether adapters of another base may be loaded into this model.
    """

    save_base: Callable[[Path], None] | None = None
    base_fingerprint: dict[str, str] | None = None
    allow_other_base: bool = False

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        for module in self.modules():
            if isinstance(module, BaseTunerLayer):
                setattr(module, "_cast_input_dtype", MethodType(_cast_input_dtype, module))  # noqa: B010 (a method)

    def create_or_update_model_card(self, output_dir: str) -> None:
        """Write no card: PEFT's would change an existing README.md and contain a local path."""

    def get_base_model(self) -> OffloadingModel:
        """Return the model without PEFT's wrapper."""
        return cast(OffloadingModel, super().get_base_model())

    def load_adapter(self, model_id: str | os.PathLike, adapter_name: str, *args: Any, **kwargs: Any) -> Any:
        """Load an adapter, for example of a checkpoint; refuse one that was trained on another base."""
        if self.base_fingerprint is not None:
            recorded = read_base_fingerprint(Path(model_id) / BASE_FINGERPRINT)
            if recorded is not None:
                base = str(self.get_base_model().name_or_path)
                check_base_fingerprint(
                    recorded, self.base_fingerprint, str(model_id), base, allow_other_base=self.allow_other_base
                )
        return super().load_adapter(model_id, adapter_name, *args, **kwargs)

    def save_pretrained(self, save_directory: str, is_main_process: bool = True, **kwargs: Any) -> None:  # type: ignore[override]  # by name alone
        """Save the adapter's tensors and config; with `save_base` also the base, in `save_directory/base`."""
        # The adapters of offloaded modules belong to the saved adapter.
        with self.get_base_model().restore_offloaded():
            super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)
        if not is_main_process:
            return
        folder = Path(save_directory)
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        saved_as = self.get_base_model().saved_as
        config["auto_mapping"] = {"base_model_class": saved_as.__name__, "parent_library": saved_as.__module__}
        base = config["base_model_name_or_path"]
        if self.save_base is not None:
            base = str(folder / BASE_FOLDER)
            if not Path(base).is_dir():
                write_atomically(base, self.save_base)
        if base and Path(base).is_dir():
            config["base_model_name_or_path"] = str(Path(base).resolve())  # independent of the working directory
        write_json(folder / CONFIG_NAME, config, indent=2, sort_keys=True)
        if self.base_fingerprint is not None:
            write_base_fingerprint(folder, self.base_fingerprint)


def _cast_input_dtype(layer: BaseTunerLayer, x: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """Cast an adapter's input as PEFT does, except under autocast, which would cast it back."""
    if x is not None and torch.is_autocast_enabled(x.device.type):
        return x
    return BaseTunerLayer._cast_input_dtype(layer, x, dtype)


def add_adapters(
    model: PreTrainedModel,
    options: LoraOptions,
    *,
    frozen: Sequence[str] = (),
    with_masks: bool = True,
    seed: int | None = None,
) -> AdaptedSam:
    """
    Freeze a model and add adapters in float32, independent of the base's dtype.

    Args:
        model (`PreTrainedModel`): Changed in place.
        options (`LoraOptions`): Settings of the adapters.
        frozen (`Sequence[str]`): Parts (see [`freeze`]) without adapters.
        with_masks (`bool`): Whether masks are trained; if not, the mask decoder gets no adapters.
        seed (`int`, *optional*): Random seed of the initial weights; by default the global generator draws them.

    Returns:
        `AdaptedSam`: The model with adapters.

    Raises:
        `ValueError`: If the target, a rank pattern or a module to save matches nothing; names similar modules.
    """
    frozen_prefixes = get_family_of_model(model).parts.get_frozen_prefixes(list(frozen), with_masks=with_masks)
    saved_modules = find_modules_to_save(model, options.modules_to_save, frozen_prefixes)
    targets = find_targets(model, options.target, frozen=frozen, with_masks=with_masks)
    targets = [name for name in targets if not any(name == w or name.startswith(f"{w}.") for w in saved_modules)]
    as_peft = [rf"(.*\.)?({pattern})" for pattern in options.rank_pattern]
    for pattern, matched in zip(
        options.rank_pattern, matches_within(as_peft, targets, "lora_rank_pattern"), strict=True
    ):
        if not matched:
            raise ValueError(
                f"`lora_rank_pattern` names {pattern!r}, which matches no layer with an adapter. Correct or remove it"
            )
    config = LoraConfig(
        r=options.r,
        lora_alpha=cast(int, options.alpha),  # PEFT divides any number by the rank
        lora_dropout=options.dropout,
        target_modules=targets,
        rank_pattern=options.rank_pattern,
        use_dora=options.dora,
        use_rslora=options.rslora,
        modules_to_save=saved_modules or None,
    )
    digests = compute_base_fingerprint(model)
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        adapted = AdaptedSam(model, config)
    adapted.base_fingerprint = digests
    freeze(adapted, list(frozen), with_masks=with_masks)  # modules saved in full contain unused parameters
    for parameter in adapted.parameters():
        # Half precision would round small updates away, also of modules saved in full inside the encoders.
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return adapted


def check_same_adapter(
    model: AdaptedSam, options: LoraOptions, *, frozen: Sequence[str] = (), with_masks: bool = True
) -> None:
    """
    Check that the settings of a loaded adapter equal `options`.

    Args:
        model (`AdaptedSam`): Model with the loaded adapter.
        options (`LoraOptions`): Requested settings.
        frozen (`Sequence[str]`): Parts without adapters.
        with_masks (`bool`): Whether masks are trained.

    Raises:
        `ValueError`: If layers or a setting differ; names the setting.
    """
    saved, base = cast(LoraConfig, model.peft_config["default"]), model.get_base_model()
    saved_modules = saved.modules_to_save or []
    prefixes = get_family_of_model(base).parts.get_frozen_prefixes(list(frozen), with_masks=with_masks)
    adapted = {name.partition(".lora_A.")[0] for name, _ in base.named_parameters() if ".lora_A." in name}
    adapted = {name for name in adapted if not f"{name}.".startswith(prefixes)}
    targets = find_targets(base, options.target, frozen=frozen, with_masks=with_masks)
    if adapted != {name for name in targets if not any(name.startswith(f"{w}.") for w in saved_modules)}:
        raise ValueError(
            f"`lora` is {options.target!r}, but the adapter in `model_name_or_path` has other layers "
            f"({len(adapted)} that are not frozen, such as {min(adapted, default='none')}). Set `lora` to the value "
            "of its training"
        )
    pairs = {
        "lora_dropout": (saved.lora_dropout, options.dropout),
        "lora_r": (saved.r, options.r),
        "lora_alpha": (saved.lora_alpha, options.alpha),
        "lora_rank_pattern": (saved.rank_pattern, options.rank_pattern),
        "lora_dora": (saved.use_dora, options.dora),
        "lora_rslora": (saved.use_rslora, options.rslora),
    }
    for name, (recorded, requested) in pairs.items():
        if recorded != requested:
            raise ValueError(
                f"`{name}` is {requested}, but the adapter in `model_name_or_path` was made with {recorded}. "
                f"Set it to {recorded}, or merge the adapter first and train a new one on the result"
            )


def find_differing_tensors(model: AdaptedSam, saved: dict[str, torch.Tensor]) -> list[str]:
    """
    Find tensors that only one of a model's adapter and a saved adapter contains; PEFT only logs a warning.

    Args:
        model (`AdaptedSam`): The model.
        saved (`dict[str, torch.Tensor]`): Weights of the saved adapter.

    Returns:
        `list[str]`: Their names, sorted.
    """
    return sorted(get_peft_model_state_dict(model).keys() ^ saved.keys())


def merge_adapters(model: AdaptedSam) -> PreTrainedModel:
    """
    Merge adapters into the weights. The predictions are equal within rounding, and all parameters are trainable.

    Args:
        model (`AdaptedSam`): A model with adapters.

    Returns:
        `PreTrainedModel`: The base class, without PEFT's wrappers.

    Raises:
        `ValueError`: If a weight of the base is not float32, because the sum would be rounded.
    """
    base = model.get_base_model()
    rounded = next((n for n, p in base.named_parameters() if ".lora_" not in n and p.dtype != torch.float32), None)
    if rounded:
        raise ValueError(
            f"adapters are merged in float32, but `{strip_wrappers(rounded)}` has another dtype. Set `dtype: float32`"
        )
    return cast(PreTrainedModel, model.merge_and_unload().requires_grad_(True))
