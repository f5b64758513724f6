"""Evaluation of SAM 2: a first click, corrective clicks and a box for each object."""

import numpy as np
import torch

from ..data.samples.object_prompts import objects_of
from ..metrics.objects import ObjectScore
from ..metrics.postprocess import masks_at, prompted_detection
from ..metrics.regions import mask_iou, mask_quality
from ..models.outputs import ObjectPrediction
from ..models.sam2.steps import PromptEvaluationStep
from ..ops.masks import decode_mask, mask_area
from .evaluator import Evaluator


class Sam2Evaluator(Evaluator):
    """
    Evaluation of [`Sam2ForPromptSegmentation`] on the prompts of each object.

    Each object is prompted with a click at its centre, then with corrective clicks where the mask is wrong, and
    separately with its box.

    Args:
        trainer (`Sam2Trainer`): Trainer that runs the model.
        first_prompt (`str`): First prompt of results, pictures and `object_IoU`: `point` or `box`.
        clicks (`int`): Number of clicks per object.
    """

    def __init__(self, trainer, first_prompt: str, clicks: int):
        super().__init__(trainer)
        self.first_prompt, self.clicks = first_prompt, clicks

    def predict_batch(self, model, inputs: dict) -> torch.Tensor:
        """Run the model once, store its predictions, and return the batch's share of the evaluation loss."""
        collector = _ObjectCollector(inputs, self.store, self.first_prompt, self.clicks)
        step = PromptEvaluationStep(self.trainer.train_step.criterion, self.clicks, collector.add)
        return model(**inputs, normalizers=self.normalizers, step=step).loss

    def count_rows(self, rows) -> tuple[float, ...]:
        """Return the loss normalizer of a whole evaluation: the number of objects."""
        return (sum(len(objects_of(row)) for row in rows),)

    def describe_samples(self, samples) -> str:
        """Describe evaluation samples and their prompts for the log."""
        return f"{len(samples)} images: 1 to {self.clicks} clicks, and a box"

    def describe_target(self, inputs: dict, index: int) -> str:
        """Describe an object of an evaluation batch, for errors."""
        objects = [(label["example_id"], instance) for label in inputs["labels"] for instance in label["instances"]]
        return "example {!r}, instance {}".format(*objects[index])

    def list_extra_detections(self) -> dict[str, dict]:
        """Return the detections after all clicks, by title."""
        return {f"{self.clicks} clicks": self.store.corrected} if self.clicks > 1 else {}


class _ObjectCollector:
    """
    Collector of the predictions of a batch: IoUs by object, and detections under each phrase that names the object.

    Args:
        batch (`dict`): Evaluation batch.
        store (`PredictionStore`): Target of the predictions.
        first_prompt (`str`): `point` or `box`.
        clicks (`int`): Number of clicks per object.
    """

    def __init__(self, batch: dict, store, first_prompt: str, clicks: int):
        self.labels, self.store, self.first_prompt = batch["labels"], store, first_prompt
        self.boxes = batch["box_prompts"]
        self.objects = []  # (label, ground truth) of each object of the batch, in the order of the prompts
        for label in self.labels:
            truth = {true_object.instance: true_object for true_object in label["truth"]}
            self.objects += [(label, truth[i]) for i in label["instances"]]
            for i in truth.keys() - set(label["instances"]):
                area = mask_area(truth[i].counts, *label["original_size"])
                store.objects[label["example_id"], i] = ObjectScore.missing(area, clicks)

    def add(self, prediction: ObjectPrediction) -> None:
        """Score and store the prediction of one object."""
        label, truth = self.objects[prediction.object]
        size = label["original_size"]
        target = decode_mask(truth.counts, *size)
        masks = masks_at(torch.cat([prediction.masks, prediction.candidates, prediction.box_mask[None]]), *size)
        by_click, candidates, by_box = np.split(masks, [len(prediction.masks), -1])
        with_box = self.first_prompt == "box"
        mask, predicted_iou = by_click[0], float(prediction.ious[0])
        if with_box:
            mask, predicted_iou = by_box[0], float(prediction.box_iou)
        self.store.objects[label["example_id"], truth.instance] = ObjectScore(
            float(target.sum()), [mask_iou(clicked, target) for clicked in by_click], mask_iou(by_box[0], target),
            max(mask_iou(candidate, target) for candidate in candidates), *mask_quality(mask, target), predicted_iou,
        )  # fmt: skip
        if with_box:
            points, labels = self.boxes.points[prediction.object, :2], self.boxes.labels[prediction.object, :2]
        else:
            points, labels = prediction.points[:1], prediction.labels[:1]
        first = prompted_detection(mask, predicted_iou) | {"prompt": _on_image(points, labels, label)}
        last = prompted_detection(by_click[-1], float(prediction.ious[-1]))
        last["prompt"] = _on_image(prediction.points, prediction.labels, label)
        for phrase in truth.phrases:
            key = label["example_id"], phrase
            self.store.detections.setdefault(key, []).append(first)
            self.store.corrected.setdefault(key, []).append(last)


def _on_image(points: torch.Tensor, labels: torch.Tensor, label: dict) -> list[list[float]]:
    """Convert points `(k, 2)` in px of the model's input to `[x, y, label]` in px of the image."""
    height, width = label["original_size"]
    scale = np.array([width, height]) / label["masks"].shape[-2]
    image_points = ((points.cpu().numpy() + 0.5) * scale).tolist()
    return [[*point, kind] for point, kind in zip(image_points, labels.tolist(), strict=True)]
