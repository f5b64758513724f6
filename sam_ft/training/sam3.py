"""The Trainer of SAM 3."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import torch

from ..metrics.thresholds import Thresholds, choose_thresholds
from ..models.load import TRAINED_PHRASES
from ..models.lora import sam3_of
from ..models.outputs import Keep
from ..models.pairs import count_pairs
from ..report.visualize import save_comparisons
from .evaluation import PredictionStore, Scored, by_example, count_rows, read_evaluation, save_evaluation, score
from .loggers import LogPictures
from .trainer import SamTrainer


logger = logging.getLogger("sam_ft.run")


class Sam3Trainer(SamTrainer):
    """
    Trains [`Sam3ForConceptSegmentation`] with its matcher-based losses.

    Args:
        criterion (`Callable`, *optional*): `criterion(outputs, targets, normalizers) -> (loss, parts)` in place of the
            model's own; see [`Sam3Criterion`].
        category_ids (`dict[str, int]`, *optional*): phrase -> category id of the results; numbered where not given.
        keep (`Keep`, *optional*): which predictions an evaluation keeps.
        num_pictures (`int`): evaluation images drawn with truth and prediction.
        trained_phrases (`set[str]`, *optional*): an evaluation that asks others too scores both kinds apart.
        Everything else as in [`SamTrainer`].
    """

    def __init__(
        self,
        *args,
        criterion: Callable | None = None,
        category_ids: dict[str, int] | None = None,
        keep: Keep | None = None,
        num_pictures: int = 0,
        trained_phrases: set[str] | None = None,
        **kwargs,
    ):
        super().__init__(*args, count=_count, **kwargs)
        self._sam3 = sam3_of(self.accelerator.unwrap_model(self.model))
        if criterion is not None:
            self._sam3.criterion = criterion
        self.category_ids, self.keep, self.num_pictures = category_ids, keep or Keep(), num_pictures
        self.trained_phrases = trained_phrases
        if num_pictures:
            self.add_callback(LogPictures(self))
        self.store = PredictionStore()
        self.scored: Scored | None = None
        self._thresholds: tuple[int, Thresholds] | None = None  # and the step at which they were chosen

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """
        The batch's share of the window's loss; with `normalizer: batch`, the official way: the micro-batch's own mean,
        averaged over the window.
        """
        if self.args.normalizer == "batch":
            counts = torch.tensor(_count(inputs), dtype=torch.float32, device=self.args.device)
            # instances are averaged over the processes, pairs are each process's own (`Sam3LossWrapper`, "global")
            counts[0] = self.accelerator.reduce(counts[:1], "mean")[0]
            scale = 1 / self.current_gradient_accumulation_steps
        else:
            counts, scale = num_items_in_batch, self.accelerator.num_processes  # processes' gradients are averaged
        outputs = model(**inputs, normalizers=counts)
        # a logged part is a sum over processes: shares of one window, or means to be averaged
        shares = 1.0 if self.args.normalizer == "window" else scale / self.accelerator.num_processes
        self._keep_parts({name: value * shares for name, value in outputs.parts.items() if "_aux_" not in name})
        loss = outputs.loss * scale
        return (loss, outputs) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Runs the model once; keeps detections and the batch's share of the loss, and returns nothing to be gathered."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = model(
                **inputs, normalizers=self._eval_counts, keep=self.keep, collect=self.store.collector(inputs)
            )
        self.store.losses[tuple(label["example_id"] for label in inputs["labels"])] = float(outputs.loss)
        return None, None, None

    def evaluation_loop(
        self, dataloader, description, prediction_loss_only=None, ignore_keys=None, metric_key_prefix="eval"
    ):
        """Evaluates: all phrases of an image in one vision pass, then one gather and one scoring."""
        shown = "with" if dataloader.dataset.geometry_token else "without"
        logger.info("evaluating %d images, text-only prompts %s the geometry token", len(dataloader.dataset), shown)
        # images are never decoded here: the rows' other columns are enough
        rows = dataloader.dataset.rows.remove_columns("image")
        output = self._run(dataloader, description, rows, ignore_keys, metric_key_prefix)
        ids = self.category_ids or _numbered(rows)
        scored = score(rows, self.store, ids, with_masks=self._sam3.with_masks, trained=self.trained_phrases)
        metrics = {"loss": sum(self.store.losses.values()), **scored.metrics}
        output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in metrics.items()})
        self.scored = scored
        if metric_key_prefix == "eval":
            chosen = choose_thresholds(scored.pairs, scored.kind, self.args.max_false_positives)
            self._thresholds = self.state.global_step, chosen
        if self.is_world_process_zero():
            self._write(Path(self.args.output_dir) / metric_key_prefix, scored, dataloader.dataset.rows)
        return output

    def answer(self, samples) -> PredictionStore:
        """What the model finds in [`EvaluationSamples`], from all processes, unscored."""
        self._run(self.get_eval_dataloader(samples), "answers", samples.rows.remove_columns("image"))
        return self.store

    @property
    def thresholds(self) -> Thresholds | None:
        """Those that the last evaluation chose."""
        return None if self._thresholds is None else self._thresholds[1]

    def _run(self, dataloader, description: str, rows, ignore_keys=None, prefix: str = "eval"):
        self.store = PredictionStore()
        self._eval_counts = torch.tensor(count_rows(rows), dtype=torch.float32, device=self.args.device)
        output = super().evaluation_loop(dataloader, description, True, ignore_keys, prefix)
        self.store.gather()
        return output

    def _load_best_model(self):
        super()._load_best_model()
        self._thresholds = None  # of other weights

    def _save(self, output_dir=None, state_dict=None):
        """
        As Trainer's; beside the weights, what they were trained on, so that a later evaluation can tell it apart, and the thresholds that
        an evaluation of these very weights chose.
        """
        super()._save(output_dir, state_dict)
        if self.args.should_save and self._thresholds is not None and self._thresholds[0] == self.state.global_step:
            self._thresholds[1].save(Path(output_dir or self.args.output_dir))
        if self.args.should_save and self.trained_phrases is not None:
            file = Path(output_dir or self.args.output_dir) / TRAINED_PHRASES
            file.write_text(json.dumps(sorted(self.trained_phrases), ensure_ascii=False, indent=1), encoding="utf-8")

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
        save_comparisons(self._shown(rows), stages, folder / "pictures")

    def _shown(self, rows):
        """The images that are drawn: those that show something trained before the others."""
        trained = self.trained_phrases or set()
        asked = rows.remove_columns("image")["phrases"]
        order = sorted(
            range(len(rows)), key=lambda i: not any(p["instances"] and p["text"] in trained for p in asked[i])
        )
        return rows.select(order[: self.num_pictures])


def _count(batch: dict) -> tuple[int, int, int, int]:
    names = "labels", "pair_image", "pair_instances", "pair_ignore", "pair_exhaustive"
    return *count_pairs(*(batch[name] for name in names)), len(batch.get("soft_image", ()))


def _numbered(rows) -> dict[str, int]:
    texts = sorted({phrase["text"] for row in rows for phrase in row["phrases"]})
    return {text: i for i, text in enumerate(texts, 1)}
