"""Trainer of SAM 3."""

import logging
from collections.abc import Callable
from pathlib import Path

from ..evaluation.predictions import Scored, count_rows
from ..metrics.thresholds import Thresholds, choose_thresholds
from ..models.lora import sam_of
from ..models.model_files import TRAINED_PHRASES
from ..models.outputs import Keep
from ..models.sam3.pairs import count_pairs
from ..optim.parameter_groups import sam3_schedule
from ..utils.json_files import write_json
from .evaluation_loop import ScoringTrainer


logger = logging.getLogger("sam_ft.run")


class Sam3Trainer(ScoringTrainer):
    """
    Trainer of [`Sam3ForConceptSegmentation`] with its matcher-based losses.

    Args:
        args: Positional arguments of [`ScoringTrainer`].
        criterion (`Callable`, *optional*): Function `criterion(outputs, targets, normalizers) -> (loss, parts)` that
            replaces that of the model; see [`Sam3Criterion`].
        keep (`Keep`, *optional*): Score threshold and number of the detections in an evaluation.
        kwargs: Keyword arguments of [`ScoringTrainer`].
    """

    def __init__(self, *args, criterion: Callable | None = None, keep: Keep | None = None, **kwargs):
        super().__init__(*args, count=_count, **kwargs)
        self._sam3 = sam_of(self.accelerator.unwrap_model(self.model))
        if criterion is not None:
            self._sam3.criterion = criterion
        self.keep = keep or Keep()
        self._thresholds: tuple[int, Thresholds] | None = None  # (step, thresholds)

    @property
    def with_masks(self) -> bool:
        """Whether masks are scored."""
        return self._sam3.with_masks

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        """Create the learning rate schedule that `lr_schedule` sets: the official one or one of Transformers."""
        if self.args.lr_schedule != "sam3":
            return super().create_scheduler(num_training_steps, optimizer)
        if self.lr_scheduler is None:
            self.lr_scheduler = sam3_schedule(
                optimizer or self.optimizer,
                num_training_steps,
                warmup=self.args.get_warmup_steps(num_training_steps),
                timescale=self.args.timescale_steps,
                cooldown=self.args.cooldown_steps,
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _predict(self, model, inputs):
        collect = self.store.collector(inputs)
        return model(**inputs, normalizers=self._eval_counts, keep=self.keep, collect=collect).loss

    def _count_all(self, rows):
        return count_rows(rows)

    def describe(self, batch) -> str:
        return f"{len(batch['labels'])} images, {len(batch['pair_image'])} phrases"

    def describe_target(self, inputs: dict, index: int) -> str:
        label = inputs["labels"][inputs["pair_image"][index]]
        return f"example {label['example_id']!r}, phrase {label['phrases'][inputs['pair_phrase'][index]]!r}"

    def evaluation_loop(self, dataloader, *args, **kwargs):
        token = "with" if dataloader.dataset.geometry_token else "without"
        logger.info("evaluating %d images, text-only prompts %s the geometry token", len(dataloader.dataset), token)
        return super().evaluation_loop(dataloader, *args, **kwargs)

    def _after_scoring(self, scored: Scored) -> None:
        chosen = choose_thresholds(scored.pairs, scored.kind, self.args.max_false_positives)
        self._thresholds = self.state.global_step, chosen

    @property
    def thresholds(self) -> Thresholds | None:
        """Score thresholds that the last evaluation chose."""
        return None if self._thresholds is None else self._thresholds[1]

    def _load_best_model(self):
        super()._load_best_model()
        self._thresholds = None  # They were chosen for other weights.

    def _save(self, output_dir=None, state_dict=None):
        """
        Save the weights as Trainer does, with the trained phrases and the thresholds chosen for these weights.

        A later evaluation needs the trained phrases to score other phrases separately.
        """
        super()._save(output_dir, state_dict)
        if self.args.should_save and self._thresholds is not None and self._thresholds[0] == self.state.global_step:
            self._thresholds[1].save(Path(output_dir or self.args.output_dir))
        if self.args.should_save and self.trained_phrases is not None:
            write_json(
                Path(output_dir or self.args.output_dir) / TRAINED_PHRASES, sorted(self.trained_phrases), indent=1
            )


def _count(batch: dict) -> tuple[int, int, int, int]:
    names = "labels", "pair_image", "pair_instances", "pair_ignore", "pair_exhaustive"
    return *count_pairs(*(batch[name] for name in names)), len(batch.get("soft_image", ()))
