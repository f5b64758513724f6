"""Evaluation loop of the trainers: predict, gather once, score, write and draw."""

import logging
import math
from pathlib import Path

import torch

from ..evaluation.predictions import PredictionStore, Scored, by_example, read_evaluation, save_evaluation, score
from ..metrics.thresholds import Thresholds
from ..models.finite import NonFiniteError, NonFiniteOutputError
from ..reporting.pictures import save_comparisons
from .base_trainer import SamTrainer
from .finite_check import check_metrics, describe_non_finite_output
from .picture_logging import LogPictures


logger = logging.getLogger("sam_ft.run")


class ScoringTrainer(SamTrainer):
    """
    Trainer that scores predictions against the rows of its evaluation data; subclasses implement `_predict`.

    Args:
        args: Positional arguments of [`SamTrainer`].
        category_ids (`dict[str, int]`, *optional*): Category id of each phrase in the results; by default numbered
            from 1.
        num_pictures (`int`): Number of evaluation images drawn with ground truth and prediction.
        trained_phrases (`set[str]`, *optional*): Trained phrases; other phrases get metrics of their own.
        kwargs: Keyword arguments of [`SamTrainer`].
    """

    def __init__(
        self,
        *args,
        category_ids: dict[str, int] | None = None,
        num_pictures: int = 0,
        trained_phrases: set[str] | None = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.category_ids, self.num_pictures = category_ids, num_pictures
        self.trained_phrases = trained_phrases
        if num_pictures:
            self.add_callback(LogPictures(self))
        self.store = PredictionStore()
        self.scored: Scored | None = None

    def _predict(self, model, inputs: dict) -> torch.Tensor:
        """Run the model once, store its predictions, and return the batch's share of the evaluation loss."""
        raise NotImplementedError

    def _count_all(self, rows) -> tuple[float, ...]:
        """Return the loss normalizers of a whole evaluation."""
        raise NotImplementedError

    def describe(self, batch: dict) -> str:
        """Describe a training batch for the log."""
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
        """Whether masks are scored."""
        return True

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """
        Run the model once and store its predictions and loss; nothing is returned to be gathered.

        Args:
            model (`torch.nn.Module`): Wrapped model.
            inputs (`dict`): Batch.
            prediction_loss_only (`bool`): Not used.
            ignore_keys (`list[str]`, *optional*): Not used.

        Raises:
            NonFiniteError: If a prediction or the loss is NaN or infinite. The message names example and tensor. With
                several processes, all of them raise it after the last batch.
        """
        inputs = self._prepare_inputs(inputs)
        ids = tuple(label["example_id"] for label in inputs["labels"])
        try:
            with torch.no_grad(), self.compute_loss_context_manager():
                loss = float(self._predict(model, inputs))
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
            if self.args.world_size == 1:
                raise NonFiniteError(problem) from error
            self.store.problems[ids] = problem
        return None, None, None

    def evaluation_loop(
        self, dataloader, description, prediction_loss_only=None, ignore_keys=None, metric_key_prefix="eval"
    ):
        """
        Predict all samples, gather the predictions once, and score, write and draw them.

        Args:
            dataloader (`DataLoader`): Loader of evaluation samples.
            description (`str`): Name of the loop in the progress bar.
            prediction_loss_only (`bool`, *optional*): Not used.
            ignore_keys (`list[str]`, *optional*): Passed to Trainer.
            metric_key_prefix (`str`): Prefix of the metric names and name of the output folder.
        """
        # The scoring needs no images, so that they are not decoded here.
        rows = dataloader.dataset.rows.remove_columns("image")
        output = self._run(dataloader, description, rows, ignore_keys, metric_key_prefix)
        ids = self.category_ids or _number_phrases(rows)
        scored = score(rows, self.store, ids, with_masks=self.with_masks, trained=self.trained_phrases)
        metrics = {"loss": sum(self.store.losses.values()), **scored.metrics}
        check_metrics(metrics, f"{metric_key_prefix} metrics")
        output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in metrics.items()})
        self.scored = scored
        if metric_key_prefix == "eval":
            self._after_scoring(scored)
        if self.is_world_process_zero():
            self._write(Path(self.args.output_dir) / metric_key_prefix, scored, dataloader.dataset.rows)
        return output

    @property
    def thresholds(self) -> Thresholds | None:
        """Score thresholds that the last evaluation chose; `None` for a model without them."""
        return None

    def _after_scoring(self, scored: Scored) -> None:
        """Process the result of an evaluation; subclasses choose thresholds here."""

    def answer(self, samples) -> PredictionStore:
        """
        Return the unscored predictions for evaluation samples, gathered from all processes.

        Args:
            samples (`EvaluationSamples`): Images with their prompts.
        """
        self._run(self.get_eval_dataloader(samples), "predictions", samples.rows.remove_columns("image"))
        return self.store

    def _run(self, dataloader, description: str, rows, ignore_keys=None, prefix: str = "eval"):
        self.store = PredictionStore()
        self._eval_counts = torch.tensor(self._count_all(rows), dtype=torch.float32, device=self.args.device)
        output = super().evaluation_loop(dataloader, description, True, ignore_keys, prefix)
        self.store.gather()
        if self.store.problems:
            raise NonFiniteError(next(iter(self.store.problems.values())))
        return output

    def save_metrics(self, split: str, metrics: dict, combined: bool = True) -> None:
        """
        Write metrics as Trainer does, but never NaN or infinity.

        Args:
            split (`str`): First part of the file's name, such as `eval`.
            metrics (`dict`): Names and numbers.
            combined (`bool`): Whether `all_results.json` is updated as well.

        Raises:
            NonFiniteError: If a number is NaN or infinite.
        """
        check_metrics(metrics, f"{split} metrics")
        super().save_metrics(split, metrics, combined)

    def _write(self, folder: Path, scored: Scored, rows):
        """Write results and ground truth in the COCO format, and pictures of the first images."""
        folder.mkdir(parents=True, exist_ok=True)
        save_evaluation(scored, folder)
        if self.num_pictures == 0:
            return
        stages = {"prediction": self.store.detections}
        before = folder.parent / "before"
        if folder != before and (before / "presence.json").is_file():
            truth, results, _ = read_evaluation(before)
            if truth == scored.ground_truth:  # Another run may have left results of another data set.
                stages = {"before": by_example(truth, results), "after": self.store.detections}
        save_comparisons(self._select_pictures(rows), stages | self._extra_detections(), folder / "pictures")

    def _extra_detections(self) -> dict[str, dict]:
        """Return further detections to draw, by title."""
        return {}

    def _select_pictures(self, rows):
        """Select the images to draw; images that contain a trained phrase come first."""
        trained = self.trained_phrases or set()
        phrases = rows.remove_columns("image")["phrases"]
        order = sorted(
            range(len(rows)), key=lambda i: not any(p["instances"] and p["text"] in trained for p in phrases[i])
        )
        return rows.select(order[: self.num_pictures])


def _number_phrases(rows) -> dict[str, int]:
    texts = sorted({phrase["text"] for row in rows for phrase in row["phrases"]})
    return {text: i for i, text in enumerate(texts, 1)}
