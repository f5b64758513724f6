"""Predictor of SAM 3: masks of every instance, from phrases and exemplar boxes."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Self, cast, overload

import torch
from PIL import Image
from transformers import ProcessorMixin, Sam3Processor

from ..data.samples.collators import Sam3Collator
from ..data.samples.sample import Sample, SamplePhrase
from ..metrics.postprocess import to_detections
from ..metrics.thresholds import FILE as THRESHOLDS
from ..metrics.thresholds import Thresholds, read_thresholds
from ..models.finite import NonFiniteError, NonFiniteOutputError
from ..models.model_files import find_saved_file
from ..models.outputs import PairPrediction
from ..models.sam3.concepts import ConceptTokens
from ..models.sam3.model import Sam3ForConceptSegmentation
from ..models.sam3.steps import ConceptPredictionStep
from ..options.evaluation import DetectionLimits
from ..options.model import ModelOptions
from ..options.prediction import PredictOptions
from .exemplars import Exemplars, check_exemplars, convert_exemplars_to_view, pad_exemplars
from .nms import TILE_NMS_IOM, Piece, is_cut, move_to_image, suppress
from .phrases import check_phrases
from .predictor import ImagePrediction, Predictor, describe_non_finite
from .prompted_views import PreparedReferences, PromptedView, prompt_view
from .reference_canvas import MAX_REFERENCES, ReferenceCanvas
from .references import ReferenceImage, assign_phrases
from .tiling import Views, cut_views


if TYPE_CHECKING:
    from ..models.lora import AdaptedSam
    from .prediction_job import PredictionJob


_MIN_SCORE = 0.05  # equals the minimum score of the evaluation, on whose detections thresholds are chosen


class Sam3Predictor(Predictor[PredictOptions]):
    """
    Predictor of SAM 3: a base, a tuned model, an adapter, or a model with merged adapters.

    Args:
        model (`Sam3ForConceptSegmentation` or `AdaptedSam`): The model.
        processor (`Sam3Processor`): Its processor.
        thresholds (`Thresholds`, *optional*): Thresholds that are saved with the model.
        options (`PredictOptions`, *optional*): Options; the defaults if not given.

    Attributes:
        read_features (`Callable[[str], torch.Tensor | None]`, *optional*): Function that returns the precomputed ViT
            features `(h, w, C)` of an image by its name, which then is not encoded. Tiles are encoded always.

    Examples:
        >>> predictor = Sam3Predictor.from_pretrained("out/mine")
        >>> prediction = predictor(Image.open("street.jpg"), ["pothole", "manhole cover"])
        >>> prediction.detections["pothole"][0]["score"]
    """

    family = "sam3"
    default_options = PredictOptions

    def __init__(
        self,
        model: "Sam3ForConceptSegmentation | AdaptedSam",
        processor: Sam3Processor,
        thresholds: Thresholds | None = None,
        options: PredictOptions | None = None,
    ):
        super().__init__(model, processor, options)
        concepts = cast(ConceptTokens | None, self._sam.concepts)
        self.thresholds = add_concept_thresholds(thresholds or Thresholds(), concepts)
        self._collate = Sam3Collator(processor.tokenizer, concepts=None if concepts is None else concepts.index)
        self.read_features: Callable[[str], torch.Tensor | None] | None = None

    @classmethod
    def _assemble(
        cls,
        model: torch.nn.Module,
        processor: ProcessorMixin,
        source: ModelOptions,
        options: PredictOptions | None,
    ) -> Self:
        file = find_saved_file(source.model_name_or_path, THRESHOLDS, source.revision)
        thresholds = None if file is None else read_thresholds(file.parent)
        sam = cast("Sam3ForConceptSegmentation | AdaptedSam", model)
        return cls(sam, cast(Sam3Processor, processor), thresholds, options)

    def describe_thresholds(self) -> str:
        """Describe the origin of the thresholds in one line."""
        if self.options.score_threshold is not None:
            return f"{self.options.score_threshold:g} for all phrases"
        return f"{self.thresholds.rule}; {self.thresholds.default:.2f} for phrases without a threshold of their own"

    @property
    def tiling(self) -> tuple[int | None, float]:
        return self.options.tile_size, self.options.tile_overlap

    def predict_job(self, images: list[Views], job: "PredictionJob") -> list[ImagePrediction]:
        exemplars = cast(dict[str, Exemplars], job.prompts)
        return self.predict(images, job.phrases, exemplars, job.references)

    @overload
    def __call__(
        self,
        images: Image.Image,
        phrases: list[str],
        exemplars: Exemplars | None = None,
        exemplar_images: list[ReferenceImage] | None = None,
    ) -> ImagePrediction: ...

    @overload
    def __call__(
        self,
        images: list[Image.Image],
        phrases: list[str],
        exemplars: Exemplars | list[Exemplars | None] | None = None,
        exemplar_images: list[ReferenceImage] | None = None,
    ) -> list[ImagePrediction]: ...

    def __call__(
        self,
        images: Image.Image | list[Image.Image],
        phrases: list[str],
        exemplars: Exemplars | list[Exemplars | None] | None = None,
        exemplar_images: list[ReferenceImage] | None = None,
    ) -> ImagePrediction | list[ImagePrediction]:
        """
        Predict every instance of each phrase.

        Args:
            images (`PIL.Image.Image` or a list of them): Images; their EXIF orientation is applied.
            phrases (`list[str]`): Phrases that each image is prompted with, in one vision pass; may be empty if there
                are exemplars or references.
            exemplars (`Exemplars` or `list[Exemplars | None]`, *optional*): Exemplar boxes that are added to each
                phrase; for all images, or one entry per image.
            exemplar_images (`list[ReferenceImage]`, *optional*): Exemplar boxes in other images, used as
                `exemplar_method` of the options sets. Pass all images at once, so that they are encoded once.

        Returns:
            `ImagePrediction` or `list[ImagePrediction]`: The predictions; a list if `images` is a list.

        Raises:
            `ValueError`: If a phrase is empty, an image has no prompt, or a box lies outside its image.
            `NonFiniteError`: If a prediction contains NaN or infinity; names image, phrase and tensor.
        """
        image_list = [images] if isinstance(images, Image.Image) else list(images)
        per_image = [exemplars] * len(image_list) if not isinstance(exemplars, list) else exemplars
        if len(per_image) != len(image_list):
            raise ValueError(
                f"`exemplars` has {len(per_image)} entries for {len(image_list)} images; give one each, or None"
            )
        views = [cut_views(image, str(i), self.resolution, *self.tiling) for i, image in enumerate(image_list)]
        by_name = {v.name: e for v, e in zip(views, per_image, strict=True) if e is not None}
        references = None
        if exemplar_images is not None:
            references = self.prepare_references(exemplar_images, phrases)
            phrases = list(references.by_phrase)
        predictions = self.predict(views, phrases, by_name, references)
        return predictions[0] if isinstance(images, Image.Image) else predictions

    @torch.no_grad()
    def prepare_references(self, exemplar_images: list[ReferenceImage], phrases: list[str]) -> PreparedReferences:
        """
        Prepare references for `predict`: encode them, or choose the layout of the canvas.

        Args:
            exemplar_images (`list[ReferenceImage]`): The references.
            phrases (`list[str]`): Phrases of the prediction; may be empty, see [`assign_phrases`].

        Raises:
            `ValueError`: If a phrase is missing or unknown, or has more references than the canvas has cells.
        """
        by_phrase = assign_phrases(exemplar_images, phrases)
        if self.options.exemplar_method == "canvas":
            crowded = next((text for text, images in by_phrase.items() if len(images) > MAX_REFERENCES), None)
            if crowded is not None:
                raise ValueError(
                    f"`exemplar_images`: {crowded!r} has {len(by_phrase[crowded])} reference images, but a canvas "
                    f"takes {MAX_REFERENCES}. Leave some out, or set `exemplar_method: tokens`"
                )
            patch = self._sam.config.vision_config.backbone_config.patch_size
            return PreparedReferences(by_phrase, canvas=ReferenceCanvas(self.resolution, patch))
        tokens = {
            text: torch.cat(list(map(self._encode_reference, images))) for text, images in by_phrase.items() if images
        }
        return PreparedReferences(by_phrase, tokens)

    def _encode_reference(self, reference: ReferenceImage) -> torch.Tensor:
        """Encode a reference to tokens `(K + 1, C)`, as the exemplars of an image that is predicted."""
        views = cut_views(reference.image, reference.name, self.resolution)
        exemplars = convert_exemplars_to_view(reference.exemplars, views, views.views[0])
        boxes, labels = pad_exemplars([exemplars])
        with self.autocast():
            sam = cast(Sam3ForConceptSegmentation, self._sam)
            return sam.encode_exemplars(views.views[0].canvas[None].to(self.device), boxes, labels)

    def predict(
        self,
        images: list[Views],
        phrases: list[str],
        exemplars: dict[str, Exemplars] | None = None,
        references: PreparedReferences | None = None,
    ) -> list[ImagePrediction]:
        """Predict images that are cut into views already, with exemplars by image name; see `__call__`."""
        exemplars, references = exemplars or {}, references or PreparedReferences()
        texts = check_phrases(phrases)
        for views in images:
            check_exemplars(exemplars.get(views.name), views.name, views.size)
            if not texts and not any(exemplars[views.name].labels if views.name in exemplars else ()):
                raise ValueError(
                    f"image {views.name!r} has no prompt; give phrases, or at least one positive exemplar box"
                )
        predictions = {views.name: ImagePrediction(views.name, *views.size) for views in images}
        pieces: dict[tuple[str, str], list[Piece]] = {}
        inputs = (
            prompted
            for views in images
            for view in views.views
            for prompted in prompt_view(views, view, texts, exemplars.get(views.name), references)
        )
        while batch := list(itertools.islice(inputs, self.options.views_per_batch)):
            for prompted, text, presence, detections in self._predict_batch(batch, references):
                name, size, window = prompted.views.name, prompted.views.size, prompted.view.window
                prediction = predictions[name]
                prediction.presence[text] = max(presence, prediction.presence.get(text, 0.0))
                phrase_pieces = pieces.setdefault((name, text), [])
                for detection in detections:
                    moved = move_to_image(detection, window, size)
                    phrase_pieces.append(Piece(moved, is_cut(moved["bbox"], window, size)))
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

    @torch.no_grad()  # Transformers caches position encodings, and training cannot use tensors of inference mode.
    def _predict_batch(
        self, batch: list[PromptedView], references: PreparedReferences
    ) -> Iterable[tuple[PromptedView, str, float, list[dict]]]:
        """Predict one batch; return prompted view, phrase, presence, and detections in px of the view."""
        token = self.options.geometry_token == "always"
        features = self._read_features(batch)
        samples = [
            Sample(
                example_id=str(number),
                original_size=(prompted.view.window[3], prompted.view.window[2]),
                image=prompted.pixels,
                boxes=torch.zeros(0, 4),
                masks=None,
                has_mask=[],
                phrases=[
                    SamplePhrase(text, [], [], exhaustive=False, geometry_token=token) for text in prompted.phrases
                ],
                features=None if features is None else features[number],
            )
            for number, prompted in enumerate(batch)
        ]
        inputs = self._collate(samples)
        pair_exemplars = [batch[image].exemplars for image in inputs["pair_image"]]
        inputs["input_boxes"], inputs["input_boxes_labels"] = pad_exemplars(pair_exemplars)
        labels = inputs.pop("labels")
        inputs |= references.pad_tokens(labels[0]["phrases"])
        for name in ("pair_instances", "pair_ignore", "pair_exhaustive"):
            del inputs[name]
        inputs = {name: v.to(self.device) if isinstance(v, torch.Tensor) else v for name, v in inputs.items()}
        results = []

        def collect(prediction: PairPrediction):
            image = inputs["pair_image"][prediction.pair]
            if batch[image].canvas is not None:
                prediction = batch[image].canvas.cut_out_target(prediction)
            text = labels[0]["phrases"][inputs["pair_phrase"][prediction.pair]]
            results.append(
                (batch[image], text, *self._to_detections(prediction, text, labels[image]["original_size"]))
            )

        lowest = min((self.threshold(text) for text in labels[0]["phrases"]), default=_MIN_SCORE)
        limits = DetectionLimits(min(_MIN_SCORE, lowest), self.options.max_detections)
        try:
            with self.autocast():
                self.model(**inputs, step=ConceptPredictionStep(limits, collect))
        except NonFiniteOutputError as error:
            views = batch[inputs["pair_image"][error.index]].views
            text = labels[0]["phrases"][inputs["pair_phrase"][error.index]]
            raise NonFiniteError(describe_non_finite(error, f"{views.name!r}, phrase {text!r}")) from error
        return results

    def _read_features(self, batch: list[PromptedView]) -> list[torch.Tensor] | None:
        """Return the precomputed features of a batch; `None` if one of its views has none."""
        if self.read_features is None or any(p.canvas is not None or len(p.views.views) > 1 for p in batch):
            return None
        features = [self.read_features(prompted.views.name) for prompted in batch]
        read = [f for f in features if f is not None]
        return read if len(read) == len(features) else None

    def _to_detections(self, output: PairPrediction, text: str, size: tuple[int, int]) -> tuple[float, list[dict]]:
        """Calibrate the scores of a pair and select the detections above the phrase's threshold."""
        presence = float(output.presence)
        scores = torch.tensor([self.thresholds.rescore(score, presence, text) for score in output.scores.tolist()])
        selected = torch.nonzero(scores >= self.threshold(text)).flatten()
        at = selected.to(output.scores.device)
        masks = None if output.masks is None else output.masks[at]
        detections = to_detections(scores[selected], output.boxes_xyxy[at], masks, *size)
        return self.thresholds.presence(presence, text), detections


def add_concept_thresholds(thresholds: Thresholds, concepts: ConceptTokens | None) -> Thresholds:
    """
    Add the score thresholds that are saved with concepts.

    Args:
        thresholds (`Thresholds`): Thresholds of the model; they take precedence.
        concepts (`ConceptTokens`, *optional*): Concepts of the model.
    """
    entries = [] if concepts is None else concepts.info.concepts
    added = {e.phrase: e.threshold for e in entries if e.threshold is not None and e.phrase not in thresholds.phrases}
    without_fit = added and thresholds.rule == Thresholds.rule
    return replace(
        thresholds,
        rule="those saved with the concepts" if without_fit else thresholds.rule,
        phrases=thresholds.phrases | added,
        temperatures=thresholds.temperatures | {e.phrase: e.temperature for e in entries if e.phrase in added},
    )
