"""Export formats: each is written as a draft, loaded back, compared with its source, and then moved to its path."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import Sam3Model, Sam3Processor, Sam3VideoConfig, Sam3VideoModel, Sam3VideoProcessor
from transformers.utils import SAFE_WEIGHTS_NAME

from .. import __version__
from ..metrics.thresholds import FILE as THRESHOLDS
from ..models.model_files import TRAINED_PHRASES, add_model_to_errors, resolve_source
from ..models.sam3.model import Sam3ForConceptSegmentation
from ..models.sam3.official_names import build_official_only, from_official, to_official
from ..utils.json_files import write_json
from .onnx_graphs import check_graphs, write_graphs
from .output_parity import build_inputs, compute_max_difference, compute_outputs
from .output_paths import RECORD, open_draft
from .source_model import load_config, read_official_base
from .weight_files import is_weight_file, read_weights
from .weight_names import DETECTOR, OFFICIAL, compare, get_official_side, remove_prefix


logger = logging.getLogger("sam_ft.run")

SAME_RUNTIME_TOLERANCE = 1e-5  # outputs lie between 0 and 1; equal weights differ by the order of float32 sums alone
OTHER_RUNTIME_TOLERANCE = 1e-3
_SIDE_FILES = (THRESHOLDS, TRAINED_PHRASES)  # files that a run writes beside its weights and an export copies


@dataclass
class Export:
    """
    Source of an export.

    Attributes:
        model (`Sam3ForConceptSegmentation`): Model in float32 with merged adapters.
        processor (`Sam3Processor`): Its processor.
        source (`str`): Path or Hub id that it was loaded from.
        base (`str`, *optional*): Model or file that the parts outside the detector are taken from.
    """

    model: Sam3ForConceptSegmentation
    processor: Sam3Processor
    source: str
    base: str | None = None

    @property
    def side(self) -> int:
        """Side of the model's canvas, px."""
        return self.model.config.image_size

    def check(self, loaded: Sam3Model) -> float:
        """
        Compare the outputs of a model that was loaded back with those of the source.

        Args:
            loaded (`Sam3Model`): The loaded model.

        Returns:
            `float`: Maximum absolute difference of the outputs.

        Raises:
            `ValueError`: If it exceeds `SAME_RUNTIME_TOLERANCE`.
        """
        inputs = build_inputs(self.processor, self.side)
        expected, outputs = compute_outputs(self.model.eval(), inputs), compute_outputs(loaded.eval(), inputs)
        return check_difference(compute_max_difference(expected, outputs), SAME_RUNTIME_TOLERANCE)


def check_difference(difference: float, tolerance: float) -> float:
    """
    Check the difference between the outputs of an export and of its source.

    Args:
        difference (`float`): Maximum absolute difference.
        tolerance (`float`): Largest allowed difference.

    Returns:
        `float`: The difference.

    Raises:
        `ValueError`: If the difference is larger than `tolerance`, or NaN.
    """
    if not difference <= tolerance:
        raise ValueError(
            f"the exported model's outputs differ from those of its source (max |Δ| {difference:.2g}, "
            f"allowed {tolerance:g}); nothing was written"
        )
    return difference


def to_transformers(export: Export, output: Path) -> float:
    """
    Write a folder for `Sam3Model.from_pretrained`, with processor and thresholds.

    Args:
        export (`Export`): Source.
        output (`Path`): Folder.

    Returns:
        `float`: Maximum absolute difference between the outputs of the loaded folder and of the source.
    """
    with open_draft(output) as draft:
        export.model.save_pretrained(draft)
        export.processor.save_pretrained(draft)
        loaded, report = Sam3Model.from_pretrained(draft, output_loading_info=True)
        _check_loading_report(report)
        difference = export.check(loaded)
        _record(draft, "transformers", export, difference)
    return difference


