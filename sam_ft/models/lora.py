"""Adapters by PEFT: which layers get one, what is saved of them, how they become part of the weights."""

import difflib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict
from peft.utils import CONFIG_NAME
from transformers import PreTrainedModel

from ..utils.json_files import write_json
from ..utils.regex import matches_within
from ..utils.text import short_repr
from .anatomy import anatomy_of, plain_name
from .base_fingerprint import (
    BASE_FINGERPRINT,
    check_base_fingerprint,
    compute_base_fingerprint,
    read_base_fingerprint,
    write_base_fingerprint,
)
from .freezing import freeze


MAX_RANK = 4096


def is_rank(value) -> bool:
    """Whether a value is an integer that a rank may have."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_RANK


@dataclass
class LoraOptions:
    """
    Attributes:
        target (`str`): a preset of the model's [`Anatomy`], or a regex that matches whole module names.
        r (`int`), alpha (`float`), dropout (`float`): rank, scale (`alpha / r`) and dropout (Hu et al. 2021).
        rank_pattern (`dict[str, int]`): module name or regex -> another rank.
        dora (`bool`): Liu et al. 2024: magnitude and direction apart. rslora (`bool`): Kalajdzievski 2023: `alpha / √r`.
        modules_to_save (`list[str]`): names or ends of names of modules that are trained and saved whole.
    """

    target: str
    r: int = 16
    alpha: float = 32
    dropout: float = 0.0
    rank_pattern: dict[str, int] = field(default_factory=dict)
    dora: bool = False
    rslora: bool = False
    modules_to_save: list[str] = field(default_factory=list)

    def __post_init__(self):
        if not is_rank(self.r):
            raise ValueError(f"`lora_r` must be an integer between 1 and {MAX_RANK}, got {short_repr(self.r)}")
        for pattern, rank in self.rank_pattern.items():
            if not isinstance(pattern, str) or not is_rank(rank):
                raise ValueError(
                    f"`lora_rank_pattern` maps {short_repr(pattern)} to {short_repr(rank)}. Map a module name or regex to an "
                    f"integer between 1 and {MAX_RANK}"
                )


BASE_FOLDER = "base"


class AdaptedSam(PeftModel):
    """
    [`Sam3ForConceptSegmentation`] or [`Sam2ForPromptSegmentation`] with adapters. What it saves names Transformers' own class, so
    that `Sam3Model.from_pretrained(folder)` or `Sam2Model.from_pretrained(folder)` loads base and adapter without this package.

    Attributes:
        save_base (`Callable[[Path], None]`, *optional*): writes the base into a folder. Set where nobody else has it: then it
            is saved beside the adapter.
        base_fingerprint (`dict[str, str]`, *optional*): see [`compute_base_fingerprint`]; saved beside the adapter.
        allow_other_base (`bool`): whether adapters of another base may be loaded into this model.
    """

    save_base: Callable[[Path], None] | None = None
    base_fingerprint: dict[str, str] | None = None
    allow_other_base: bool = False

    def create_or_update_model_card(self, output_dir: str) -> None:
        """Write no card: PEFT's would change a README.md that is there, and name a folder of this machine."""

    def load_adapter(self, model_id, *args, **kwargs):
        """Load an adapter, for example of a checkpoint; refuse one that was trained on another base."""
        if self.base_fingerprint is not None:
            recorded = read_base_fingerprint(Path(model_id) / BASE_FINGERPRINT)
            if recorded is not None:
                base = self.get_base_model().name_or_path
                check_base_fingerprint(
                    recorded, self.base_fingerprint, str(model_id), base, allow_other_base=self.allow_other_base
                )
        return super().load_adapter(model_id, *args, **kwargs)

    def save_pretrained(self, save_directory, is_main_process: bool = True, **kwargs):
        """Saves the adapter's tensors and config; with `save_base` also the base, in `save_directory/base`."""
        # adapters that are not trained here are part of the adapter all the same
        with self.get_base_model().unparked():
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
                draft = folder / f".{BASE_FOLDER}"
                self.save_base(draft)
                draft.replace(base)
        if base and Path(base).is_dir():
            config["base_model_name_or_path"] = str(Path(base).resolve())  # wherever it is loaded from
        write_json(folder / CONFIG_NAME, config, indent=2, sort_keys=True)
        if self.base_fingerprint is not None:
            write_base_fingerprint(folder, self.base_fingerprint)


