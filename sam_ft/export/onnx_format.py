"""Folder of ONNX graphs, with the concepts of the model and a script that runs them without torch."""

import itertools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from ..data.samples.collators import tokenize_phrases
from ..models.sam3.concept_files import write_concepts
from ..ops.prompts import PADDING_LABEL
from .checked_export import OTHER_RUNTIME_TOLERANCE, Export, check_difference, write_record
from .onnx_graphs import DetectorGraph, VisionGraph, write_graphs
from .output_parity import build_pixels
from .output_paths import open_draft


CHECKED_PHRASE_COUNTS = (1, 3, 17)
SCRIPT = Path(__file__).parent / "onnx_script.py"


def write_onnx(export: Export, output: Path) -> float:
    """
    Write a folder of ONNX graphs, and a script that runs them without torch.

    A model with concepts has its concept files beside the graphs, and no text encoder unless the export requests it.

    Args:
        export (`Export`): Source.
        output (`Path`): Folder.

    Returns:
        `float`: Maximum absolute difference between the outputs of the graphs and of the source, for 1, 3 and 17
            phrases.

    Raises:
        `ImportError`: If onnx, onnxruntime or onnxscript is not installed.
    """
    concepts = export.model.concepts
    with_text_encoder = concepts is None or export.with_text_encoder
    with open_draft(output) as draft:
        write_graphs(export.model, draft, with_text_encoder=with_text_encoder)
        shutil.copyfile(SCRIPT, draft / "predict.py")
        if with_text_encoder:
            export.processor.save_pretrained(draft)
        if concepts is not None:
            write_concepts(draft, concepts)
        largest = _compare_with_script(export, draft, with_text_encoder=with_text_encoder)
        difference = check_difference(largest, OTHER_RUNTIME_TOLERANCE)
        write_record(draft, "onnx", export, difference)
    return difference


@torch.no_grad()
def _compare_with_script(export: Export, folder: Path, *, with_text_encoder: bool) -> float:
    """
    Compare the outputs of `predict.py` with those of the model for 1, 3 and 17 phrases.

    Some phrases have exemplar boxes. The script runs in a process that cannot import torch.

    Returns:
        `float`: Maximum absolute difference of scores, boxes, presence and masks (as probabilities).
    """
    model, largest, generator = export.model, 0.0, torch.Generator().manual_seed(0)
    pixels = build_pixels(export.side)
    pyramid = VisionGraph(model)(pixels)
    for number in CHECKED_PHRASE_COUNTS:
        phrases = _choose_phrases(export, number, with_text_encoder=with_text_encoder)
        boxes = 0.3 + 0.4 * torch.rand(number, 2, 4, generator=generator)
        labels = torch.tensor([[1, 0], [1, PADDING_LABEL], [PADDING_LABEL] * 2])[torch.arange(number) % 3]
        text, mask = _encode_phrases(export, phrases, with_text_encoder=with_text_encoder)
        expected = DetectorGraph(model)(*pyramid, text, mask.long(), boxes, labels)
        tensors = {"pixel_values": pixels, "boxes": boxes, "box_labels": labels}
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        outputs = _run_script(folder, arrays | {"phrases": np.array(phrases)})
        for name, tensor in zip(("scores", "boxes_xyxy", "presence", "masks"), expected, strict=True):
            output = torch.from_numpy(outputs[name])
            pair = (tensor.sigmoid(), output.sigmoid()) if name == "masks" else (tensor, output)
            largest = max(largest, float((pair[0] - pair[1]).abs().max()))
    return largest


def _choose_phrases(export: Export, number: int, *, with_text_encoder: bool) -> list[str]:
    """Return phrases with and without a concept in turn, if the export has both; repeated if they are too few."""
    concepts = export.model.concepts
    kinds = [] if concepts is None else [concepts.index.phrases]
    kinds += [[f"thing {i}" for i in range(number)]] if with_text_encoder else []
    return [phrase for phrases in zip(*map(itertools.cycle, kinds), range(number)) for phrase in phrases[:-1]][:number]


def _encode_phrases(
    export: Export, phrases: list[str], *, with_text_encoder: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return text features `(P, 32, C)` and mask `(P, 32)`, with the tokens of concepts."""
    model = export.model
    if not with_text_encoder:
        return model.concepts.encode(phrases)
    tokens = tokenize_phrases(export.processor.tokenizer, phrases)
    text, mask = model.encode_texts(tokens.input_ids, tokens.attention_mask), tokens.attention_mask.bool()
    if model.concepts is None:
        return text, mask
    return model.concepts.insert(text, mask, [model.concepts.index.index_of(phrase) for phrase in phrases])


def _run_script(folder: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run `predict.py` of an exported folder on tensors, in a process of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        input_file, output_file = Path(temporary, "inputs.npz"), Path(temporary, "outputs.npz")
        np.savez(input_file, **inputs)
        done = subprocess.run(
            [sys.executable, str(folder / "predict.py"), "--tensors", str(input_file), str(output_file)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise ValueError(f"the exported graphs do not run in ONNX Runtime: {done.stderr[-800:]}")
        with np.load(output_file) as stored:
            return {name: stored[name] for name in stored.files}
