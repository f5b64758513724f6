"""Evaluation of SAM 3: text prompts, and thresholds chosen from their predictions."""

import torch

from ..evaluation.predictions import PredictionStore, ScoredEvaluation, count_rows
from ..metrics.postprocess import DetectionTransfer
from ..metrics.thresholds import Thresholds, choose_thresholds
from ..models.outputs import PairPrediction
from ..models.sam3.steps import ConceptEvaluationStep
from ..models.unwrapping import unwrap_sam
from ..options.evaluation import DetectionLimits
from .evaluator import Evaluator


class Sam3Evaluator(Evaluator):
    """
    Evaluation of [`Sam3ForConceptSegmentation`] on text prompts.

    Args:
        trainer (`Sam3Trainer`): Trainer that runs the model.
        limits (`DetectionLimits`, *optional*): Score threshold and number of the detections.
    """

    def __init__(self, trainer, limits: DetectionLimits | None = None):
        super().__init__(trainer)
        self.limits = limits or DetectionLimits()
        self._thresholds: tuple[int, Thresholds] | None = None  # (step, thresholds)

    @property
    def with_masks(self) -> bool:
        """Return whether masks are scored."""
        return unwrap_sam(self.trainer.unwrapped_model).with_masks

    def predict_batch(self, model, inputs: dict) -> torch.Tensor:
        """Run the model once, store its predictions, and return the batch's share of the evaluation loss."""
        collector = _PairCollector(self.store, inputs)
        step = ConceptEvaluationStep(self.trainer.train_step.criterion, self.limits, collector.add)
        loss = model(**inputs, normalizers=self.normalizers, step=step).loss
        collector.flush()
        return loss

    def count_rows(self, rows) -> tuple[float, ...]:
        """Return the loss normalizers of a whole evaluation."""
        return count_rows(rows)

    def describe_samples(self, samples) -> str:
        """Describe evaluation samples and their prompts for the log."""
        token = "with" if samples.geometry_token else "without"
        return f"{len(samples)} images, text-only prompts {token} the geometry token"

    def describe_target(self, inputs: dict, index: int) -> str:
        """Describe an (image, phrase) pair of an evaluation batch, for errors."""
        label = inputs["labels"][inputs["pair_image"][index]]
        return f"example {label['example_id']!r}, phrase {label['phrases'][inputs['pair_phrase'][index]]!r}"

    @property
    def thresholds(self) -> Thresholds | None:
        """Score thresholds that the last evaluation chose."""
        return None if self._thresholds is None else self._thresholds[1]

    def get_thresholds_at(self, step: int) -> Thresholds | None:
        """Return the thresholds that were chosen for the weights after `step` optimizer steps; `None` without them."""
        return self.thresholds if self._thresholds is not None and self._thresholds[0] == step else None

    def discard_thresholds(self) -> None:
        """Discard the thresholds, because they were chosen for other weights."""
        self._thresholds = None

    def process_result(self, scored: ScoredEvaluation) -> None:
        """Choose the score thresholds of the current weights."""
        chosen = choose_thresholds(scored.pairs, scored.kind, self.trainer.args.max_false_positives)
        self._thresholds = self.trainer.state.global_step, chosen


class _PairCollector:
    """
    Collector of the predictions of a batch, which moves them to the host together.

    Args:
        store (`PredictionStore`): Target of the predictions.
        batch (`dict`): Batch of the collator.
    """

    def __init__(self, store: PredictionStore, batch: dict):
        self.store, self.batch = store, batch
        self._transfer = DetectionTransfer(self._receive)

    def add(self, prediction: PairPrediction) -> None:
        """Add the predictions of a pair; the `collect` callback of [`ConceptEvaluationStep`]."""
        label = self.batch["labels"][self.batch["pair_image"][prediction.pair]]
        key = label["example_id"], label["phrases"][self.batch["pair_phrase"][prediction.pair]]
        self._transfer.add(
            key, prediction.presence, prediction.scores, prediction.boxes_xyxy, prediction.masks,
            label["original_size"],
        )  # fmt: skip

    def flush(self) -> None:
        """Move the added predictions to the store."""
        self._transfer.flush()

    def _receive(self, key: tuple[str, str], presence: float, detections: list[dict]) -> None:
        self.store.presence[key], self.store.detections[key] = presence, detections
