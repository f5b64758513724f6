"""Files for Meta's `sam3` package: weights in the layout of `sam3.pt`, and concepts as text features."""

import logging
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Sam3Model

from ..models.sam3.official_names import build_official_only, from_official, to_official
from .checked_export import SAME_RUNTIME_TOLERANCE, Export, check_difference
from .output_parity import build_pixels, compute_max_difference, compute_prompt_outputs
from .output_paths import open_draft
from .source_model import read_official_base
from .weight_files import is_weight_file, read_weights
from .weight_names import DETECTOR, OFFICIAL, compare, get_official_side, remove_prefix


logger = logging.getLogger("sam_ft.run")


def write_official(export: Export, output: Path) -> float:
    """
    Write a file in the layout of the official `sam3.pt`.

    With a base, its detector weights are replaced and all other tensors are copied; without one, the file contains
    what `build_sam3_image_model` needs. That builder reads `.pt` only; `.safetensors` is possible too.

    Args:
        export (`Export`): Source.
        output (`Path`): File that ends in `.pt` or `.safetensors`.

    Returns:
        `float`: Maximum absolute difference between the outputs of the written file and of the source.

    Raises:
        `ValueError`: If the base does not fit, or the written file differs from its source.
    """
    config, whole = export.model.config, _read_other_tensors(export)
    _warn_of_resolution(export)
    weights = {name: tensor.detach() for name, tensor in export.model.state_dict().items()}
    detector = to_official(weights, remove_prefix(whole, OFFICIAL))
    whole |= {DETECTOR + name: tensor.contiguous() for name, tensor in detector.items()}
    with open_draft(output, is_file=True) as draft:
        if output.suffix == ".safetensors":
            save_file(whole, draft)
        else:
            torch.save(whole, draft)
        back = read_weights(draft)
        table = compare({name: tuple(tensor.shape) for name, tensor in back.items()}, config)
        if not table.fits or table.layout != OFFICIAL:
            raise ValueError("\n".join(["the exported tensors do not fit the official model:", *table.lines()]))
        changed = [
            n for n, t in whole.items() if n not in back or not torch.equal(_comparable(back[n]), _comparable(t))
        ]
        if changed:
            raise ValueError(f"the tensor {changed[0]!r} of the written file differs from its source. Check the disk")
        loaded = Sam3Model(config)
        loaded.load_state_dict(from_official(remove_prefix(back, OFFICIAL)))
        return export.check(loaded)


def _read_other_tensors(export: Export) -> dict[str, torch.Tensor]:
    """Return the tensors outside the detector: those that the official model computes, and those of the base."""
    config = export.model.config
    computed = build_official_only(config, get_official_side(config))
    computed = {DETECTOR + name: tensor for name, tensor in computed.items()}
    if export.base is None:
        return computed
    whole = read_official_base(export.base, config)
    # the official trainer writes names without the prefix that the official loader needs
    if not any(name.startswith(DETECTOR) for name in whole):
        whole = {DETECTOR + name: tensor for name, tensor in whole.items()}
    # a trainer's checkpoint may lack the tensors that the model computes
    return computed | whole


def _warn_of_resolution(export: Export) -> None:
    side = get_official_side(export.model.config)
    if export.side != side:
        logger.warning(
            "the model was tuned at %d px, but the official package runs at %d px",
            export.side,
            side,
        )


def _comparable(tensor: torch.Tensor) -> torch.Tensor:
    """Replace NaN, so that uninitialised entries compare as equal."""
    return torch.nan_to_num(torch.view_as_real(tensor) if tensor.is_complex() else tensor)


def write_official_concepts(export: Export, output: Path) -> float:
    """
    Write the concepts of a model as the text features that the official package computes for a phrase.

    The file contains a dictionary for each phrase, in the form that the package's `forward_text` returns:
    `language_features` `(K, 1, C)`, sequence first, and `language_mask` `(1, K)`, `True` for padding. The package does
    not read the third entry of that form, `language_embeds`.

    Args:
        export (`Export`): Source, a model with concepts.
        output (`Path`): File that ends in `.pt`.

    Returns:
        `float`: Maximum absolute difference between the outputs for the read tokens and for the concepts.

    Raises:
        `ValueError`: If the file has another suffix, a base is given, or the outputs differ.
    """
    if output.suffix != ".pt":
        raise ValueError(
            f"`output_path` is {str(output)!r}; the `sam3` package reads concepts from a file ending in .pt"
        )
    if export.base is not None and is_weight_file(export.base):
        raise ValueError(
            f"`base` is {export.base!r}, but a file of concepts contains no weights and is used beside any copy of "
            "the sam3.pt. Remove `base`"
        )
    _warn_of_resolution(export)
    model, concepts = export.model.eval(), export.model.concepts
    content = {
        phrase: {
            "language_features": tokens.detach().float().cpu()[:, None].contiguous(),
            "language_mask": torch.zeros(1, len(tokens), dtype=torch.bool),
        }
        for phrase, tokens in zip(concepts.index.phrases, concepts.tokens, strict=True)
    }
    with open_draft(output, is_file=True) as draft:
        torch.save(content, draft)
        back = torch.load(draft, weights_only=True)
        expected = [concepts.encode([phrase]) for phrase in content]
        read = [(b["language_features"].transpose(0, 1), ~b["language_mask"]) for b in back.values()]
        pixels = build_pixels(export.side)
        differences = [
            compute_max_difference(*pair)
            for pair in zip(
                compute_prompt_outputs(model, pixels, expected),
                compute_prompt_outputs(model, pixels, read),
                strict=True,
            )
        ]
        return check_difference(max(differences), SAME_RUNTIME_TOLERANCE)
