"""The Trainer of SAM 2."""

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
    Trains [`Sam2ForPromptSegmentation`] on rounds of prompts, and evaluates it as a person would use it: by a click at the centre of each object,
    corrected where the mask is wrong, and by its box.

    Args:
        first_prompt (`str`): `point` or `box`: by which results, pictures and `object_IoU` are. clicks (`int`): rounds of an evaluation.
        Everything else as in [`ScoringTrainer`].
    """

    def __init__(self, *args, first_prompt: str = "point", clicks: int = 5, processing_class=None, **kwargs):
        # Trainer would look for the processor's tokenizer, which SAM 2 has not
        super().__init__(*args, count=_count, **kwargs)
        self.processor, self.first_prompt, self.clicks = processing_class, first_prompt, clicks
        self._told = False

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        batches, counts = super().get_batch_samples(epoch_iterator, num_batches, device)
        if batches and not any(len(batch["prompts"]) for batch in batches) and not self._told:
            self._told = True
            logger.warning(
                "a step's images show no object with a mask (the first: %r): nothing is learned from them",
                batches[0]["labels"][0]["example_id"],
            )
        return batches, counts

    def _save(self, output_dir=None, state_dict=None):
        """As Trainer's; beside the weights, the processor."""
        super()._save(output_dir, state_dict)
        if self.args.should_save and self.processor is not None:
            self.processor.save_pretrained(output_dir or self.args.output_dir)

    def _predict(self, model, inputs):
        answers = _Answers(inputs, self.store, self.first_prompt, self.clicks)
        return model(**inputs, normalizers=self._eval_counts, clicks=self.clicks, collect=answers.add).loss

    def _count_all(self, rows):
        return (sum(len(objects_of(row)) for row in rows),)

    def describe(self, batch) -> str:
        return f"{len(batch['labels'])} images, {len(batch['prompts'])} objects prompted, {batch['prompts'].rounds} rounds"

    def describe_target(self, inputs: dict, index: int) -> str:
        objects = [(label["example_id"], instance) for label in inputs["labels"] for instance in label["instances"]]
        return "example {!r}, instance {}".format(*objects[index])

    def _drawn(self):
        return {f"{self.clicks} clicks": self.store.corrected} if self.clicks > 1 else {}

    def evaluation_loop(self, dataloader, *args, **kwargs):
        logger.info("evaluating %d images: 1 to %d clicks, and a box", len(dataloader.dataset), self.clicks)
        return super().evaluation_loop(dataloader, *args, **kwargs)


class _Answers:
    """Puts the answers to a batch into a store: as detections under every phrase that names the object, and by IoU."""

    def __init__(self, batch: dict, store, first_prompt: str, clicks: int):
        self.labels, self.store, self.first_prompt = batch["labels"], store, first_prompt
        self.boxes = batch["box_prompts"]
        self.objects = []  # of the batch, in the prompts' order: label and truth
        for label in self.labels:
            truth = {one.instance: one for one in label["truth"]}
            self.objects += [(label, truth[i]) for i in label["instances"]]
            for i in truth.keys() - set(label["instances"]):
                area = mask_area(truth[i].counts, *label["original_size"])
                store.objects[label["example_id"], i] = ObjectScore.missing(area, clicks)

    def add(self, found: ObjectPrediction) -> None:
        label, truth = self.objects[found.object]
        size = label["original_size"]
        target = decode_mask(truth.counts, *size)
        masks = masks_at(torch.cat([found.masks, found.candidates, found.box_mask[None]]), *size)
        by_click, candidates, by_box = np.split(masks, [len(found.masks), -1])
        boxed = self.first_prompt == "box"
        mask, predicted = (by_box[0], float(found.box_iou)) if boxed else (by_click[0], float(found.ious[0]))
        self.store.objects[label["example_id"], truth.instance] = ObjectScore(
            float(target.sum()), [mask_iou(one, target) for one in by_click], mask_iou(by_box[0], target),
            max(mask_iou(one, target) for one in candidates), *mask_quality(mask, target), predicted,
        )  # fmt: skip
        if boxed:
            points, labels = self.boxes.points[found.object, :2], self.boxes.labels[found.object, :2]
        else:
            points, labels = found.points[:1], found.labels[:1]
        first = prompted_detection(mask, predicted) | {"prompt": _on_image(points, labels, label)}
        last = prompted_detection(by_click[-1], float(found.ious[-1]))
        last["prompt"] = _on_image(found.points, found.labels, label)
        for phrase in truth.phrases:
            key = label["example_id"], phrase
            self.store.detections.setdefault(key, []).append(first)
            self.store.corrected.setdefault(key, []).append(last)


def _on_image(points: torch.Tensor, labels: torch.Tensor, label: dict) -> list[list[float]]:
    """Points `(k, 2)` in px of the canvas as `[x, y, label]` in px of the image."""
    height, width = label["original_size"]
    scale = np.array([width, height]) / label["masks"].shape[-1]
    moved = ((points.cpu().numpy() + 0.5) * scale).tolist()
    return [[*point, kind] for point, kind in zip(moved, labels.tolist(), strict=True)]


def _count(batch: dict) -> tuple[int]:
    return (len(batch["prompts"]),)