def to_official_file(export: Export, output: Path) -> float:
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
    config = export.model.config
    computed = build_official_only(config, get_official_side(config))
    computed = {DETECTOR + name: tensor for name, tensor in computed.items()}
    if export.base is None:
        whole = computed
    else:
        whole = read_official_base(export.base, config)
        # the official trainer writes names without the prefix that the official loader needs
        if not any(name.startswith(DETECTOR) for name in whole):
            whole = {DETECTOR + name: tensor for name, tensor in whole.items()}
        # a trainer's checkpoint may lack the tensors that the model computes
        whole = computed | whole
    if export.side != get_official_side(config):
        logger.warning(
            "the model was tuned at %d px, but the official package runs at %d px",
            export.side,
            get_official_side(config),
        )
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


def _comparable(tensor: torch.Tensor) -> torch.Tensor:
    """Replace NaN, so that uninitialised entries compare as equal."""
    return torch.nan_to_num(torch.view_as_real(tensor) if tensor.is_complex() else tensor)


def to_video(export: Export, output: Path) -> float:
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
    base, new = export.base, export.model.state_dict()
    video = _load_video_base(base)
    old = video.detector_model.state_dict()
    mismatched = next(
        (n for n in old.keys() | new.keys() if n not in new or n not in old or old[n].shape != new[n].shape), None
    )
    if mismatched:
        raise ValueError(
            f"`base`: {base!r} and {export.source!r} have different architectures; they differ in {mismatched!r}"
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
    tracker = {
        name: tensor.clone() for name, tensor in video.state_dict().items() if not name.startswith("detector_model.")
    }
    video.detector_model.load_state_dict(new)
    with open_draft(output) as draft:
        video.config.architectures = [Sam3VideoModel.__name__]
        video.config.save_pretrained(draft)
        # `save_pretrained` would rename the tracker's tensors, unlike the file on the Hub
        tensors = {name: tensor.contiguous() for name, tensor in video.state_dict().items()}
        save_file(tensors, draft / SAFE_WEIGHTS_NAME, metadata={"format": "pt"})
        Sam3VideoProcessor.from_pretrained(resolve_source(base)).save_pretrained(draft)
        loaded, report = Sam3VideoModel.from_pretrained(draft, output_loading_info=True)
        _check_loading_report(report)
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
        _record(draft, "video", export, difference)
    return difference


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
    _check_loading_report(report)
    return video


def to_onnx(export: Export, output: Path) -> float:
    """
    Write a folder of three ONNX graphs, and a script that runs them without torch.

    Args:
        export (`Export`): Source.
        output (`Path`): Folder.

    Returns:
        `float`: Maximum absolute difference between the outputs of the graphs and of the source, for 1, 3 and 17
            phrases.

    Raises:
        `ImportError`: If onnx, onnxruntime or onnxscript is not installed.
    """
    with open_draft(output) as draft:
        write_graphs(export.model, draft)
        export.processor.save_pretrained(draft)
        difference = check_difference(check_graphs(export.model, export.processor, draft), OTHER_RUNTIME_TOLERANCE)
        _record(draft, "onnx", export, difference)
    return difference


FORMATS: dict[str, Callable[[Export, Path], float]] = {
    "transformers": to_transformers,
    "official": to_official_file,
    "video": to_video,
    "onnx": to_onnx,
}


def _check_loading_report(report: dict) -> None:
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report.get(kind):
            raise ValueError(f"the export does not load completely: {kind} {sorted(map(str, report[kind]))[:3]}")


def _record(folder: Path, layout: str, export: Export, difference: float) -> None:
    """Write the record of an export, and copy the files that the run wrote beside its weights."""
    for name in _SIDE_FILES:
        if (Path(export.source) / name).is_file():
            shutil.copyfile(Path(export.source) / name, folder / name)
    content = {
        "layout": layout,
        "source": export.source,
        "base": export.base,
        "largest_difference_of_outputs": difference,
        "sam_ft": __version__,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
    }
    write_json(folder / RECORD, content, indent=1)