def add_adapters(
    model: PreTrainedModel, options: LoraOptions, *, frozen: list[str] = (), with_masks: bool = True
) -> AdaptedSam:
    """
    Freezes a model and gives the chosen layers adapters, in float32 whatever the base's type.

    Args:
        model (`PreTrainedModel`): changed in place.
        options (`LoraOptions`).
        frozen (`list[str]`): parts (see `freeze.py`) that get none.
        with_masks (`bool`): whether masks are trained; if not, the mask decoder gets none.

    Raises:
        `ValueError`: where target or `modules_to_save` match nothing; names the nearest that are there.
    """
    whole = _modules_to_save(
        model, options.modules_to_save, anatomy_of(model).prefixes_of(list(frozen), with_masks=with_masks)
    )
    targets = find_targets(model, options.target, frozen=frozen, with_masks=with_masks)
    targets = [name for name in targets if not any(name == w or name.startswith(f"{w}.") for w in whole)]
    as_peft = [rf"(.*\.)?({pattern})" for pattern in options.rank_pattern]
    for pattern, matched in zip(
        options.rank_pattern, matches_within(as_peft, targets, "lora_rank_pattern"), strict=True
    ):
        if not matched:
            raise ValueError(f"`lora_rank_pattern` names {pattern!r}, which matches no layer that gets an adapter")
    config = LoraConfig(
        r=options.r,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=targets,
        rank_pattern=options.rank_pattern,
        use_dora=options.dora,
        use_rslora=options.rslora,
        modules_to_save=whole or None,
    )
    digests = compute_base_fingerprint(model)
    adapted = AdaptedSam(model, config)
    adapted.base_fingerprint = digests
    freeze(adapted, list(frozen), with_masks=with_masks)  # what is saved whole has unused corners too
    for parameter in adapted.parameters():
        # modules saved whole inside half-precision encoders too: small steps would be rounded away
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return adapted


def find_targets(model: torch.nn.Module, target: str, *, frozen: list[str] = (), with_masks: bool = True) -> list[str]:
    """
    The names of the layers that a preset or regex chooses.

    Raises:
        `ValueError`: where it is no regex, or matches nothing that can be adapted.
    """
    anatomy = anatomy_of(model)
    kinds = torch.nn.Linear | torch.nn.Conv2d
    layers = [
        _unwrapped(name)
        for name, module in model.named_modules()
        if isinstance(module, kinds) and ".lora_" not in name
    ]
    matched = _match_target(target, layers, anatomy.presets)
    if not matched:
        shapes = list(dict.fromkeys(re.sub(r"\.\d+", ".N", name) for name in layers))
        near = difflib.get_close_matches(re.sub(r"\\.?|[.*()|]+", ".", target), shapes, 4, cutoff=0.0)
        raise ValueError(
            f"`lora` is {target!r}, which matches no layer. Choose from {', '.join(anatomy.presets)}, or write a regex that "
            f"matches whole names, such as {' · '.join(near)}"
        )
    prefixes = anatomy.prefixes_of(list(frozen), with_masks=with_masks)
    kept = [name for name in matched if not f"{name}.".startswith(prefixes)]
    if not kept:
        raise ValueError(f"`lora` is {target!r}, but all that it matches is frozen: `freeze` is {list(frozen)}")
    return kept


def _match_target(target: str, layers: list[str], presets: dict[str, str]) -> list[str]:
    if target in presets:
        return [name for name in layers if re.fullmatch(presets[target], name)]
    try:
        re.compile(target)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(
            f"`lora` is {short_repr(target)}: neither a preset ({', '.join(presets)}) nor a regex ({error})"
        ) from error
    return matches_within([target], layers, "lora")[0]


def _unwrapped(name: str) -> str:
    """A module's name without PEFT's wrappers."""
    return plain_name(f"{name}.").removesuffix(".")


