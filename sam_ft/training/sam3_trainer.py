"""Trainer of SAM 3."""

from collections.abc import Callable
from pathlib import Path

from ..models.model_files import TRAINED_PHRASES
from ..models.sam3.pairs import count_pairs
from ..models.sam3.steps import ConceptTrainingStep
from ..models.sam3.teacher import Teacher
from ..optim.parameter_groups import build_sam3_schedule
from ..options.evaluation import DetectionLimits
from ..utils.json_files import write_json
from .base_trainer import SamTrainer
from .sam3_evaluator import Sam3Evaluator
from .trainer_checks import check_distillation


class Sam3Trainer(SamTrainer):
    """
    Trainer of [`Sam3ForConceptSegmentation`] with its matcher-based losses.

    Args:
        args: Positional arguments of [`SamTrainer`].
        criterion (`Callable`, *optional*): Function `criterion(outputs, targets, normalizers) -> (loss, parts)`; see
            [`Sam3Criterion`], the default.
        teacher (`Teacher`, *optional*): Frozen model that predicts the targets of distillation pairs.
        limits (`DetectionLimits`, *optional*): Score threshold and number of the detections in an evaluation.
        kwargs: Keyword arguments of [`SamTrainer`].
    """

    def __init__(
        self,
        *args,
        criterion: Callable | None = None,
        teacher: Teacher | None = None,
        limits: DetectionLimits | None = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        if teacher is not None:
            check_distillation(self)
        self.train_step = ConceptTrainingStep(criterion, teacher)
        self.evaluator = Sam3Evaluator(self, limits)

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        """Create the learning rate schedule that `lr_schedule` sets: the official one or one of Transformers."""
        if self.args.lr_schedule != "sam3":
            return super().create_scheduler(num_training_steps, optimizer)
        if self.lr_scheduler is None:
            self.lr_scheduler = build_sam3_schedule(
                optimizer or self.optimizer,
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
        return f"{len(batch['labels'])} images, {len(batch['pair_image'])} phrases"

    def _load_best_model(self):
        super()._load_best_model()
        self.evaluator.discard_thresholds()

    def _save(self, output_dir=None, state_dict=None):
        """
        Save the weights as Trainer does, with the trained phrases and the thresholds chosen for these weights.

        A later evaluation needs the trained phrases to score other phrases separately.
        """
        super()._save(output_dir, state_dict)
        if not self.args.should_save:
            return
        folder, thresholds = (
            Path(output_dir or self.args.output_dir),
            self.evaluator.get_thresholds_at(self.state.global_step),
        )
        if thresholds is not None:
            thresholds.save(folder)
        if self.trained_phrases is not None:
            write_json(folder / TRAINED_PHRASES, sorted(self.trained_phrases), indent=1)
