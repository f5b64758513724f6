"""Predictor base class, and predictions of one image."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

import torch
from transformers import ProcessorMixin

from ..models.families import get_resolution
from ..models.finite import NonFiniteOutputError
from ..models.loading import load_as_trained
from ..models.processors import load_processor_of_model
from ..models.unwrapping import unwrap_sam
from ..options.model import ModelOptions
from ..options.prediction import PredictOptions, Sam2PredictOptions
from .tiling import Views


if TYPE_CHECKING:
    from .prediction_job import PredictionJob


Options = TypeVar("Options", PredictOptions, Sam2PredictOptions)


@dataclass
class ImagePrediction:
    """
    Prediction of one image.

    Attributes:
        name (`str`): Name of the image.
        height (`int`): Height, px.
        width (`int`): Width, px.
        detections (`dict[str, list[dict]]`): Detections by phrase, highest score first: `score`, `bbox` `(x, y, w, h)`
            in px, and `segmentation`, a COCO RLE of the image's size, for `pycocotools.mask.decode`.
        presence (`dict[str, float]`): Probability that the phrase is present, by phrase; the maximum over the views.
    """

    name: str
    height: int
    width: int
    detections: dict[str, list[dict]] = field(default_factory=dict)
    presence: dict[str, float] = field(default_factory=dict)


class Predictor(Generic[Options]):
    """
    Base class of the predictors: a model in evaluation mode, its processor and options.

    Args:
        model (`torch.nn.Module`): Model of this package, with or without adapters.
        processor (`ProcessorMixin`): Its processor.
        options (`PredictOptions` or `Sam2PredictOptions`, *optional*): Options; the defaults if not given.

    Attributes:
        family (`str`): Key of the model's family.
        default_options (`type`): Class of the options.
    """

    family: str
    default_options: type[Options]

    def __init__(self, model: torch.nn.Module, processor: ProcessorMixin, options: Options | None = None):
        self.model, self.processor = model.eval(), processor
        self.options: Options = options or self.default_options()
        self._sam = unwrap_sam(model)
        if self.options.bf16 is None:
            self.options = replace(self.options, bf16=computes_bf16(self.device))

    @classmethod
    def from_pretrained(
        cls, name: str, *, options: Options | None = None, device: str | torch.device | None = None, **loading: Any
    ) -> Self:
        """
        Load a predictor.

        Args:
            name (`str`): Folder or Hub id of a model or an adapter.
            options (`PredictOptions` or `Sam2PredictOptions`, *optional*): Options; the defaults if not given.
            device (`str`, *optional*): Device; the accelerator by default, if there is one.
            loading: Fields of [`ModelOptions`].

        Raises:
            `ValueError`: If the model cannot be loaded, see [`load_as_trained`], or the device cannot be used.
        """
        return cls.load(ModelOptions(name, **loading), options=options, device=device)

    @classmethod
    def load(
        cls, source: ModelOptions, *, options: Options | None = None, device: str | torch.device | None = None
    ) -> Self:
        """Load a predictor from [`ModelOptions`]; see `from_pretrained` for the other arguments."""
        source = replace(source, quantization=None, family=cls.family)
        model = load_as_trained(source)
        processor = load_processor_of_model(unwrap_sam(model), source.model_name_or_path, source.revision)
        if device is None:
            device = torch.accelerator.current_accelerator() or "cpu" if torch.accelerator.is_available() else "cpu"
        try:
            cast(torch.nn.Module, model).to(device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(
                f"`device`: {str(device)!r} cannot be used here ({str(error).splitlines()[0]})"
            ) from error
        return cls._assemble(model, processor, source, options)

    @classmethod
    def _assemble(
        cls, model: torch.nn.Module, processor: ProcessorMixin, _source: ModelOptions, options: Options | None
    ) -> Self:
        return cls(model, processor, options)

    @property
    def resolution(self) -> int:
        """Side of the model's canvas, px."""
        return get_resolution(self._sam.config)

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next(self._sam.parameters()).device

    def autocast(self) -> torch.autocast:
        """Return the context of a forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=bool(self.options.bf16))

    @property
    def tiling(self) -> tuple[int | None, float]:
        """Side of the tiles in px, `None` without tiles, and the share of its side that a tile has in common."""
        return None, 0.0

    def predict_job(self, images: list[Views], job: "PredictionJob") -> list[ImagePrediction]:
        """
        Predict images with their prompts in a batch prediction.

        Args:
            images (`list[Views]`): Images.
            job (`PredictionJob`): The batch prediction.

        Returns:
            `list[ImagePrediction]`: One prediction per image.
        """
        raise NotImplementedError


def computes_bf16(device: torch.device) -> bool:
    """Check whether a device is a GPU that computes bfloat16."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def describe_non_finite(error: NonFiniteOutputError, target: str) -> str:
    """
    Describe a non-finite prediction for a user.

    Args:
        error (`NonFiniteOutputError`): Error of the model.
        target (`str`): Name of the image and of the phrase or object.
    """
    return (
        f"image {target}: the prediction has NaN or infinity in `{error.tensor}`. The training of this model "
        "diverged, or the precision is too low: use an earlier checkpoint, or predict with `dtype: float32`"
    )
