"""Predictor of SAM 2: masks of the objects in images, from clicks and boxes."""

from typing import TYPE_CHECKING, cast, overload

import torch
from PIL import Image

from ..metrics.postprocess import masks_at, prompted_detection
from ..models.finite import NonFiniteError, NonFiniteOutputError
from ..models.outputs import ObjectPrediction
from ..models.sam2.steps import PromptPredictionStep
from ..ops.prompts import PADDING_LABEL, ObjectPrompts
from ..options.prediction import Sam2PredictOptions
from .predictor import ImagePrediction, Predictor, describe_non_finite
from .prompt_files import ObjectPrompt, check_prompts
from .tiling import Views, cut_views


if TYPE_CHECKING:
    from .prediction_job import PredictionJob


class Sam2Predictor(Predictor[Sam2PredictOptions]):
    """
    Predictor of SAM 2: a base, a tuned model, an adapter, or a model with merged adapters.

    Args:
        model (`Sam2ForPromptSegmentation` or `AdaptedSam`): The model.
        processor (`Sam2Processor`): Its processor.
        options (`Sam2PredictOptions`, *optional*): Options; the defaults if not given.

    Examples:
        >>> predictor = Sam2Predictor.from_pretrained("out/sam2")
        >>> prompts = [ObjectPrompt(points=[[320, 240, 1]]), ObjectPrompt(box=[10, 20, 100, 80])]
        >>> prediction = predictor(Image.open("street.jpg"), prompts)
        >>> prediction.detections["object"][0]["predicted_iou"]
    """

    family = "sam2"
    default_options = Sam2PredictOptions

    @overload
    def __call__(self, images: Image.Image, prompts: list[ObjectPrompt]) -> ImagePrediction: ...

    @overload
    def __call__(self, images: list[Image.Image], prompts: list[list[ObjectPrompt]]) -> list[ImagePrediction]: ...

    def __call__(
        self, images: Image.Image | list[Image.Image], prompts: list[ObjectPrompt] | list[list[ObjectPrompt]]
    ) -> ImagePrediction | list[ImagePrediction]:
        """
        Predict the mask of each prompted object.

        Args:
            images (`PIL.Image.Image` or a list of them): Images; their EXIF orientation is applied.
            prompts (`list[ObjectPrompt]` or `list[list[ObjectPrompt]]`): One prompt per object; a list of them per
                image if `images` is a list.

        Returns:
            `ImagePrediction` or `list[ImagePrediction]`: Detections by label, in the order of the prompts, each with
                `predicted_iou`; a list if `images` is a list.

        Raises:
            `ValueError`: If an image has no prompt, or a prompt lies outside its image.
            `NonFiniteError`: If a prediction contains NaN or infinity; names image, object and tensor.
        """
        image_list = [images] if isinstance(images, Image.Image) else list(images)
        # One list of prompts belongs to one image, and lists of them to several.
        prompt_lists = cast(list[list[ObjectPrompt]], [prompts] if isinstance(images, Image.Image) else list(prompts))
        if len(image_list) != len(prompt_lists):
            raise ValueError(
                f"`prompts` has {len(prompt_lists)} entries for {len(image_list)} images; give one list per image"
            )
        if not all(prompt_lists):
            raise ValueError("`prompts` is empty; give at least one prompt for each image")
        views = [cut_views(image, str(i), self.resolution) for i, image in enumerate(image_list)]
        predictions = self.predict(views, {v.name: p for v, p in zip(views, prompt_lists, strict=True)})
        return predictions[0] if isinstance(images, Image.Image) else predictions

    def predict_job(self, images: list[Views], job: "PredictionJob") -> list[ImagePrediction]:
        return self.predict(images, cast(dict[str, list[ObjectPrompt]], job.prompts))

    def predict(self, images: list[Views], prompts: dict[str, list[ObjectPrompt]]) -> list[ImagePrediction]:
        """
        Predict images that are on their canvas already; see `__call__`.

        Args:
            images (`list[Views]`): Images.
            prompts (`dict[str, list[ObjectPrompt]]`): Prompts by image name.

        Returns:
            `list[ImagePrediction]`: One prediction per image.
        """
        for views in images:
            check_prompts(prompts.get(views.name, []), views.name, views.size)
        predictions = [ImagePrediction(views.name, *views.size) for views in images]
        size = self.options.views_per_batch
        for begin in range(0, len(images), size):
            self._predict_batch(images[begin : begin + size], predictions[begin : begin + size], prompts)
        return predictions

    @torch.no_grad()  # Transformers caches position encodings, and training cannot use tensors of inference mode.
    def _predict_batch(
        self, images: list[Views], predictions: list[ImagePrediction], prompts: dict[str, list[ObjectPrompt]]
    ) -> None:
        """Predict one batch and add its detections to `predictions`."""
        objects = [(i, prompt) for i, views in enumerate(images) for prompt in prompts.get(views.name, [])]
        if not objects:
            return
        canvases = torch.stack([views.views[0].canvas for views in images]).to(self.device)
        sizes = [views.size for views in images]
        prompt_tensors = convert_prompts_to_tensors(objects, sizes, self.resolution).to(self.device)
        detections: dict[int, dict] = {}

        def collect(output: ObjectPrediction):
            image = predictions[objects[output.object][0]]
            mask = masks_at(output.masks[:1], image.height, image.width)[0]
            detections[output.object] = prompted_detection(mask, float(output.ious[0]))

        try:
            with self.autocast():
                self.model(pixel_values=canvases, prompts=prompt_tensors, step=PromptPredictionStep(collect))
        except NonFiniteOutputError as error:
            name = images[objects[error.index][0]].name
            number = sum(image == objects[error.index][0] for image, _ in objects[: error.index])
            raise NonFiniteError(describe_non_finite(error, f"{name!r}, object {number}")) from error
        for number, (image, prompt) in enumerate(objects):
            predictions[image].detections.setdefault(prompt.label, []).append(detections[number])


def convert_prompts_to_tensors(
    objects: list[tuple[int, ObjectPrompt]], sizes: list[tuple[int, int]], side: int
) -> ObjectPrompts:
    """
    Convert prompts in px of their images to the model's tensors, the corners of a box before the clicks.

    Args:
        objects (`list[tuple[int, ObjectPrompt]]`): Index of the image, and prompt, of each object.
        sizes (`list[tuple[int, int]]`): Height and width of each image, px.
        side (`int`): Side of the canvas, px.

    Returns:
        `ObjectPrompts`: Points in px of the canvas, padded to one length.
    """
    rows = []
    for image, prompt in objects:
        height, width = sizes[image]
        points = list(prompt.points)
        if prompt.box is not None:
            x, y, w, h = prompt.box
            points = [[max(x, 0), max(y, 0), 2], [min(x + w, width), min(y + h, height), 3], *points]
        rows.append([[px * side / width, py * side / height, kind] for px, py, kind in points])
    length = max(len(row) for row in rows)
    padding = [0.0, 0.0, PADDING_LABEL]
    padded = torch.tensor([row + [padding] * (length - len(row)) for row in rows], dtype=torch.float32)
    return ObjectPrompts(
        [image for image, _ in objects], padded[..., :2], padded[..., 2].long(), [len(row) for row in rows]
    )
