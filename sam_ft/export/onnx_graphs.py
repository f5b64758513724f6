"""ONNX graphs of SAM 3: vision encoder, text encoder, and a detector for one image and P phrases."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from ..models.sam3.attention_bias import build_padding_bias
from ..models.sam3.detr import boxes_to_xyxy, run_decoder, run_fusion_encoder
from ..models.sam3.geometry import encode_geometry
from ..models.sam3.model import Sam3ForConceptSegmentation
from ..ops.prompts import PADDING_LABEL, padding_exemplars


OPSET = 20
MAX_INLINE_BYTES = 2**30  # larger weights are written beside the graph, since protobuf files are limited to 2 GB
MAX_PHRASES, MAX_BOXES = 4096, 256  # per call
_LEVELS = ["fine", "middle", "coarse"]


class VisionGraph(nn.Module):
    """Vision graph: normalised `pixel_values (1, 3, R, R)` -> feature pyramid `fine`, `middle`, `coarse`."""

    def __init__(self, model: Sam3ForConceptSegmentation):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        return self.model.compute_pyramid(self.model.encode_images(pixel_values))


class TextGraph(nn.Module):
    """Text graph: `input_ids` and `attention_mask`, both `(P, 32)` -> embeddings `text (P, 32, C)`."""

    def __init__(self, model: Sam3ForConceptSegmentation):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model.encode_texts(input_ids, attention_mask)


class DetectorGraph(nn.Module):
    """
    Detector graph: the pyramid of one image and P phrases with K exemplar boxes each -> detections.

    Boxes are `(cx, cy, w, h)` in `[0, 1]`; their labels are 1 (positive), 0 (negative) or -10 (padding). The outputs
    are `scores (P, Q)`, `boxes_xyxy (P, Q, 4)` in `[0, 1]`, `presence (P,)`, and mask logits `masks (P, Q, h, w)`. As
    in `Sam3Model`, a phrase without boxes has no geometry token.
    """

    def __init__(self, model: Sam3ForConceptSegmentation):
        super().__init__()
        self.model = model

    def forward(self, fine, middle, coarse, text, attention_mask, boxes, box_labels):
        model, number = self.model, text.shape[0]
        pyramid = [level.expand(number, -1, -1, -1) for level in (fine, middle, coarse)]
        position = model.encode_positions(coarse)
        geometry, geometry_mask = encode_geometry(model.geometry_encoder, coarse, position, boxes, box_labels)
        with_boxes = (box_labels != PADDING_LABEL).any(1)
        prompt = torch.cat([text, geometry], dim=1)
        prompt_mask = torch.cat([attention_mask.bool(), geometry_mask & with_boxes[:, None]], dim=1)
        bias = build_padding_bias(prompt_mask, prompt.dtype)
        position = position.flatten(2).transpose(1, 2)
        vision = pyramid[-1].flatten(2).transpose(1, 2)
        fused = run_fusion_encoder(model.detr_encoder, vision, position, prompt, bias)
        grid = tuple(coarse.shape[-2:])
        decoded = run_decoder(model.detr_decoder, fused, position, prompt, bias, grid, with_one_to_many=False)
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
def write_graphs(model: Sam3ForConceptSegmentation, folder: Path, *, with_text_encoder: bool = True) -> None:
    """
    Write `vision_encoder.onnx`, `text_encoder.onnx` and `detector.onnx`.

    Args:
        model (`Sam3ForConceptSegmentation`): The model.
        folder (`Path`): Existing output folder.
        with_text_encoder (`bool`): Whether `text_encoder.onnx` is written, `True` by default.

    Raises:
        `ImportError`: If onnx, onnxruntime or onnxscript is not installed.
    """
    _require_onnx()
    model = model.cpu().eval()
    phrases = torch.export.Dim("phrases", min=1, max=MAX_PHRASES)
    boxes = torch.export.Dim("boxes", min=1, max=MAX_BOXES)
    # example sizes of dynamic dimensions are above 1, because the exporter makes a size of 1 constant
    ids = torch.zeros(3, model.config.text_config.max_position_embeddings, dtype=torch.long)
    mask = torch.ones_like(ids)
    pixels = torch.zeros(1, 3, model.config.image_size, model.config.image_size)
    pyramid, text = VisionGraph(model)(pixels), TextGraph(model)(ids, mask)
    exemplars = padding_exemplars(3, 2)
    _export_graph(VisionGraph(model), (pixels,), folder / "vision_encoder.onnx", ["pixel_values"], _LEVELS, None)
    if with_text_encoder:
        _export_graph(
            TextGraph(model),
            (ids, mask),
            folder / "text_encoder.onnx",
            ["input_ids", "attention_mask"],
            ["text"],
            ({0: phrases}, {0: phrases}),
        )
    _export_graph(
        DetectorGraph(model),
        (*pyramid, text, mask, *exemplars),
        folder / "detector.onnx",
        [*_LEVELS, "text", "attention_mask", "boxes", "box_labels"],
        ["scores", "boxes_xyxy", "presence", "masks"],
        (None, None, None, {0: phrases}, {0: phrases}, {0: phrases, 1: boxes}, {0: phrases, 1: boxes}),
    )


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError('`format: onnx` needs `pip install "sam-ft[onnx]"`') from error


def _export_graph(graph: nn.Module, inputs: tuple, file: Path, names: list[str], outputs: list[str], shapes) -> None:
    large = sum(p.numel() * p.element_size() for p in graph.parameters()) > MAX_INLINE_BYTES
    with _suppress_exporter_output():
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
def _suppress_exporter_output() -> Iterator[None]:
    """Suppress the exporter's messages and warnings about decompositions."""
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
