"""SAM 3 as three ONNX graphs: images and phrases are encoded once each, the detector joins any number of phrases to one image."""

import contextlib
import logging
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import Sam3Processor

from ..models.sam3.detr import boxes_to_xyxy, run_decoder
from ..models.sam3.model import Sam3ForConceptSegmentation
from ..models.sam3.pairs import PADDING
from .output_parity import question


OPSET = 20
IN_ONE_FILE = 2**30  # bytes of weights; more lie beside the graph, since a protobuf file ends at 2 GB
PHRASES, BOXES = 4096, 256  # at most, in one call
CHECKED = (1, 3, 17)  # numbers of phrases
SCRIPT = Path(__file__).parent / "onnx_script.py"
_LEVELS = ["fine", "middle", "coarse"]


class VisionGraph(nn.Module):
    """`pixel_values (1, 3, R, R)`, normalised -> the pyramid `fine`, `middle`, `coarse`."""

    def __init__(self, model: Sam3ForConceptSegmentation):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        return self.model.pyramid(self.model.encode_images(pixel_values))


class TextGraph(nn.Module):
    """`input_ids`, `attention_mask (P, 32)` -> `text (P, 32, C)`."""

    def __init__(self, model: Sam3ForConceptSegmentation):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model.encode_texts(input_ids, attention_mask)


class DetectorGraph(nn.Module):
    """
    One image's pyramid and P phrases, each with K exemplar boxes `(cx, cy, w, h)` in `[0, 1]` (label 1 positive, 0 negative, -10 none) ->
    `scores (P, Q)`, `boxes_xyxy (P, Q, 4)` in `[0, 1]`, `presence (P,)`, `masks (P, Q, h, w)`, logits. As `Sam3Model` answers: a phrase without
    boxes sees no geometry token.
    """

    def __init__(self, model: Sam3ForConceptSegmentation):
        super().__init__()
        self.model = model

    def forward(self, fine, middle, coarse, text, attention_mask, boxes, box_labels):
        model, number = self.model, text.shape[0]
        pyramid = [level.expand(number, -1, -1, -1) for level in (fine, middle, coarse)]
        position = model.vision_encoder.neck.position_encoding((1, *coarse.shape[1:]), coarse.device, torch.float32)
        shown = torch.zeros_like(attention_mask[:, 0], dtype=torch.bool)
        geometry, geometry_mask = model.encode_geometry(pyramid[-1], position, boxes, box_labels, shown)
        prompt = torch.cat([text, geometry], dim=1)
        prompt_mask = torch.cat([attention_mask.bool(), geometry_mask], dim=1)
        fused = model.detr_encoder(
            vision_features=[pyramid[-1]],
            text_features=prompt,
            vision_pos_embeds=[position.expand(number, -1, -1, -1)],
            text_mask=prompt_mask,
        ).last_hidden_state
        decoded = run_decoder(
            model.detr_decoder,
            fused,
            position.flatten(2).transpose(1, 2),
            prompt,
            prompt_mask,
            tuple(coarse.shape[-2:]),
            with_one_to_many=False,
        )
        logits = model.dot_product_scoring(decoded.hidden_states[-1:], prompt, prompt_mask)[-1, ..., 0]
        presence = decoded.presence_logits[-1].sigmoid()
        masks = model.mask_decoder(
            decoder_queries=decoded.hidden_states[-1],
            backbone_features=pyramid,
            encoder_hidden_states=fused,
            prompt_features=prompt,
            prompt_mask=prompt_mask,
        ).pred_masks
        return logits.sigmoid() * presence[:, None], boxes_to_xyxy(decoded.boxes[-1]), presence, masks


