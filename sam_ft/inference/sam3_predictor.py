"""Images and phrases to masks."""

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
from .nms import SAME, Piece, is_cut, placed, suppress
from .tiling import View, Views, views_of


VISUAL = "visual"  # what the official processor asks where exemplar boxes come without a phrase
_KEPT = 0.05  # as evaluation keeps, on which thresholds are chosen


@dataclass
class PredictOptions:
    """
    Attributes:
        score_threshold (`float`, *optional*): of all phrases; the checkpoint's own, or 0.5, where not given.
        max_detections (`int`): a phrase and view at most.
        nms_iom (`float`, *optional*): of two detections of a phrase whose intersection is this share of the smaller one, the better
            is kept.
        tile_size (`int`, *optional*): images larger than this, px, are also shown in tiles of it. tile_overlap (`float`).
        views_per_batch (`int`): images or tiles through the vision encoder at once.
        geometry_token (`str`): `never` as Transformers, `always` as the official package.
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
    What was found in an image.

    Attributes:
        name (`str`). height, width (`int`): px.
        detections (`dict[str, list[dict]]`): by phrase, best first: `score`, `bbox` `(x, y, w, h)` in px, `segmentation`, a COCO RLE of
            the image's size (`pycocotools.mask.decode` gives the mask).
        presence (`dict[str, float]`): probability that the phrase is in the image, the highest of its views.
    """

    name: str
    height: int
    width: int
    detections: dict[str, list[dict]] = field(default_factory=dict)
    presence: dict[str, float] = field(default_factory=dict)


class Predictor:
    """
    A model that answers, on its device.

    Args:
        model: one of ours, with or without adapters. processor: beside its weights. options (*optional*): of the class `default_options`.
    """

    family: str
    default_options: type

    def __init__(self, model: torch.nn.Module, processor: ProcessorMixin, options=None):
        self.model, self.processor, self.options = model.eval(), processor, options or self.default_options()
        self._sam = sam_of(model)

    @classmethod
    def from_pretrained(cls, name: str, *, options=None, device: str | torch.device | None = None, **loading):
        """
        Args:
            name (`str`): folder or Hub id of a model or an adapter. options (*optional*).
            device (`str`, *optional*): the accelerator, where there is one. loading: as in [`ModelOptions`].

        Raises:
            `ValueError`: as [`load_as_trained`].
        """
        return cls.load(ModelOptions(name, **loading), options=options, device=device)

    @classmethod
    def load(cls, source: ModelOptions, *, options=None, device: str | torch.device | None = None):
        """As `from_pretrained`, from [`ModelOptions`]."""
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
        return next(self._sam.parameters()).device


