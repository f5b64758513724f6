"""Predictor base class and predictor of SAM 3: masks of every instance, from phrases and exemplar boxes."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch
from PIL import Image
from transformers import ProcessorMixin, Sam3Processor

from ..data.samples.collators import Sam3Collator
from ..data.samples.pipeline import Sample, SamplePhrase
from ..metrics.postprocess import to_detections
from ..metrics.thresholds import FILE as THRESHOLDS
from ..metrics.thresholds import Thresholds, read_thresholds
from ..models.families import FAMILIES
from ..models.finite import NonFiniteError, NonFiniteOutputError
from ..models.loading import ModelOptions, load_as_trained
from ..models.lora import AdaptedSam, sam_of
from ..models.model_files import file_beside
from ..models.outputs import Keep, PairPrediction
from ..models.processors import processor_of
from ..models.sam3.config import side_of
from ..models.sam3.model import Sam3ForConceptSegmentation
from .exemplars import Exemplars, check_exemplars, exemplars_in_view, pad_exemplars
from .nms import TILE_NMS_IOM, Piece, is_cut, move_to_image, suppress
from .tiling import View, Views, views_of


VISUAL = "visual"  # phrase of the official processor for exemplar boxes without a phrase
_MIN_SCORE = 0.05  # equals the minimum score of the evaluation, on whose detections thresholds are chosen


@dataclass
class PredictOptions:
    """
    Options of [`Sam3Predictor`].

    Attributes:
        score_threshold (`float`, *optional*): Score threshold of all phrases; the checkpoint's thresholds, or 0.5, by
            default.
        max_detections (`int`): Maximum number of detections per phrase and view, 100 by default.
        nms_iom (`float`, *optional*): Intersection over minimum area from which on the lower score of two detections
            of a phrase is suppressed; no suppression within an untiled image by default.
        tile_size (`int`, *optional*): Side of the tiles of images that are larger, px; no tiles by default.
        tile_overlap (`float`): Share of its side that a tile has in common with the next one, 0.2 by default.
        views_per_batch (`int`): Number of images or tiles per forward pass of the vision encoder, 1 by default.
        geometry_token (`str`): `never` (default) as in Transformers, `always` as in the official package.
    """

    score_threshold: float | None = None
    max_detections: int = 100
    nms_iom: float | None = None
    tile_size: int | None = None
    tile_overlap: float = 0.2
    views_per_batch: int = 1
    geometry_token: str = "never"


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


class Predictor:
    """
    Base class of the predictors: a model in evaluation mode, its processor and options.

    Args:
        model (`torch.nn.Module`): Model of this package, with or without adapters.
        processor (`ProcessorMixin`): Its processor.
        options (`default_options`, *optional*): Options; the defaults if not given.
    """

    family: str
    default_options: type

    def __init__(self, model: torch.nn.Module, processor: ProcessorMixin, options=None):
        self.model, self.processor, self.options = model.eval(), processor, options or self.default_options()
        self._sam = sam_of(model)

    @classmethod
    def from_pretrained(cls, name: str, *, options=None, device: str | torch.device | None = None, **loading):
        """
        Load a predictor.

        Args:
            name (`str`): Folder or Hub id of a model or an adapter.
            options (`default_options`, *optional*): Options; the defaults if not given.
            device (`str`, *optional*): Device; the accelerator by default, if there is one.
            loading: Fields of [`ModelOptions`].

        Raises:
            `ValueError`: If the model cannot be loaded, see [`load_as_trained`], or the device cannot be used.
        """
        return cls.load(ModelOptions(name, **loading), options=options, device=device)

    @classmethod
    def load(cls, source: ModelOptions, *, options=None, device: str | torch.device | None = None):
        """Load a predictor from [`ModelOptions`]; see `from_pretrained` for the other arguments."""
        source = replace(source, quantization=None, family=FAMILIES[cls.family])
        model = load_as_trained(source)
        processor = processor_of(sam_of(model), source.model_name_or_path, source.revision)
        if device is None:
            device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
        try:
            model = model.to(device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(
                f"`device`: {str(device)!r} cannot be used here ({str(error).splitlines()[0]})"
            ) from error
        return cls._assemble(model, processor, source, options)

    @classmethod
    def _assemble(cls, model, processor, source: ModelOptions, options):
        return cls(model, processor, options)

    @property
    def resolution(self) -> int:
        """Side of the model's canvas, px."""
        return side_of(self._sam.config)

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next(self._sam.parameters()).device