def _modules_to_save(model: torch.nn.Module, names: list[str], frozen: tuple[str, ...]) -> list[str]:
    lists = torch.nn.ModuleList | torch.nn.ModuleDict  # they have no forward that PEFT could stand in for
    modules = [name for name, module in model.named_modules() if name and not isinstance(module, lists)]
    chosen = []
    for wanted in names:
        found = [name for name in modules if name == wanted or name.endswith(f".{wanted}")]
        if not found:
            near = difflib.get_close_matches(wanted, modules, 3, cutoff=0.0)
            raise ValueError(
                f"`lora_modules_to_save` names {wanted!r}, which is no module; near it: {', '.join(near)}"
            )
        if all(f"{name}.".startswith(frozen) for name in found):
            raise ValueError(
                f"`lora_modules_to_save` names {wanted!r}, which `freeze` keeps from being trained. Drop one of both"
            )
        chosen += found
    return chosen


def check_same_adapter(
    model: AdaptedSam, options: LoraOptions, *, frozen: list[str] = (), with_masks: bool = True
) -> None:
    """Raises `ValueError` where a saved adapter's settings are not `options`: what is trained on keeps its own form."""
    saved, base = model.peft_config["default"], model.get_base_model()
    whole, prefixes = saved.modules_to_save or [], anatomy_of(base).prefixes_of(list(frozen), with_masks=with_masks)
    held = {name.partition(".lora_A.")[0] for name, _ in base.named_parameters() if ".lora_A." in name}
    held = {name for name in held if not f"{name}.".startswith(prefixes)}
    wanted = find_targets(base, options.target, frozen=frozen, with_masks=with_masks)
    if held != {name for name in wanted if not any(name.startswith(f"{w}.") for w in whole)}:
        raise ValueError(
            f"`lora` is {options.target!r}, but the adapter in `model_name_or_path` has other layers ({len(held)} that are not "
            f"frozen, such as {min(held, default='none')}). Set `lora` to what it was made with"
        )
    pairs = {
        "lora_dropout": (saved.lora_dropout, options.dropout),
        "lora_r": (saved.r, options.r),
        "lora_alpha": (saved.lora_alpha, options.alpha),
        "lora_rank_pattern": (saved.rank_pattern, options.rank_pattern),
        "lora_dora": (saved.use_dora, options.dora),
        "lora_rslora": (saved.use_rslora, options.rslora),
    }
    for name, (was, wanted) in pairs.items():
        if was != wanted:
            raise ValueError(
                f"`{name}` is {wanted}, but the adapter in `model_name_or_path` was made with {was}. Set it to {was}, or merge "
                "the adapter first and train a new one on the result"
            )


def differing_tensors(model: AdaptedSam, saved: dict[str, torch.Tensor]) -> list[str]:
    """
    Find tensors that a model's adapter has and the saved one lacks, or the other way round; PEFT only warns of them.

    Args:
        model (`AdaptedSam`): The model.
        saved (`dict[str, torch.Tensor]`): Weights of the saved adapter.

    Returns:
        `list[str]`: Their names, sorted.
    """
    return sorted(get_peft_model_state_dict(model).keys() ^ saved.keys())


def merge_adapters(model: AdaptedSam) -> PreTrainedModel:
    """
    Folds adapters into the weights; the model answers as before, within rounding, and is no PEFT model any more. All of it can
    be trained again.

    Raises:
        `ValueError`: where the base's weights are not float32: the sum would be rounded. Load the base as float32.
    """
    base = model.get_base_model()
    rounded = next((n for n, p in base.named_parameters() if ".lora_" not in n and p.dtype != torch.float32), None)
    if rounded:
        raise ValueError(
            f"adapters are merged in float32, but {plain_name(rounded)} is not; load with `dtype: float32`"
        )
    return model.merge_and_unload().requires_grad_(True)


def sam_of(model: torch.nn.Module) -> PreTrainedModel:
    """The model itself, with or without adapters around it."""
    return model.get_base_model() if isinstance(model, PeftModel) else model
