"""Source of an export, the comparison of its outputs with those of the written model, and the export's record."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from transformers import Sam3Model, Sam3Processor

from .. import __version__
from ..metrics.thresholds import FILE as THRESHOLDS
from ..models.model_files import TRAINED_PHRASES
from ..models.sam3.model import Sam3ForConceptSegmentation
from ..utils.json_files import write_json
from .output_parity import build_inputs, compute_max_difference, compute_outputs
from .output_paths import RECORD


SAME_RUNTIME_TOLERANCE = 1e-5  # outputs lie between 0 and 1; equal weights differ by the order of float32 sums alone
OTHER_RUNTIME_TOLERANCE = 1e-3
_SIDE_FILES = (THRESHOLDS, TRAINED_PHRASES)  # files that a run writes beside its weights and an export copies


@dataclass
class Export:
    """
    Source of an export.

    Attributes:
        model (`Sam3ForConceptSegmentation`): Model in float32 with merged adapters; concepts, if any, are exported.
        processor (`Sam3Processor`): Its processor.
        source (`str`): Path or Hub id that it was loaded from.
        base (`str`, *optional*): Model or file that the parts outside the detector are taken from.
        with_text_encoder (`bool`): Whether ONNX graphs of a model with concepts include the text encoder.
    """

    model: Sam3ForConceptSegmentation
    processor: Sam3Processor
    source: str
    base: str | None = None
    with_text_encoder: bool = False

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


def check_loading_report(report: dict) -> None:
    """
    Check that a model was loaded completely.

    Args:
        report (`dict`): Second result of `from_pretrained(…, output_loading_info=True)`.

    Raises:
        `ValueError`: If a tensor is missing, unexpected or misshapen; names some of them.
    """
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report.get(kind):
            raise ValueError(f"the export does not load completely: {kind} {sorted(map(str, report[kind]))[:3]}")


def write_record(folder: Path, layout: str, export: Export, difference: float) -> None:
    """
    Write the record of an export, and copy the files that the run wrote beside its weights.

    Args:
        folder (`Path`): The exported folder.
        layout (`str`): Name of the format.
        export (`Export`): Source.
        difference (`float`): Maximum absolute difference of the outputs.
    """
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
