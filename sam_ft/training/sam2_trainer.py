"""Trainer of SAM 2."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers import Sam2Processor

from ..models.sam2.steps import PromptTrainingStep
from ..utils.text import count_noun
from .base_trainer import SamTrainer
from .sam2_evaluator import Sam2Evaluator


logger = logging.getLogger("sam_ft.run")


class Sam2Trainer(SamTrainer):
    """
    Trainer of [`Sam2ForPromptSegmentation`] on rounds of prompts.

    Args:
        *args (`Any`): Positional arguments of [`SamTrainer`].
        criterion (`Callable`, *optional*): Function `criterion(rounds, targets, num_objects) -> (loss, parts)`; see
            [`Sam2Criterion`], the default.
        gate_absent (`bool`): Suppress the masks of objects predicted as absent in training, default false.
        first_prompt (`str`): First prompt of results, pictures and `object_IoU`: `point` or `box`.
        clicks (`int`): Number of clicks per object in an evaluation.
        processing_class (`Sam2Processor`, *optional*): Processor that is saved with the weights.
        **kwargs (`Any`): Keyword arguments of [`SamTrainer`].
    """

    def __init__(
        self,
        *args: Any,
        criterion: Callable | None = None,
        gate_absent: bool = False,
        first_prompt: str = "point",
        clicks: int = 5,
        processing_class: Sam2Processor | None = None,
        **kwargs: Any,
    ):
        # The processor is not passed on, because Trainer would look for its tokenizer, which SAM 2 has not.
        super().__init__(*args, **kwargs)
        self.train_step = PromptTrainingStep(criterion, gate_absent=gate_absent)
        self.evaluator = Sam2Evaluator(self, first_prompt, clicks)
        self.processor = processing_class
        self._has_warned = False

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, torch.Tensor | int | None]:
        batches, counts = super().get_batch_samples(epoch_iterator, num_batches, device)
        if batches and not any(len(batch["prompts"]) for batch in batches) and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "the images of a step show no object with a mask and do not change the weights; the first is %r",
                batches[0]["labels"][0]["example_id"],
            )
        return batches, counts

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """Save the weights as Trainer does, and the processor."""
        super()._save(output_dir, state_dict)
        if self.args.should_save and self.processor is not None:
            self.processor.save_pretrained(output_dir or self.args.output_dir)

    def _count_batch(self, batch: dict) -> tuple[float, ...]:
        return (len(batch["prompts"]),)

    def describe(self, batch: dict) -> str:
        """Describe a training batch for the log."""
        prompts = batch["prompts"]
        return ", ".join(
            (
                count_noun(len(batch["labels"]), "image"),
                f"{count_noun(len(prompts), 'object')} prompted",
                count_noun(prompts.rounds, "round"),
            )
        )
