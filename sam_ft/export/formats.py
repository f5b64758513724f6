"""A model to another layout: written, loaded back by whoever will load it, compared, and only then put in its place."""

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
from ..models.model_files import TRAINED_PHRASES, naming_the_model, source_of
from ..models.sam3.model import Sam3ForConceptSegmentation
from ..models.sam3.official_names import from_official, official_only, to_official
from ..utils.json_files import write_json
from .onnx_graphs import check_graphs, write_graphs
from .output_parity import answers, distance, question
from .output_places import RECORD, draft_of
from .source_model import config_of, read_official_base
from .weight_files import is_weight_file, read_weights
from .weight_names import DETECTOR, OFFICIAL, compare, official_side, without_prefix


logger = logging.getLogger("sam_ft.run")

EXACT = 1e-5  # of outputs between 0 and 1, from equal weights: another order of float32 sums
CLOSE = 1e-3  # of another runtime
_BESIDE = (THRESHOLDS, TRAINED_PHRASES)  # what a run leaves beside its weights and an export takes along


@dataclass
class Export:
    """
    Attributes:
        model (`Sam3ForConceptSegmentation`): float32, adapters merged. processor (`Sam3Processor`).
        source (`str`): where it comes from. base (`str`, *optional*): what its other parts are taken from.
    """

    model: Sam3ForConceptSegmentation
    processor: Sam3Processor
    source: str
    base: str | None = None

    @property
    def side(self) -> int:
        return self.model.config.image_size

    def check(self, loaded: Sam3Model) -> float:
        """
        The largest difference of the outputs of what was loaded back.

        Raises:
            `ValueError`: where it is larger than `EXACT`.
        """
        asked = question(self.processor, self.side)
        return refuse_difference(distance(answers(self.model.eval(), asked), answers(loaded.eval(), asked)), EXACT)


def refuse_difference(found: float, within: float) -> float:
    if not found <= within:
        raise ValueError(
            f"the export answers otherwise than its source, by {found:.2g} (allowed: {within:g}); nothing was written"
        )
    return found


def to_transformers(export: Export, output: Path) -> float:
    """
    A folder for `Sam3Model.from_pretrained`, with processor and thresholds.

    Returns:
        `float`: the largest difference of its outputs from the source's.
    """
    with draft_of(output) as draft:
        export.model.save_pretrained(draft)
        export.processor.save_pretrained(draft)
        loaded, report = Sam3Model.from_pretrained(draft, output_loading_info=True)
        _refuse_keys(report)
        found = export.check(loaded)
        _record(draft, "transformers", export, found)
    return found


def to_official_file(export: Export, output: Path) -> float:
    """
    A file in the layout of `sam3.pt`: the base's, with the detector's weights in their place; without a base what
    `build_sam3_image_model` needs. `.pt` for that builder, which reads nothing else, or `.safetensors`.

    Raises:
        `ValueError`: where the base does not fit, or what was written is not what was meant.
    """
    config = export.model.config
    if export.base is None:
        whole = {DETECTOR + name: tensor for name, tensor in official_only(config, official_side(config)).items()}
    else:
        whole = read_official_base(export.base, config)
        # the trainer leaves the prefix out, which its own loader needs
        if not any(name.startswith(DETECTOR) for name in whole):
            whole = {DETECTOR + name: tensor for name, tensor in whole.items()}
        # a trainer may leave out what the model computes
        made = official_only(config, official_side(config))
        whole = {DETECTOR + name: tensor for name, tensor in made.items()} | whole
    if export.side != official_side(config):
        logger.warning("tuned at %d px; the official package works at %d px", export.side, official_side(config))
    weights = {name: tensor.detach() for name, tensor in export.model.state_dict().items()}
    detector = to_official(weights, without_prefix(whole, OFFICIAL))
    whole |= {DETECTOR + name: tensor.contiguous() for name, tensor in detector.items()}
    with draft_of(output, is_file=True) as draft:
        if output.suffix == ".safetensors":
            save_file(whole, draft)
        else:
            torch.save(whole, draft)
        back = read_weights(draft)
        table = compare({name: tuple(tensor.shape) for name, tensor in back.items()}, config)
        if not table.fits or table.layout != OFFICIAL:
            raise ValueError("\n".join(["the export does not fit the official model:", *table.lines()]))
        changed = [
            n for n, t in whole.items() if n not in back or not torch.equal(_comparable(back[n]), _comparable(t))
        ]
        if changed:
            raise ValueError(f"{changed[0]!r} was not written as it was; is the disk full?")
        loaded = Sam3Model(config)
        loaded.load_state_dict(from_official(without_prefix(back, OFFICIAL)))
        found = export.check(loaded)
    return found


