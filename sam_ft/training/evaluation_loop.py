"""The Trainer's evaluation: predictions kept where they are made, gathered once, scored, written, drawn."""

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
    A trainer that scores what its model finds against the rows of its evaluation data. Of the model it knows `_predict` and `_count_all`, which
    a subclass gives.

    Args:
        category_ids (`dict[str, int]`, *optional*): phrase -> category id of the results; numbered where not given.
        num_pictures (`int`): evaluation images drawn with truth and prediction.
        trained_phrases (`set[str]`, *optional*): an evaluation that asks others too scores both kinds apart.
        Everything else as in [`SamTrainer`].
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
        """Asks the model once, puts what it finds into the store, and returns the batch's share of the evaluation's loss."""
        raise NotImplementedError

    def _count_all(self, rows) -> tuple[float, ...]:
        """What the loss of a whole evaluation is divided by."""
        raise NotImplementedError

    def describe(self, batch: dict) -> str:
        """A training batch in words."""
        raise NotImplementedError

    def describe_target(self, inputs: dict, index: int) -> str:
        """
        Describe an entry of an evaluation batch, for errors.

        Args:
            inputs (`dict`): The batch.
            index (`int`): Of the entry: an (image, phrase) pair of SAM 3, an object of SAM 2.
        """
        raise NotImplementedError

    @property
    def with_masks(self) -> bool:
        """Whether masks are scored."""
        return True

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """
        Runs the model once; keeps what it finds and the batch's share of the loss, and returns nothing to be gathered.

        Raises:
            `NonFiniteError`: If a prediction or the loss is NaN or infinite; names example and tensor. With several processes
                the loop ends first, and all of them raise.
        """
        inputs = self._prepare_inputs(inputs)
        ids = tuple(label["example_id"] for label in inputs["labels"])
        try:
            with torch.no_grad(), self.compute_loss_context_manager():
                loss = float(self._predict(model, inputs))
            if not math.isfinite(loss):
                shown = ", ".join(map(repr, ids))
                raise NonFiniteError(
                    f"evaluation: `loss` is {loss} in the batch of {shown}. The model's weights diverged"
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
        """Evaluates: everything that is asked of an image in one vision pass, then one gather and one scoring."""
        # images are never decoded here: the rows' other columns are enough
        rows = dataloader.dataset.rows.remove_columns("image")
        output = self._run(dataloader, description, rows, ignore_keys, metric_key_prefix)
        ids = self.category_ids or _numbered(rows)
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
        """Those that the last evaluation chose; none where scores have none."""
        return None

    def _after_scoring(self, scored: Scored) -> None:
        """What else an evaluation of the weights decides."""

    def answer(self, samples) -> PredictionStore:
        """What the model finds in evaluation samples, from all processes, unscored."""
        self._run(self.get_eval_dataloader(samples), "answers", samples.rows.remove_columns("image"))
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
            combined (`bool`): Whether `all_results.json` is updated too.

        Raises:
            `NonFiniteError`: If a number is NaN or infinite; names it.
        """
        check_metrics(metrics, f"{split} metrics")
        super().save_metrics(split, metrics, combined)

    def _write(self, folder: Path, scored: Scored, rows):
        """Results and ground truth in COCO's format, and pictures of the first images."""
        folder.mkdir(parents=True, exist_ok=True)
        save_evaluation(scored, folder)
        if self.num_pictures == 0:
            return
        stages = {"prediction": self.store.detections}
        before = folder.parent / "before"
        if folder != before and (before / "presence.json").is_file():
            truth, results, _ = read_evaluation(before)
            if truth == scored.ground_truth:  # else another data set's, left there by another run
                stages = {"before": by_example(truth, results), "after": self.store.detections}
        save_comparisons(self._shown(rows), stages | self._drawn(), folder / "pictures")

    def _drawn(self) -> dict[str, dict]:
        """What else is drawn, title -> detections."""
        return {}

    def _shown(self, rows):
        """The images that are drawn: those that show something trained before the others."""
        trained = self.trained_phrases or set()
        asked = rows.remove_columns("image")["phrases"]
        order = sorted(
            range(len(rows)), key=lambda i: not any(p["instances"] and p["text"] in trained for p in asked[i])
        )
        return rows.select(order[: self.num_pictures])


def _numbered(rows) -> dict[str, int]:
    texts = sorted({phrase["text"] for row in rows for phrase in row["phrases"]})
    return {text: i for i, text in enumerate(texts, 1)}
