"""Images, clicks and boxes to masks."""

from dataclasses import dataclass

import torch
from PIL import Image

from ..metrics.postprocess import masks_at, prompted_detection
from ..models.finite import NonFiniteError, NonFiniteOutputError
from ..models.outputs import ObjectPrediction
from ..ops.prompts import PADDING, ObjectPrompts
from .prompt_files import ObjectPrompt, check_prompts
from .sam3_predictor import ImagePrediction, Predictor, describe_non_finite
from .tiling import Views, views_of


@dataclass
class Sam2PredictOptions:
    """`views_per_batch` (`int`): images through the image encoder at once."""

    views_per_batch: int = 1

    tile_size, tile_overlap = None, 0.0  # prompts say where to look


class Sam2Predictor(Predictor):
    """
    A SAM 2 that answers: base, tuned, adapter, merged.

    Args:
        model (`Sam2ForPromptSegmentation` or `AdaptedSam`). processor (`Sam2Processor`). options (`Sam2PredictOptions`, *optional*).

    Examples:
        >>> predictor = Sam2Predictor.from_pretrained("out/sam2")
        >>> found = predictor(Image.open("street.jpg"), [ObjectPrompt(points=[[320, 240, 1]]), ObjectPrompt(box=[10, 20, 100, 80])])
        >>> found.detections["object"][0]["predicted_iou"]
    """

    family = "sam2"
    default_options = Sam2PredictOptions

    def __call__(
        self, images: Image.Image | list[Image.Image], prompts: list[ObjectPrompt] | list[list[ObjectPrompt]]
    ) -> ImagePrediction | list[ImagePrediction]:
        """
        Args:
            images (`PIL.Image.Image` or a list of them): turned upright by their EXIF. prompts (`list[ObjectPrompt]`): an object each; a list of such
                lists where `images` is one.

        Returns:
            `ImagePrediction`, or a list where `images` is one: detections by label, in the prompts' order, each with `predicted_iou`.

        Raises:
            `ValueError`: on prompts outside their image, or none.
            `NonFiniteError`: If a prediction contains NaN or infinity; names image, object and tensor.
        """
        alone = isinstance(images, Image.Image)
        listed, shown = ([images], [prompts]) if alone else (list(images), list(prompts))
        if len(listed) != len(shown):
            raise ValueError(
                f"`prompts` has {len(shown)} entries for {len(listed)} images; give a list of prompts for each"
            )
        if not all(shown):
            raise ValueError("`prompts` is empty: there is nothing to ask; give at least one for each image")
        views = [views_of(image, str(i), self.resolution) for i, image in enumerate(listed)]
        found = self.predict(views, [], {v.name: p for v, p in zip(views, shown, strict=True)})
        return found[0] if alone else found

    def predict(
        self, images: list[Views], phrases: list[str], prompts: dict[str, list[ObjectPrompt]]
    ) -> list[ImagePrediction]:
        """As `__call__`, of images that are on their canvas already; prompts by their names. `phrases` say nothing to SAM 2."""
        for views in images:
            check_prompts(prompts.get(views.name, []), views.name, views.size)
        answers = [ImagePrediction(views.name, *views.size) for views in images]
        size = self.options.views_per_batch
        for begin in range(0, len(images), size):
            self._answer(images[begin : begin + size], answers[begin : begin + size], prompts)
        return answers

    @torch.inference_mode()
    def _answer(
        self, images: list[Views], answers: list[ImagePrediction], prompts: dict[str, list[ObjectPrompt]]
    ) -> None:
        asked = [(i, one) for i, views in enumerate(images) for one in prompts.get(views.name, [])]
        if not asked:
            return
        canvases = torch.stack([views.views[0].canvas for views in images]).to(self.device)
        shown = as_tensors(asked, [views.size for views in images], self.resolution).to(self.device)
        found: dict[int, dict] = {}

        def collect(prediction: ObjectPrediction):
            answer = answers[asked[prediction.object][0]]
            mask = masks_at(prediction.masks[:1], answer.height, answer.width)[0]
            found[prediction.object] = prompted_detection(mask, float(prediction.ious[0]))

        try:
            self.model(pixel_values=canvases, prompts=shown, collect=collect)
        except NonFiniteOutputError as error:
            name = images[asked[error.index][0]].name
            number = sum(image == asked[error.index][0] for image, _ in asked[: error.index])
            raise NonFiniteError(describe_non_finite(error, f"{name!r}, object {number}")) from error
        for number, (image, prompt) in enumerate(asked):
            answers[image].detections.setdefault(prompt.label, []).append(found[number])


def as_tensors(asked: list[tuple[int, ObjectPrompt]], sizes: list[tuple[int, int]], side: int) -> ObjectPrompts:
    """
    Prompts in px of their images as the model takes them, boxes before points.

    Args:
        asked (`list[tuple[int, ObjectPrompt]]`): image and prompt. sizes (`list[tuple[int, int]]`): height and width of each image.
        side (`int`): of the canvas, px.
    """
    rows = []
    for image, prompt in asked:
        height, width = sizes[image]
        points = list(prompt.points)
        if prompt.box is not None:
            x, y, w, h = prompt.box
            points = [[max(x, 0), max(y, 0), 2], [min(x + w, width), min(y + h, height), 3], *points]
        rows.append([[px * side / width, py * side / height, kind] for px, py, kind in points])
    most = max(len(row) for row in rows)
    filled = torch.tensor([row + [[0.0, 0.0, PADDING]] * (most - len(row)) for row in rows], dtype=torch.float32)
    return ObjectPrompts(
        [image for image, _ in asked], filled[..., :2], filled[..., 2].long(), [len(row) for row in rows]
    )
