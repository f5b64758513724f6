"""
Auto-annotation function of CVAT, for `cvat-cli task auto-annotate` and `cvat_sdk.auto_annotation.annotate_task`.

`cvat-cli` takes the name of this module as `--function-module`, and calls [`create`].
"""

import dataclasses
import itertools
from collections.abc import Iterator

from PIL import Image

from ..ops.masks import decode_mask
from ..ops.outline import outlines
from ..options.model import ModelOptions
from ..options.prediction import PredictOptions
from ..utils.text import short_repr
from .cvat_output import clip_corners, encode_cvat_mask
from .phrases import check_phrases, list_phrases
from .sam3_predictor import Sam3Predictor


_MAX_LABEL_LENGTH = 64  # of CVAT's server and SDK


class CvatFunction:
    """
    Detection function of CVAT's SDK: SAM 3 with fixed phrases, which are the labels.

    Args:
        predictor (`Sam3Predictor`): The predictor.
        phrases (`list[str]`): Phrases; a task must have labels of the same names.
        with_masks (`bool`): Return masks, by default; otherwise boxes.

    Attributes:
        spec (`cvat_sdk.auto_annotation.DetectionFunctionSpec`): The labels.

    Raises:
        `ImportError`: If the SDK of CVAT is not installed.
        `ValueError`: If there is no phrase, or one is empty or too long for a label.
    """

    def __init__(self, predictor: Sam3Predictor, phrases: list[str], *, with_masks: bool = True):
        self._sdk = _import_sdk()
        self._phrases = _check_labels(phrases)
        self._predictor, self._with_masks = predictor, with_masks
        self._groups = itertools.count(1)
        kind = "mask" if with_masks else "rectangle"
        self._ids = {phrase: number for number, phrase in enumerate(self._phrases)}
        self.spec = self._sdk.DetectionFunctionSpec(
            labels=[self._sdk.label_spec(phrase, number, type=kind) for phrase, number in self._ids.items()]
        )

    def detect(self, context, image: Image.Image) -> list:
        """
        Predict the shapes of one image.

        Args:
            context (`cvat_sdk.auto_annotation.DetectionFunctionContext`): `conf_threshold` replaces the score
                thresholds of the model; `conv_mask_to_poly` requests polygons in place of masks.
            image (`PIL.Image.Image`): The image.

        Returns:
            `list[cvat_sdk.models.LabeledShapeRequest]`: Masks, polygons or rectangles. The polygons of an instance of
                several parts have a group in common; holes are filled, because polygons have none.
        """
        options = self._predictor.options
        if context.conf_threshold is not None:
            self._predictor.options = dataclasses.replace(options, score_threshold=context.conf_threshold)
        try:
            prediction = self._predictor(image, self._phrases)
        finally:
            self._predictor.options = options
        size = prediction.height, prediction.width
        return [
            shape
            for phrase, detections in prediction.detections.items()
            for detection in detections
            for shape in self._to_shapes(self._ids[phrase], detection, size, with_polygons=context.conv_mask_to_poly)
        ]

    def _to_shapes(self, label: int, detection: dict, size: tuple[int, int], *, with_polygons: bool) -> Iterator:
        if not self._with_masks:
            yield self._sdk.rectangle(label, list(clip_corners(detection["bbox"], *size)))
            return
        counts = detection["segmentation"]["counts"]
        if with_polygons:
            parts, _ = outlines(decode_mask(counts, *size))
            group = {"group": next(self._groups)} if len(parts) > 1 else {}
            yield from (self._sdk.polygon(label, part, **group) for part in parts)
            return
        runs, (left, top, width, height) = encode_cvat_mask(counts, *size)
        if width:
            yield self._sdk.mask(label, [*runs, left, top, left + width - 1, top + height - 1])


def create(
    model: str,
    phrases: str = "",
    *,
    concepts: str = "",
    masks: bool = True,
    dtype: str = "float32",
    device: str | None = None,
    **options,
) -> CvatFunction:
    """
    Load a model as an auto-annotation function; `-p NAME=TYPE:VALUE` of `cvat-cli` sets an argument.

    Args:
        model (`str`): Folder or Hub id of a SAM 3 model, an adapter or concepts, or a model of this package.
        phrases (`str`): Phrases, separated by commas, or by semicolons if there is one; the phrases that the model was
            trained on by default.
        concepts (`str`): Folders or Hub ids of concepts to add, separated as the phrases.
        masks (`bool`): Annotate masks, by default; otherwise boxes.
        dtype (`str`): Dtype of the encoder weights.
        device (`str`, *optional*): Device; the accelerator by default, if there is one.
        options: Fields of [`PredictOptions`], such as `score_threshold` and `tile_size`.

    Raises:
        `ImportError`: If the SDK of CVAT is not installed.
        `ValueError`: If the model cannot be loaded, a phrase cannot be a label, or an option does not exist.
    """
    _import_sdk()  # before the model is loaded
    names = [field.name for field in dataclasses.fields(PredictOptions)]
    unknown = [name for name in options if name not in names]
    if unknown:
        raise ValueError(f"the parameter `{unknown[0]}` does not exist. Options of the prediction: {', '.join(names)}")
    predict_options = PredictOptions(**options)
    source = ModelOptions(model, concepts=_split(concepts), dtype=dtype, with_masks=masks)
    texts = _check_labels(_split(phrases) or list_phrases(source))
    predictor = Sam3Predictor.load(source, options=predict_options, device=device)
    return CvatFunction(predictor, texts, with_masks=masks)


def _split(text: str) -> list[str]:
    """Split at semicolons if there is one, otherwise at commas; one separator may end the text."""
    separator = ";" if ";" in text else ","
    parts = text.strip().removesuffix(separator)
    return parts.split(separator) if parts else []


def _check_labels(phrases: list[str]) -> list[str]:
    texts = check_phrases(phrases)
    if not texts:
        raise ValueError("`phrases` is empty, and the model has no trained phrases. Give at least one phrase")
    longest = max(texts, key=len)
    if len(longest) > _MAX_LABEL_LENGTH:
        raise ValueError(
            f"`phrases`: {short_repr(longest)} has {len(longest)} characters, more than the {_MAX_LABEL_LENGTH} of a "
            "label of CVAT. Shorten it"
        )
    return texts


def _import_sdk():
    """Return the module `cvat_sdk.auto_annotation`."""
    try:
        import cvat_sdk.auto_annotation
    except ImportError as error:
        raise ImportError('auto-annotation needs the SDK of CVAT: `pip install "sam-ft[cvat]"`') from error
    return cvat_sdk.auto_annotation
