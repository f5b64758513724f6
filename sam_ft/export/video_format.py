"""Folder for `Sam3VideoModel.from_pretrained`: the tracker of a base around the tuned detector."""

import logging
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Sam3VideoConfig, Sam3VideoModel, Sam3VideoProcessor
from transformers.utils import SAFE_WEIGHTS_NAME

from ..models.model_files import add_model_to_errors, resolve_source
from .checked_export import Export, check_difference, check_loading_report, write_record
from .output_paths import open_draft
from .source_model import load_config
from .weight_files import is_weight_file


logger = logging.getLogger("sam_ft.run")


def write_video(export: Export, output: Path) -> float:
    """
    Write a folder for `Sam3VideoModel.from_pretrained`: the unchanged tracker of the base, and the tuned detector.

    Args:
        export (`Export`): Source, with a video model as `base`.
        output (`Path`): Folder.

    Returns:
        `float`: Maximum absolute difference between the outputs of the loaded detector and of the source.

    Raises:
        `ValueError`: If `base` is missing, is no video model, or has another architecture.
    """
    new, video = export.model.state_dict(), _load_video_base(export.base)
    tracker = {
        name: tensor.clone() for name, tensor in video.state_dict().items() if not name.startswith("detector_model.")
    }
    _compare_detectors(export, video, new)
    video.detector_model.load_state_dict(new)
    with open_draft(output) as draft:
        video.config.architectures = [Sam3VideoModel.__name__]
        video.config.save_pretrained(draft)
        # `save_pretrained` would rename the tracker's tensors, unlike the file on the Hub
        tensors = {name: tensor.contiguous() for name, tensor in video.state_dict().items()}
        save_file(tensors, draft / SAFE_WEIGHTS_NAME, metadata={"format": "pt"})
        Sam3VideoProcessor.from_pretrained(resolve_source(export.base)).save_pretrained(draft)
        loaded, report = Sam3VideoModel.from_pretrained(draft, output_loading_info=True)
        check_loading_report(report)
        back = loaded.state_dict()
        changed = [name for name, tensor in tracker.items() if not torch.equal(back[name], tensor)]
        if changed:
            raise ValueError(f"the tracker's tensor {changed[0]!r} differs from that of `base`. Check the disk")
        if loaded.detector_model.config.image_size == export.side:
            difference = export.check(loaded.detector_model)
        else:  # outputs at two resolutions are not comparable, so that the weights are compared
            difference = check_difference(
                max(float((back[f"detector_model.{n}"] - t).abs().max()) for n, t in new.items()), 0.0
            )
        write_record(draft, "video", export, difference)
    return difference


def _compare_detectors(export: Export, video: Sam3VideoModel, new: dict[str, torch.Tensor]) -> None:
    """Raise `ValueError` if the base's detector has another architecture; warn of a tuned ViT and another canvas."""
    old = video.detector_model.state_dict()
    mismatched = next(
        (n for n in old.keys() | new.keys() if n not in new or n not in old or old[n].shape != new[n].shape), None
    )
    if mismatched:
        raise ValueError(
            f"`base`: {export.base!r} and {export.source!r} have different architectures; they differ in "
            f"{mismatched!r}"
        )
    vit = "vision_encoder.backbone."
    if any(n.startswith(vit) and not torch.equal(old[n], new[n]) for n in old):
        logger.warning(
            "the ViT was tuned, and the tracker shares it: tracking may become worse "
            "(train with `freeze: [vision_encoder]`)"
        )
    side = video.detector_model.config.image_size
    if side != export.side:
        logger.warning("the model was tuned at %d px, but the video model runs at %d px", export.side, side)


def _load_video_base(base: str | None) -> Sam3VideoModel:
    """Load the video model that contains the tracker."""
    if base is None or is_weight_file(base):
        raise ValueError(
            "`base` is missing; the video format takes the tracker from it. Give facebook/sam3, or a folder of a "
            "Sam3VideoModel"
        )
    if not isinstance(load_config(base), Sam3VideoConfig):
        raise ValueError(
            f"`base`: {base!r} is an image model without a tracker; give facebook/sam3, or a saved Sam3VideoModel"
        )
    with add_model_to_errors(base):
        video, report = Sam3VideoModel.from_pretrained(
            resolve_source(base), output_loading_info=True, dtype=torch.float32
        )
    check_loading_report(report)
    return video