class Sam3Predictor(Predictor):
    """
    A SAM 3 that answers: base, tuned, adapter, merged.

    Args:
        model (`Sam3ForConceptSegmentation` or `AdaptedSam`). processor (`Sam3Processor`).
        thresholds (`Thresholds`, *optional*): saved with the model. options (`PredictOptions`, *optional*).

    Examples:
        >>> predictor = Sam3Predictor.from_pretrained("out/mine")
        >>> found = predictor(Image.open("street.jpg"), ["pothole", "manhole cover"])
        >>> found.detections["pothole"][0]["score"]
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
        """Where the thresholds come from, in words."""
        if self.options.score_threshold is not None:
            return f"{self.options.score_threshold:g} for all phrases"
        return f"{self.thresholds.rule}; {self.thresholds.default:g} for phrases without their own"

    def __call__(
        self,
        images: Image.Image | list[Image.Image],
        phrases: list[str],
        exemplars: Exemplars | list[Exemplars | None] | None = None,
    ) -> ImagePrediction | list[ImagePrediction]:
        """
        Args:
            images (`PIL.Image.Image` or a list of them): turned upright by their EXIF. phrases (`list[str]`): asked of each image in one
                vision pass; may be empty where there are exemplars.
            exemplars (`Exemplars` or a list, *optional*): shown beside each phrase, one for each image.

        Returns:
            `ImagePrediction`, or a list where `images` is one.

        Raises:
            `ValueError`: on an empty phrase, on nothing to ask, on boxes outside an image.
            `NonFiniteError`: If a prediction contains NaN or infinity; names image, phrase and tensor.
        """
        alone = isinstance(images, Image.Image)
        listed = [images] if alone else list(images)
        shown = [exemplars] * len(listed) if not isinstance(exemplars, list) else exemplars
        if len(shown) != len(listed):
            raise ValueError(f"`exemplars` has {len(shown)} entries for {len(listed)} images; give one each, or None")
        cut = self.options.tile_size, self.options.tile_overlap
        views = [views_of(image, str(i), self.resolution, *cut) for i, image in enumerate(listed)]
        found = self.predict(views, phrases, {v.name: e for v, e in zip(views, shown, strict=True) if e is not None})
        return found[0] if alone else found

    def predict(
        self, images: list[Views], phrases: list[str], exemplars: dict[str, Exemplars] | None = None
    ) -> list[ImagePrediction]:
        """As `__call__`, of images that were cut already; exemplars by their names."""
        exemplars = exemplars or {}
        texts = check_phrases(phrases)
        for views in images:
            check_exemplars(exemplars.get(views.name), views)
            if not texts and not any(exemplars[views.name].labels if views.name in exemplars else ()):
                raise ValueError(
                    f"there is nothing to ask of image {views.name!r}: give phrases, or exemplar boxes of what is wanted"
                )
        answers = {views.name: ImagePrediction(views.name, *views.size) for views in images}
        pieces: dict[tuple[str, str], list[Piece]] = {}
        every = [(views, view) for views in images for view in views.views]
        for begin in range(0, len(every), self.options.views_per_batch):
            batch = every[begin : begin + self.options.views_per_batch]
            for (views, view), text, presence, found in self._answer(batch, texts, exemplars):
                answer = answers[views.name]
                answer.presence[text] = max(presence, answer.presence.get(text, 0.0))
                listed = pieces.setdefault((views.name, text), [])
                for one in found:
                    moved = placed(one, view.window, views.size)
                    listed.append(Piece(moved, is_cut(moved["bbox"], view.window, views.size)))
        tiled = {views.name for views in images if len(views.views) > 1}
        for (name, text), listed in pieces.items():
            threshold = self.options.nms_iom if name not in tiled else self.options.nms_iom or SAME
            detections = [piece.detection for piece in listed]
            answers[name].detections[text] = suppress(listed, threshold) if threshold else detections
        return [answers[views.name] for views in images]

    def threshold(self, phrase: str) -> float:
        """The score from which on a detection is shown."""
        own = self.thresholds.of(phrase)
        return own if self.options.score_threshold is None else self.options.score_threshold

    @torch.inference_mode()
    def _answer(
        self, batch: list[tuple[Views, View]], phrases: list[str], exemplars: dict[str, Exemplars]
    ) -> Iterable[tuple[tuple[Views, View], str, float, list[dict]]]:
        """For each view and phrase: presence, and detections in px of the view."""
        token = self.options.geometry_token == "always"
        samples = []
        for number, (views, view) in enumerate(batch):
            texts = self._asks(views, view, phrases, exemplars.get(views.name))
            samples.append(
                Sample(
                    str(number), (view.window[3], view.window[2]), view.canvas, torch.zeros(0, 4), None, [], None,
                    [SamplePhrase(text, [], [], exhaustive=False, geometry_token=token) for text in texts],
                )
            )  # fmt: skip
        inputs = self._collate(samples)
        shown = [
            exemplars_in_view(exemplars.get(batch[image][0].name), *batch[image]) for image in inputs["pair_image"]
        ]
        inputs["input_boxes"], inputs["input_boxes_labels"] = pad_exemplars(shown)
        labels = inputs.pop("labels")
        for name in ("pair_instances", "pair_ignore", "pair_exhaustive"):
            del inputs[name]
        inputs = {name: v.to(self.device) if isinstance(v, torch.Tensor) else v for name, v in inputs.items()}
        answered = []

        def collect(prediction: PairPrediction):
            image = inputs["pair_image"][prediction.pair]
            text = labels[0]["phrases"][inputs["pair_phrase"][prediction.pair]]
            answered.append((batch[image], text, *self._detections(prediction, text, labels[image]["original_size"])))

        least = min((self.threshold(text) for text in labels[0]["phrases"]), default=_KEPT)
        keep = Keep(min(_KEPT, least), self.options.max_detections)
        try:
            self.model(**inputs, keep=keep, collect=collect)
        except NonFiniteOutputError as error:
            views, _ = batch[inputs["pair_image"][error.index]]
            text = labels[0]["phrases"][inputs["pair_phrase"][error.index]]
            raise NonFiniteError(describe_non_finite(error, f"{views.name!r}, phrase {text!r}")) from error
        return answered

    def _asks(self, views: Views, view: View, phrases: list[str], exemplars: Exemplars | None) -> list[str]:
        """What is asked of a view: the phrases, or where exemplars stand alone what they show, if the view shows one that is wanted."""
        if phrases or exemplars is None:
            return phrases
        return [VISUAL] if any(label for _, label in exemplars_in_view(exemplars, views, view)) else []

    def _detections(self, found: PairPrediction, text: str, size: tuple[int, int]) -> tuple[float, list[dict]]:
        presence = float(found.presence)
        scores = torch.tensor([self.thresholds.rescore(score, presence) for score in found.scores.tolist()])
        kept = torch.nonzero(scores >= self.threshold(text)).flatten()
        at = kept.to(found.scores.device)
        masks = None if found.masks is None else found.masks[at]
        return self.thresholds.presence(presence), to_detections(scores[kept], found.boxes_xyxy[at], masks, *size)


def describe_non_finite(error: NonFiniteOutputError, target: str) -> str:
    """
    Describe a non-finite prediction for a user.

    Args:
        error (`NonFiniteOutputError`): Of the model.
        target (`str`): Name of the image, and what was prompted.
    """
    return (
        f"image {target}: the prediction has NaN or infinity in `{error.tensor}`. The training of this model diverged, or the "
        "precision is too low: use an earlier checkpoint, or predict with `dtype: float32`"
    )


def check_phrases(phrases: list[str]) -> list[str]:
    """
    Distinct phrases without surrounding blanks.

    Raises:
        `ValueError`: on an empty one, or on a text in place of a list.
    """
    if isinstance(phrases, str):
        raise ValueError(f"`phrases` is the text {phrases!r}; give a list, [{phrases!r}]")
    texts = [str(phrase).strip() for phrase in phrases]
    if not all(texts):
        raise ValueError("`phrases` holds an empty one; name what is to be found")
    return list(dict.fromkeys(texts))