class Sam3Predictor(Predictor):
    """
    Predictor of SAM 3: a base, a tuned model, an adapter, or a model with merged adapters.

    Args:
        model (`Sam3ForConceptSegmentation` or `AdaptedSam`): The model.
        processor (`Sam3Processor`): Its processor.
        thresholds (`Thresholds`, *optional*): Thresholds that are saved with the model.
        options (`PredictOptions`, *optional*): Options; the defaults if not given.

    Examples:
        >>> predictor = Sam3Predictor.from_pretrained("out/mine")
        >>> prediction = predictor(Image.open("street.jpg"), ["pothole", "manhole cover"])
        >>> prediction.detections["pothole"][0]["score"]
    """

    family = "sam3"
    default_options = PredictOptions

    def __init__(
        self,
        model: Sam3ForConceptSegmentation | AdaptedSam,
        processor: Sam3Processor,
        thresholds: Thresholds | None = None,
        options: PredictOptions | None = None,
    ):
        super().__init__(model, processor, options)
        self.thresholds, self._collate = thresholds or Thresholds(), Sam3Collator(processor.tokenizer)

    @classmethod
    def _assemble(cls, model, processor, source: ModelOptions, options: PredictOptions | None):
        file = file_beside(source.model_name_or_path, THRESHOLDS, source.revision)
        return cls(model, processor, file and read_thresholds(file.parent), options)

    def describe_thresholds(self) -> str:
        """Describe the origin of the thresholds in one line."""
        if self.options.score_threshold is not None:
            return f"{self.options.score_threshold:g} for all phrases"
        return f"{self.thresholds.rule}; {self.thresholds.default:g} for phrases without a threshold"

    def __call__(
        self,
        images: Image.Image | list[Image.Image],
        phrases: list[str],
        exemplars: Exemplars | list[Exemplars | None] | None = None,
    ) -> ImagePrediction | list[ImagePrediction]:
        """
        Predict every instance of each phrase.

        Args:
            images (`PIL.Image.Image` or a list of them): Images; their EXIF orientation is applied.
            phrases (`list[str]`): Phrases that each image is prompted with, in one vision pass; may be empty if there
                are exemplars.
            exemplars (`Exemplars` or `list[Exemplars | None]`, *optional*): Exemplar boxes that are added to each
                phrase; for all images, or one entry per image.

        Returns:
            `ImagePrediction` or `list[ImagePrediction]`: The predictions; a list if `images` is a list.

        Raises:
            `ValueError`: If a phrase is empty, an image has no prompt, or a box lies outside its image.
            `NonFiniteError`: If a prediction contains NaN or infinity; names image, phrase and tensor.
        """
        is_single = isinstance(images, Image.Image)
        image_list = [images] if is_single else list(images)
        per_image = [exemplars] * len(image_list) if not isinstance(exemplars, list) else exemplars
        if len(per_image) != len(image_list):
            raise ValueError(
                f"`exemplars` has {len(per_image)} entries for {len(image_list)} images; give one each, or None"
            )
        tiling = self.options.tile_size, self.options.tile_overlap
        views = [views_of(image, str(i), self.resolution, *tiling) for i, image in enumerate(image_list)]
        by_name = {v.name: e for v, e in zip(views, per_image, strict=True) if e is not None}
        predictions = self.predict(views, phrases, by_name)
        return predictions[0] if is_single else predictions

    def predict(
        self, images: list[Views], phrases: list[str], exemplars: dict[str, Exemplars] | None = None
    ) -> list[ImagePrediction]:
        """Predict images that are cut into views already, with exemplars by image name; see `__call__`."""
        exemplars = exemplars or {}
        texts = check_phrases(phrases)
        for views in images:
            check_exemplars(exemplars.get(views.name), views)
            if not texts and not any(exemplars[views.name].labels if views.name in exemplars else ()):
                raise ValueError(
                    f"image {views.name!r} has no prompt; give phrases, or at least one positive exemplar box"
                )
        predictions = {views.name: ImagePrediction(views.name, *views.size) for views in images}
        pieces: dict[tuple[str, str], list[Piece]] = {}
        all_views = [(views, view) for views in images for view in views.views]
        for begin in range(0, len(all_views), self.options.views_per_batch):
            batch = all_views[begin : begin + self.options.views_per_batch]
            for (views, view), text, presence, detections in self._predict_batch(batch, texts, exemplars):
                prediction = predictions[views.name]
                prediction.presence[text] = max(presence, prediction.presence.get(text, 0.0))
                phrase_pieces = pieces.setdefault((views.name, text), [])
                for detection in detections:
                    moved = move_to_image(detection, view.window, views.size)
                    phrase_pieces.append(Piece(moved, is_cut(moved["bbox"], view.window, views.size)))
        tiled = {views.name for views in images if len(views.views) > 1}
        for (name, text), phrase_pieces in pieces.items():
            threshold = self.options.nms_iom if name not in tiled else self.options.nms_iom or TILE_NMS_IOM
            detections = [piece.detection for piece in phrase_pieces]
            predictions[name].detections[text] = suppress(phrase_pieces, threshold) if threshold else detections
        return [predictions[views.name] for views in images]

    def threshold(self, phrase: str) -> float:
        """Return the score threshold of a phrase."""
        saved = self.thresholds.of(phrase)
        return saved if self.options.score_threshold is None else self.options.score_threshold

    @torch.inference_mode()
    def _predict_batch(
        self, batch: list[tuple[Views, View]], phrases: list[str], exemplars: dict[str, Exemplars]
    ) -> Iterable[tuple[tuple[Views, View], str, float, list[dict]]]:
        """Predict one batch; return view, phrase, presence, and detections in px of the view."""
        token = self.options.geometry_token == "always"
        samples = []
        for number, (views, view) in enumerate(batch):
            texts = self._select_phrases(views, view, phrases, exemplars.get(views.name))
            samples.append(
                Sample(
                    str(number), (view.window[3], view.window[2]), view.canvas, torch.zeros(0, 4), None, [], None,
                    [SamplePhrase(text, [], [], exhaustive=False, geometry_token=token) for text in texts],
                )
            )  # fmt: skip
        inputs = self._collate(samples)
        pair_exemplars = [
            exemplars_in_view(exemplars.get(batch[image][0].name), *batch[image]) for image in inputs["pair_image"]
        ]
        inputs["input_boxes"], inputs["input_boxes_labels"] = pad_exemplars(pair_exemplars)
        labels = inputs.pop("labels")
        for name in ("pair_instances", "pair_ignore", "pair_exhaustive"):
            del inputs[name]
        inputs = {name: v.to(self.device) if isinstance(v, torch.Tensor) else v for name, v in inputs.items()}
        results = []

        def collect(prediction: PairPrediction):
            image = inputs["pair_image"][prediction.pair]
            text = labels[0]["phrases"][inputs["pair_phrase"][prediction.pair]]
            results.append(
                (batch[image], text, *self._to_detections(prediction, text, labels[image]["original_size"]))
            )

        lowest = min((self.threshold(text) for text in labels[0]["phrases"]), default=_MIN_SCORE)
        keep = Keep(min(_MIN_SCORE, lowest), self.options.max_detections)
        try:
            self.model(**inputs, keep=keep, collect=collect)
        except NonFiniteOutputError as error:
            views, _ = batch[inputs["pair_image"][error.index]]
            text = labels[0]["phrases"][inputs["pair_phrase"][error.index]]
            raise NonFiniteError(describe_non_finite(error, f"{views.name!r}, phrase {text!r}")) from error
        return results

    def _select_phrases(self, views: Views, view: View, phrases: list[str], exemplars: Exemplars | None) -> list[str]:
        """Select the phrases of a view; without phrases `VISUAL`, if the view contains a positive exemplar."""
        if phrases or exemplars is None:
            return phrases
        return [VISUAL] if any(label for _, label in exemplars_in_view(exemplars, views, view)) else []

    def _to_detections(self, output: PairPrediction, text: str, size: tuple[int, int]) -> tuple[float, list[dict]]:
        """Calibrate the scores of a pair and select the detections above the phrase's threshold."""
        presence = float(output.presence)
        scores = torch.tensor([self.thresholds.rescore(score, presence) for score in output.scores.tolist()])
        selected = torch.nonzero(scores >= self.threshold(text)).flatten()
        at = selected.to(output.scores.device)
        masks = None if output.masks is None else output.masks[at]
        detections = to_detections(scores[selected], output.boxes_xyxy[at], masks, *size)
        return self.thresholds.presence(presence), detections


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


def check_phrases(phrases: list[str]) -> list[str]:
    """
    Check phrases, and remove surrounding blanks and duplicates.

    Args:
        phrases (`list[str]`): The phrases.

    Returns:
        `list[str]`: Distinct phrases, in their order.

    Raises:
        `ValueError`: If a phrase is empty, or `phrases` is a string.
    """
    if isinstance(phrases, str):
        raise ValueError(f"`phrases` is the string {phrases!r}; give a list, [{phrases!r}]")
    texts = [str(phrase).strip() for phrase in phrases]
    if not all(texts):
        raise ValueError("`phrases` contains an empty phrase; remove it")
    return list(dict.fromkeys(texts))
