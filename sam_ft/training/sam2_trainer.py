"""Trainer of SAM 2."""

import logging

import numpy as np
import torch

from ..data.samples.object_prompts import objects_of
from ..metrics.objects import ObjectScore
from ..metrics.postprocess import masks_at, prompted_detection
from ..metrics.regions import mask_iou, mask_quality
from ..models.outputs import ObjectPrediction
from ..ops.masks import decode_mask, mask_area
from .evaluation_loop import ScoringTrainer


logger = logging.getLogger("sam_ft.run")


class Sam2Trainer(ScoringTrainer):
    """
    Trainer of [`Sam2ForPromptSegmentation`] on rounds of prompts.

    An evaluation prompts each object with a click at its centre, then with corrective clicks where the mask is wrong,
    and separately with its box.

    Args:
        args: Positional arguments of [`ScoringTrainer`].
        first_prompt (`str`): First prompt of results, pictures and `object_IoU`: `point` or `box`.
        clicks (`int`): Number of clicks per object in an evaluation.
        processing_class (`Sam2Processor`, *optional*): Processor that is saved with the weights.
        kwargs: Keyword arguments of [`ScoringTrainer`].
    """

    def __init__(self, *args, first_prompt: str = "point", clicks: int = 5, processing_class=None, **kwargs):
        # The processor is not passed on, because Trainer would look for its tokenizer, which SAM 2 has not.
        super().__init__(*args, count=_count, **kwargs)
        self.processor, self.first_prompt, self.clicks = processing_class, first_prompt, clicks
        self._has_warned = False

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        batches, counts = super().get_batch_samples(epoch_iterator, num_batches, device)
        if batches and not any(len(batch["prompts"]) for batch in batches) and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "the images of a step show no object with a mask and do not change the weights; the first is %r",
                batches[0]["labels"][0]["example_id"],
            )
        return batches, counts

    def _save(self, output_dir=None, state_dict=None):
        """Save the weights as Trainer does, and the processor."""
        super()._save(output_dir, state_dict)
        if self.args.should_save and self.processor is not None:
            self.processor.save_pretrained(output_dir or self.args.output_dir)

    def _predict(self, model, inputs):
        collector = _ObjectCollector(inputs, self.store, self.first_prompt, self.clicks)
        return model(**inputs, normalizers=self._eval_counts, clicks=self.clicks, collect=collector.add).loss

    def _count_all(self, rows):
        return (sum(len(objects_of(row)) for row in rows),)

    def describe(self, batch) -> str:
        prompts = batch["prompts"]
        return f"{len(batch['labels'])} images, {len(prompts)} objects prompted, {prompts.rounds} rounds"

    def describe_target(self, inputs: dict, index: int) -> str:
        objects = [(label["example_id"], instance) for label in inputs["labels"] for instance in label["instances"]]
        return "example {!r}, instance {}".format(*objects[index])

    def _extra_detections(self):
        return {f"{self.clicks} clicks": self.store.corrected} if self.clicks > 1 else {}

    def evaluation_loop(self, dataloader, *args, **kwargs):
        logger.info("evaluating %d images: 1 to %d clicks, and a box", len(dataloader.dataset), self.clicks)
        return super().evaluation_loop(dataloader, *args, **kwargs)


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
    scale = np.array([width, height]) / label["masks"].shape[-1]
    image_points = ((points.cpu().numpy() + 0.5) * scale).tolist()
    return [[*point, kind] for point, kind in zip(image_points, labels.tolist(), strict=True)]


def _count(batch: dict) -> tuple[int]:
    return (len(batch["prompts"]),)
