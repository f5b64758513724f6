"""Trainer of SAM 3."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch

from ..metrics.thresholds import Thresholds
from ..models.model_files import TRAINED_PHRASES
from ..models.sam3.concept_files import read_concepts, restore_concepts, write_concepts
from ..models.sam3.concepts import ConceptTokens
from ..models.sam3.pairs import count_pairs
from ..models.sam3.steps import ConceptTrainingStep
from ..models.sam3.teacher import Teacher
from ..models.unwrapping import unwrap_sam
from ..optim.parameter_groups import build_sam3_schedule
from ..options.concepts import CONCEPT_INFO, CONCEPT_WEIGHTS
from ..options.evaluation import DetectionLimits
from ..utils.json_files import write_json
from ..utils.text import count_noun
from .base_trainer import SamTrainer
from .sam3_evaluator import Sam3Evaluator
from .trainer_checks import check_distillation
from .training_arguments import Sam3TrainingArguments


class Sam3Trainer(SamTrainer):
    """
    Trainer of [`Sam3ForConceptSegmentation`] with its matcher-based losses.

    Args:
        *args (`Any`): Positional arguments of [`SamTrainer`].
        criterion (`Callable`, *optional*): Function `criterion(outputs, targets, normalizers) -> (loss, parts)`; see
            [`Sam3Criterion`], the default.
        teacher (`Teacher`, *optional*): Frozen model that predicts the targets of distillation pairs.
        limits (`DetectionLimits`, *optional*): Score threshold and number of the detections in an evaluation.
        **kwargs (`Any`): Keyword arguments of [`SamTrainer`].
    """

    args: Sam3TrainingArguments
    evaluator: Sam3Evaluator

    def __init__(
        self,
        *args: Any,
        criterion: Callable | None = None,
        teacher: Teacher | None = None,
        limits: DetectionLimits | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        if teacher is not None:
            check_distillation(self)
        self.train_step = ConceptTrainingStep(criterion, teacher)
        self.evaluator = Sam3Evaluator(self, limits)

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Create the learning rate schedule that `lr_schedule` sets: the official one or one of Transformers."""
        if self.args.lr_schedule != "sam3":
            return super().create_scheduler(num_training_steps, optimizer)
        if self.lr_scheduler is None:
            self.lr_scheduler = build_sam3_schedule(
                cast(torch.optim.Optimizer, optimizer or self.optimizer),
                num_training_steps,
                warmup=self.args.get_warmup_steps(num_training_steps),
                timescale=self.args.timescale_steps,
                cooldown=self.args.cooldown_steps,
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _count_batch(self, batch: dict) -> tuple[float, ...]:
        names = "labels", "pair_image", "pair_instances", "pair_ignore", "pair_exhaustive"
        return *count_pairs(*(batch[name] for name in names)), len(batch.get("distill_image", ()))

    def describe(self, batch: dict) -> str:
        """Describe a training batch for the log."""
        return f"{count_noun(len(batch['labels']), 'image')}, {count_noun(len(batch['pair_image']), 'phrase')}"

    @property
    def concepts(self) -> ConceptTokens | None:
        """Concepts that are trained; `None` if the model itself is trained."""
        concepts = cast(ConceptTokens | None, unwrap_sam(self.unwrapped_model).concepts)
        return concepts if concepts is not None and any(p.requires_grad for p in concepts.parameters()) else None

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        concepts = self.concepts
        if concepts is None:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            folder = Path(resume_from_checkpoint)
            file = read_concepts(folder / CONCEPT_WEIGHTS, folder / CONCEPT_INFO, str(folder))
            restore_concepts(concepts, file)

    def _load_best_model(self) -> None:
        if self.concepts is None:
            super()._load_best_model()
        elif self.state.best_model_checkpoint is not None:
            self._load_from_checkpoint(self.state.best_model_checkpoint)
        self.evaluator.discard_thresholds()

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """
        Save the weights as Trainer does, with the trained phrases and the thresholds chosen for these weights.

        A later evaluation needs the trained phrases to score other phrases separately.
        """
        folder = Path(output_dir or self.args.output_dir)
        thresholds = self.evaluator.get_thresholds_at(self.state.global_step)
        if self.concepts is None:
            super()._save(output_dir, state_dict)
        if not self.args.should_save:
            return
        concepts = self.concepts
        if concepts is not None:
            self._save_concepts(concepts, folder, thresholds)
        if thresholds is not None:
            thresholds.save(folder)
        if self.trained_phrases is not None:
            write_json(folder / TRAINED_PHRASES, sorted(self.trained_phrases), indent=1)

    def _save_concepts(self, concepts: ConceptTokens, folder: Path, thresholds: Thresholds | None) -> None:
        """Write the concepts, without the frozen model; trained ones with their thresholds and metrics."""
        phrases = self.evaluator.scored.phrases if thresholds is not None and self.evaluator.scored else {}
        for entry, tokens in zip(concepts.info.concepts, concepts.tokens, strict=True):
            if tokens.requires_grad and thresholds is not None:
                entry.threshold = thresholds.of(entry.phrase)
                entry.temperature = thresholds.presence_temperature
                entry.scores = {k: v for k, v in phrases.get(entry.phrase, {}).items() if isinstance(v, int | float)}
        folder.mkdir(parents=True, exist_ok=True)
        write_concepts(folder, concepts)