def _comparable(tensor: torch.Tensor) -> torch.Tensor:
    """NaN, of an entry that was never initialised, equals itself."""
    return torch.nan_to_num(torch.view_as_real(tensor) if tensor.is_complex() else tensor)


def to_video(export: Export, output: Path) -> float:
    """
    A folder for `Sam3VideoModel.from_pretrained`: the base's tracker, bit by bit, and the tuned detector.

    Raises:
        `ValueError`: where `base` is missing or no video model, or is of another architecture.
    """
    base = export.base
    if base is None or is_weight_file(base):
        raise ValueError(
            "`base` is needed for the video layout, whose tracker is taken from it: facebook/sam3, or a folder of a Sam3VideoModel"
        )
    config = config_of(base)
    if not isinstance(config, Sam3VideoConfig):
        raise ValueError(
            f"`base`: {base!r} is an image model, which has no tracker; give facebook/sam3 or a folder like it"
        )
    with naming_the_model(base):
        video, report = Sam3VideoModel.from_pretrained(source_of(base), output_loading_info=True, dtype=torch.float32)
    _refuse_keys(report)
    old, new = video.detector_model.state_dict(), export.model.state_dict()
    wrong = next(
        (n for n in old.keys() | new.keys() if n not in new or n not in old or old[n].shape != new[n].shape), None
    )
    if wrong:
        raise ValueError(
            f"`base`: {base!r} is of another architecture than {export.source!r}: they differ in {wrong!r}"
        )
    trunk = "vision_encoder.backbone."
    if any(n.startswith(trunk) and not torch.equal(old[n], new[n]) for n in old):
        logger.warning(
            "the tuned ViT is not the base's, and the tracker shares it: tracking may suffer (train with `freeze: [vision_encoder]`)"
        )
    if video.detector_model.config.image_size != export.side:
        logger.warning(
            "tuned at %d px; the video model works at %d px", export.side, video.detector_model.config.image_size
        )
    tracker = {
        name: tensor.clone() for name, tensor in video.state_dict().items() if not name.startswith("detector_model.")
    }
    video.detector_model.load_state_dict(new)
    with draft_of(output) as draft:
        video.config.architectures = [Sam3VideoModel.__name__]
        video.config.save_pretrained(draft)
        # not by `save_pretrained`, which names the tracker's tensors otherwise than the Hub's file
        tensors = {name: tensor.contiguous() for name, tensor in video.state_dict().items()}
        save_file(tensors, draft / SAFE_WEIGHTS_NAME, metadata={"format": "pt"})
        Sam3VideoProcessor.from_pretrained(source_of(base)).save_pretrained(draft)
        loaded, report = Sam3VideoModel.from_pretrained(draft, output_loading_info=True)
        _refuse_keys(report)
        back = loaded.state_dict()
        changed = [name for name, tensor in tracker.items() if not torch.equal(back[name], tensor)]
        if changed:
            raise ValueError(f"the tracker's {changed[0]!r} is not the base's any more")
        if loaded.detector_model.config.image_size == export.side:
            found = export.check(loaded.detector_model)
        else:  # answers of two canvases cannot be compared
            found = refuse_difference(
                max(float((back[f"detector_model.{n}"] - t).abs().max()) for n, t in new.items()), 0.0
            )
        _record(draft, "video", export, found)
    return found


def to_onnx(export: Export, output: Path) -> float:
    """A folder of three graphs and a script that runs them without torch; compared for 1, 3 and 17 phrases."""
    with draft_of(output) as draft:
        write_graphs(export.model, draft)
        export.processor.save_pretrained(draft)
        found = refuse_difference(check_graphs(export.model, export.processor, draft), CLOSE)
        _record(draft, "onnx", export, found)
    return found


FORMATS: dict[str, Callable[[Export, Path], float]] = {
    "transformers": to_transformers,
    "official": to_official_file,
    "video": to_video,
    "onnx": to_onnx,
}


def _refuse_keys(report: dict) -> None:
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report.get(kind):
            raise ValueError(f"what was written does not load whole: {kind} {sorted(map(str, report[kind]))[:3]}")


def _record(folder: Path, layout: str, export: Export, found: float) -> None:
    """What the folder is, and what a run had left beside its weights."""
    for name in _BESIDE:
        if (Path(export.source) / name).is_file():
            shutil.copyfile(Path(export.source) / name, folder / name)
    content = {
        "layout": layout,
        "source": export.source,
        "base": export.base,
        "largest_difference_of_outputs": found,
        "sam_ft": __version__,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
    }
    write_json(folder / RECORD, content, indent=1)
