"""Evaluation of a trainer: predict all samples, gather the predictions once, score, write and draw them."""

import logging
import math
from collections.abc import Callable
from pathlib import Path

import torch
from datasets import Dataset
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput

from ..data.samples.pipeline import EvaluationSamples
from ..evaluation.predictions import PredictionStore, ScoredEvaluation, save_evaluation, score
from ..metrics.thresholds import Thresholds
from ..models.finite import NonFiniteError, NonFiniteOutputError
from .evaluation_pictures import save_evaluation_pictures, select_pictured_rows
from .finite_check import check_metrics, describe_non_finite_output


logger = logging.getLogger("sam_ft.run")


class Evaluator:
    """
    Evaluation of a trainer against the rows of its evaluation data.

    Subclasses implement `predict_batch`, `count_rows`, `describe_samples` and `describe_target`.

    Args:
        trainer (`SamTrainer`): Trainer that runs the model, with the attributes `category_ids`, `num_pictures` and
            `trained_phrases`.

    Attributes:
        store (`PredictionStore`): Predictions of the last evaluation.
        scored (`ScoredEvaluation`, *optional*): Result of the last evaluation.
        normalizers (`torch.Tensor`): Loss normalizers of the whole evaluation.
    """

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self.store = PredictionStore()
        self.scored: ScoredEvaluation | None = None

    def predict_batch(self, model, inputs: dict) -> torch.Tensor:
        """Run the model once, store its predictions, and return the batch's share of the evaluation loss."""
        raise NotImplementedError

    def count_rows(self, rows: Dataset) -> tuple[float, ...]:
        """Return the loss normalizers of a whole evaluation."""
        raise NotImplementedError

    def describe_samples(self, samples: EvaluationSamples) -> str:
        """Describe evaluation samples and their prompts for the log."""
        raise NotImplementedError

    def describe_target(self, inputs: dict, index: int) -> str:
        """
        Describe an entry of an evaluation batch, for errors.

        Args:
            inputs (`dict`): Batch.
            index (`int`): Index of the entry: an (image, phrase) pair of SAM 3, an object of SAM 2.
        """
        raise NotImplementedError

    @property
    def with_masks(self) -> bool:
        """Return whether masks are scored."""
        return True

    @property
    def thresholds(self) -> Thresholds | None:
        """Score thresholds that the last evaluation chose; `None` for a model without them."""
        return None

    def process_result(self, scored: ScoredEvaluation) -> None:
        """Process the result of an evaluation; subclasses choose thresholds here."""

    def list_extra_detections(self) -> dict[str, dict]:
        """Return further detections to draw, by title."""
        return {}

    def evaluate(self, run_loop: Callable[[], EvalLoopOutput], samples: EvaluationSamples, prefix: str):
        """
        Predict all samples, and score, write and draw the predictions.

        Args:
            run_loop (`Callable`): Trainer's evaluation loop, which calls [`predict_step`] for each batch.
            samples (`EvaluationSamples`): Evaluation data.
            prefix (`str`): Prefix of the metric names and name of the output folder.

        Returns:
            `EvalLoopOutput`: Output of the loop with the metrics.

        Raises:
            NonFiniteError: If a prediction, the loss or a metric is NaN or infinite.
        """
        logger.info("evaluating %s", self.describe_samples(samples))
        output = self.predict(run_loop, samples)
        # The scoring needs no images, so that they are not decoded here.
        rows = samples.rows.remove_columns("image")
        ids, trained = self.trainer.category_ids or _number_phrases(rows), self.trainer.trained_phrases
        scored = score(rows, self.store, ids, with_masks=self.with_masks, trained=trained)
        metrics = {"loss": sum(self.store.losses.values()), **scored.metrics}
        check_metrics(metrics, f"{prefix} metrics")
        output.metrics.update({f"{prefix}_{name}": value for name, value in metrics.items()})
        self.scored = scored
        if prefix == "eval":
            self.process_result(scored)
        if self.trainer.is_world_process_zero():
            self._write(Path(self.trainer.args.output_dir) / prefix, samples.rows)
        return output

    def predict(self, run_loop: Callable[[], EvalLoopOutput], samples: EvaluationSamples) -> EvalLoopOutput:
        """
        Predict all samples and gather the predictions from all processes into `store`.

        Args:
            run_loop (`Callable`): As in [`evaluate`].
            samples (`EvaluationSamples`): Images with their prompts.

        Raises:
            NonFiniteError: If a prediction or the loss of any process is NaN or infinite.
        """
        self.store = PredictionStore()
        counts = self.count_rows(samples.rows.remove_columns("image"))
        self.normalizers = torch.tensor(counts, dtype=torch.float32, device=self.trainer.args.device)
        output = run_loop()
        self.store.gather()
        if self.store.problems:
            raise NonFiniteError(next(iter(self.store.problems.values())))
        return output

    def predict_step(self, model, inputs: dict) -> None:
        """
        Store the predictions and the loss of a batch.

        Args:
            model (`torch.nn.Module`): Wrapped model.
            inputs (`dict`): Batch on the device.

        Raises:
            NonFiniteError: If a prediction or the loss is NaN or infinite. The message names example and tensor. With
                several processes, all of them raise it after the last batch.
        """
        ids = tuple(label["example_id"] for label in inputs["labels"])
        try:
            with torch.no_grad(), self.trainer.compute_loss_context_manager():
                loss = float(self.predict_batch(model, inputs))
            if not math.isfinite(loss):
                examples = ", ".join(map(repr, ids))
                raise NonFiniteError(
                    f"evaluation: `loss` is {loss} in the batch of {examples}. The model's weights diverged"
                )
            self.store.losses[ids] = loss
        except NonFiniteError as error:
            problem = str(error)
            if isinstance(error, NonFiniteOutputError):
                problem = describe_non_finite_output(error, self.describe_target(inputs, error.index))
            if self.trainer.args.world_size == 1:
                raise NonFiniteError(problem) from error
            self.store.problems[ids] = problem

    def _write(self, folder: Path, rows: Dataset) -> None:
        """Write results and ground truth in the COCO format, and pictures of the first images."""
        save_evaluation(self.scored, folder)
        if self.trainer.num_pictures:
            rows = select_pictured_rows(rows, self.trainer.num_pictures, self.trainer.trained_phrases or set())
            save_evaluation_pictures(folder, rows, self.scored, self.store, self.list_extra_detections())


def _number_phrases(rows: Dataset) -> dict[str, int]:
    """Return a category id for each phrase, from 1 in alphabetical order."""
    texts = sorted({phrase["text"] for row in rows for phrase in row["phrases"]})
    return {text: i for i, text in enumerate(texts, 1)}
