"""The Trainer of SAM 2."""

import logging

import numpy as np
import torch

from ..data.clicks import objects_of
from ..metrics.objects import ObjectScore
from ..metrics.postprocess import masks_at, prompted_detection
from ..metrics.regions import mask_iou, mask_quality
from ..models.outputs import ObjectPrediction
from ..ops.masks import decode_mask, mask_area
from .scoring import ScoringTrainer


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

    def evaluation_loop(self, dataloader, *args, **kwargs):
        logger.info("evaluating %d images: 1 to %d clicks, and a box", len(dataloader.dataset), self.clicks)
        return super().evaluation_loop(dataloader, *args, **kwargs)


class _Answers:
    """Puts the answers to a batch into a store: as detections under every phrase that names the object, and by IoU."""

    def __init__(self, batch: dict, store, first_prompt: str, clicks: int):
        self.labels, self.store, self.first_prompt = batch["labels"], store, first_prompt
        self.prompts, self.boxes = batch["prompts"], batch["box_prompts"]
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
        detection = prompted_detection(mask, predicted) | {"prompt": self._prompt(found.object, label, boxed)}
        for phrase in truth.phrases:
            self.store.detections.setdefault((label["example_id"], phrase), []).append(detection)

    def _prompt(self, number: int, label: dict, boxed: bool) -> list[list[float]]:
        """What was shown: `[x, y, label]` of each point, px of the image."""
        prompts, (height, width) = self.boxes if boxed else self.prompts, label["original_size"]
        scale = np.array([width, height]) / label["masks"].shape[-1]
        points = (prompts.points[number, : prompts.number[number]].cpu().numpy() + 0.5) * scale
        return [[*point, kind] for point, kind in zip(points.tolist(), prompts.labels[number].tolist(), strict=False)]


def _count(batch: dict) -> tuple[int]:
    return (len(batch["prompts"]),)