@torch.no_grad()
def write_graphs(model: Sam3ForConceptSegmentation, folder: Path) -> None:
    """
    Writes `vision_encoder.onnx`, `text_encoder.onnx`, `detector.onnx` and `predict.py`, which runs them without torch.

    Raises:
        `ImportError`: where onnx and onnxscript are not installed.
    """
    _need_onnx()
    model = model.cpu().eval()
    phrases = torch.export.Dim("phrases", min=1, max=PHRASES)
    boxes = torch.export.Dim("boxes", min=1, max=BOXES)
    # not one of anything that may be several: an exporter takes ones for constants
    ids = torch.zeros(3, model.config.text_config.max_position_embeddings, dtype=torch.long)
    mask = torch.ones_like(ids)
    pixels = torch.zeros(1, 3, model.config.image_size, model.config.image_size)
    pyramid, text = VisionGraph(model)(pixels), TextGraph(model)(ids, mask)
    exemplars = torch.full((3, 2, 4), 0.5), torch.full((3, 2), PADDING)
    _write(VisionGraph(model), (pixels,), folder / "vision_encoder.onnx", ["pixel_values"], _LEVELS, None)
    _write(
        TextGraph(model),
        (ids, mask),
        folder / "text_encoder.onnx",
        ["input_ids", "attention_mask"],
        ["text"],
        ({0: phrases}, {0: phrases}),
    )
    with _boxes_of_one_image(model.geometry_encoder):
        _write(
            DetectorGraph(model),
            (*pyramid, text, mask, *exemplars),
            folder / "detector.onnx",
            [*_LEVELS, "text", "attention_mask", "boxes", "box_labels"],
            ["scores", "boxes_xyxy", "presence", "masks"],
            (None, None, None, {0: phrases}, {0: phrases}, {0: phrases, 1: boxes}, {0: phrases, 1: boxes}),
        )
    shutil.copyfile(SCRIPT, folder / "predict.py")


def _need_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError("`format: onnx` needs `pip install sam-ft[onnx]`") from error


def _write(graph: nn.Module, inputs: tuple, file: Path, names: list[str], outputs: list[str], shapes) -> None:
    large = sum(p.numel() * p.element_size() for p in graph.parameters()) > IN_ONE_FILE
    with _quiet():
        torch.onnx.export(
            graph,
            inputs,
            file,
            input_names=names,
            output_names=outputs,
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            external_data=large,
            verbose=False,
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells its own users what it decomposes."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _boxes_of_one_image(encoder: nn.Module) -> Iterator[None]:
    """
    Pools the boxes of all phrases from the one image at once. Transformers splits them phrase by phrase, which fixes the number of phrases
    in a graph.
    """
    whole = encoder._encode_boxes

    def encode(boxes, mask, labels, features):
        number, each = boxes.shape[:2]
        flat = (part.reshape(1, number * each, *part.shape[2:]) for part in (boxes, mask, labels))
        embedded, _ = whole(*flat, features[:1])
        return embedded.view(number, each, embedded.shape[-1]), mask

    encoder._encode_boxes = encode
    try:
        yield
    finally:
        del encoder._encode_boxes


@torch.no_grad()
def check_graphs(model: Sam3ForConceptSegmentation, processor: Sam3Processor, folder: Path) -> float:
    """
    Runs the graphs in a process that cannot import torch, for 1, 3 and 17 phrases with and without exemplar boxes.

    Returns:
        `float`: the largest difference from the model's own scores, boxes, presence and masks (as probabilities).
    """
    largest = 0.0
    generator = torch.Generator().manual_seed(0)
    for number in CHECKED:
        asked = question(processor, model.config.image_size, tuple(f"thing {i}" for i in range(number)))
        boxes = 0.3 + 0.4 * torch.rand(number, 2, 4, generator=generator)
        labels = torch.tensor([[1, 0], [1, PADDING], [PADDING, PADDING]])[torch.arange(number) % 3]
        pyramid = VisionGraph(model)(asked.pixel_values)
        text = TextGraph(model)(asked.input_ids, asked.attention_mask)
        expected = DetectorGraph(model)(*pyramid, text, asked.attention_mask, boxes, labels)
        given = {
            "pixel_values": asked.pixel_values,
            "input_ids": asked.input_ids,
            "attention_mask": asked.attention_mask,
            "boxes": boxes,
            "box_labels": labels,
        }
        found = _run_apart(folder, {name: tensor.numpy() for name, tensor in given.items()})
        for name, tensor in zip(("scores", "boxes_xyxy", "presence", "masks"), expected, strict=True):
            other = torch.from_numpy(found[name])
            pair = (tensor.sigmoid(), other.sigmoid()) if name == "masks" else (tensor, other)
            largest = max(largest, float((pair[0] - pair[1]).abs().max()))
    return largest


def _run_apart(folder: Path, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as place:
        asked, answered = Path(place, "asked.npz"), Path(place, "answered.npz")
        np.savez(asked, **given)
        done = subprocess.run(
            [sys.executable, str(folder / "predict.py"), "--tensors", str(asked), str(answered)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise ValueError(f"the graphs do not run: {done.stderr[-800:]}")
        with np.load(answered) as stored:
            return {name: stored[name] for name in stored.files}
