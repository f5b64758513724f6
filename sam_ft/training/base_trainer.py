"""Trainer base class of SAM 3 and SAM 2: normalized losses, keyed dropout, checkpoints, scored evaluation, Hub."""

import contextlib
import logging
import signal
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path

import torch
from accelerate.utils import send_to_device
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerState
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import TrainOutput, get_last_checkpoint

from ..data.keyed_random import keyed_draws
from ..data.samples.pipeline import EvaluationSamples
from ..evaluation.predictions import PredictionStore
from ..optim.parameter_groups import build_parameter_groups, keep_embeddings_in_32_bits
from ..options.optim import LearningRates
from ..utils.console import NOTE
from ..utils.json_files import read_json_file
from ..utils.owned_files import OwnedFiles
from ..utils.signals import SIGNALS
from .batching import build_train_sampler, split_evaluation
from .callbacks import SamplerEpochCallback, SignalStopCallback, set_event_folder
from .checkpoints import RUN_KIND, list_file_names, read_finished_state, record_checkpoint, remove_old_checkpoints
from .data_record import DATA_FILE, DataRecord
from .evaluation_pictures import PictureLogCallback
from .evaluator import Evaluator
from .finite_check import FiniteCheck, add_step_to_errors, check_metrics
from .hub_upload import HubUploader
from .loss_logging import LossParts
from .progress import add_progress_report
from .run_cost import RunCost
from .trainer_checks import check_supported


logger = logging.getLogger(__name__)


class SamTrainer(Trainer):
    """
    Transformers' Trainer for losses that are divided by the number of instances.

    Subclasses set `train_step` and `evaluator`, and implement `_count_batch` and `describe`.

    Args:
        args: Positional arguments of `transformers.Trainer`.
        rates (`LearningRates`, *optional*): Learning rates by part.
        category_ids (`dict[str, int]`, *optional*): Category id of each phrase in the results; by default numbered
            from 1.
        num_pictures (`int`): Number of evaluation images drawn with ground truth and prediction.
        trained_phrases (`set[str]`, *optional*): Trained phrases; other phrases get metrics of their own.
        kwargs: Keyword arguments of `transformers.Trainer`.

    Raises:
        ValueError: If an argument is not supported, see [`check_supported`].
    """

    loss_is_scaled_for_ga = True  # Losses are divided by the counts of the whole accumulation window.
    train_step: Callable  # step of the model's `forward` that computes the loss of a batch
    evaluator: Evaluator

    def __init__(
        self,
        *args,
        rates: LearningRates | None = None,
        category_ids: dict[str, int] | None = None,
        num_pictures: int = 0,
        trained_phrases: set[str] | None = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.hub  # noqa: B018 (moves the token out of the arguments)
        check_supported(self)
        self.model_accepts_loss_kwargs = True  # PEFT and FSDP may hide the attribute of the model.
        self.rates = rates or LearningRates()
        self.category_ids, self.num_pictures, self.trained_phrases = category_ids, num_pictures, trained_phrases
        self.data_record: DataRecord | None = None
        self._micro_step = 0
        self._finite, self._loss_parts, self._stop = FiniteCheck(), LossParts(), SignalStopCallback()
        # Trainer removes whole folders of old checkpoints; `_save_checkpoint` removes only files that the run wrote.
        self._save_total_limit, self.args.save_total_limit = self.args.save_total_limit, None
        set_event_folder(self.callback_handler.callbacks, Path(self.args.output_dir))
        for callback in (SamplerEpochCallback(self), self._loss_parts, RunCost(), self._stop):
            self.add_callback(callback)
        self._progress = add_progress_report(self)
        if num_pictures:
            self.add_callback(PictureLogCallback(self))

    def train(self, resume_from_checkpoint=None, *args, **kwargs):
        """
        Train as `transformers.Trainer.train`; a finished run is restored instead.

        Trainer would take another step after the last one, or continue to the next evaluation after an early stop.
        """
        if resume_from_checkpoint is True:
            resume_from_checkpoint = get_last_checkpoint(self.args.output_dir)
        if resume_from_checkpoint and self.can_evaluate_before_training:
            finished = read_finished_state(Path(self.args.output_dir), Path(resume_from_checkpoint))
            if finished is not None:
                return self._restore_finished(finished)
        if self.model_wrapped is self.model and getattr(self.model, "_is_accelerate_prepared", False):
            # An evaluation has prepared the bare model. Accelerate would treat it as wrapped and skip
            # DistributedDataParallel, so that each process would train a separate model without an error.
            self.model = self.model_wrapped = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
            self.model._is_accelerate_prepared = False
            self.accelerator._models.clear()
        with SIGNALS.deferring(), contextlib.closing(self._progress):
            output = super().train(resume_from_checkpoint, *args, **kwargs)
        SIGNALS.raise_received()  # A signal may arrive after the last step.
        return output

    @property
    def can_evaluate_before_training(self) -> bool:
        """Return whether the model can be evaluated before training; FSDP and DeepSpeed shard it for good."""
        return not (self.is_fsdp_enabled or self.is_deepspeed_enabled)

    @property
    def unwrapped_model(self) -> torch.nn.Module:
        """Model without the wrappers of Accelerate; with adapters, an `AdaptedSam`."""
        return self.accelerator.unwrap_model(self.model)

    def create_accelerator_and_postprocess(self):
        """Create the accelerator; with FSDP2, weights and box inputs stay in float32 under autocast."""
        super().create_accelerator_and_postprocess()
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        if plugin is not None and getattr(plugin, "fsdp_version", 1) == 2:
            from torch.distributed.fsdp import MixedPrecisionPolicy

            plugin.mixed_precision_policy = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)

    def _get_train_sampler(self, train_dataset=None):
        dataset = self.train_dataset if train_dataset is None else train_dataset
        self.train_sampler = build_train_sampler(dataset, self.args)
        return self.train_sampler

    def _prepare_input(self, data):
        # The base class casts all floats to DeepSpeed's dtype, which would shift boxes by pixels.
        return send_to_device(data, self.args.device, non_blocking=self.args.dataloader_pin_memory)

    def create_optimizer(self, model=None):
        """Create the optimizer with one parameter group per part and layer."""
        if self.optimizer is None:
            model = model or self.model
            cls, arguments = self.get_optimizer_cls_and_kwargs(self.args, model)
            self.optimizer = cls(build_parameter_groups(model, self.rates), **arguments)
            if "bitsandbytes" in str(cls) and arguments.get("optim_bits") == 8:
                keep_embeddings_in_32_bits(model)
        return self.optimizer

    def _count_batch(self, batch: dict) -> tuple[float, ...]:
        """Return the counts that a batch adds to the loss normalizers."""
        raise NotImplementedError

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """Return the batches of the accumulation window and the loss normalizers, summed over all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._micro_step = 0
        counts = torch.tensor([self._count_batch(b) for b in batches], dtype=torch.float32).sum(0)
        counts = counts.to(device, non_blocking=True)
        self._stop.number = SIGNALS.received
        if self.args.world_size == 1:
            return batches, counts
        # A signal may reach a single process, but all of them must stop after the same step.
        signals = torch.full((1,), float(SIGNALS.received or 0), device=device)
        *total, signals = self.accelerator.reduce(torch.cat([counts, signals]), "sum").split([len(counts), 1])
        if float(signals) and self._stop.number is None:
            self._stop.number = signal.SIGTERM
        return batches, total[0]

    def training_step(self, model, inputs, num_items_in_batch=None):
        """
        Run forward and backward of one micro-batch.

        Dropout is seeded by (seed, step, micro-batch, rank), so that a resumed run gives the same results.
        """
        key = f"{self.state.global_step}/{self._micro_step}/{self.args.process_index}"
        torch.manual_seed(int(keyed_draws(self.args.seed, 0, key, "dropout").integers(2**62)))
        self._micro_step += 1
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            self._finite.check(model, self.accelerator, self.state.global_step + 1)
        return loss

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """
        Compute the micro-batch's share of the loss of the accumulation window.

        With `normalizer: batch`, as in the official code, it is the mean of the micro-batch, averaged over the window.
        """
        if self.args.normalizer == "batch":
            counts = torch.tensor(self._count_batch(inputs), dtype=torch.float32)
            counts = counts.to(self.args.device, non_blocking=True)
            # `Sam3LossWrapper` ("global") averages instances over the processes, but not pairs; SAM 2 has no
            # pairs.
            counts[0] = self.accelerator.reduce(counts[:1], "mean")[0]
            scale = 1 / self.current_gradient_accumulation_steps
        else:
            counts, scale = num_items_in_batch, self.accelerator.num_processes  # Gradients are averaged.
        with add_step_to_errors(self.state.global_step + 1, inputs["labels"]):
            outputs = model(**inputs, normalizers=counts, step=self.train_step)
        self._finite.add(inputs["labels"], outputs.loss, outputs.parts)
        # Logged parts are summed over the processes, so that means need a division.
        part_scale = 1.0 if self.args.normalizer == "window" else scale / self.accelerator.num_processes
        self._loss_parts.add(outputs.parts, part_scale)
        loss = outputs.loss * scale
        return (loss, outputs) if return_outputs else loss

    def floating_point_ops(self, inputs) -> int:
        """Return 0, because the base class estimates operations from text tokens."""
        return 0

    def describe(self, batch: dict) -> str:
        """Describe a training batch for the log."""
        raise NotImplementedError

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log with the loss parts and learning rates; parts are averaged over the steps since the last log."""
        if "loss" in logs:
            logs |= self._loss_parts.collect(self.state.global_step)
            for group in self.optimizer.param_groups if self.optimizer is not None else ():
                name = f"lr_{group.get('part', 'all')}"
                logs[name] = max(logs.get(name, 0.0), group["lr"])  # Layer-wise decay only lowers rates.
        super().log(logs, start_time)

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

    def _save_checkpoint(self, model, trial):
        """Save a checkpoint with the fingerprint of the data; remove old ones, but only files that the run wrote."""
        folder = Path(self._get_output_dir(trial=trial))
        checkpoint = folder / f"checkpoint-{self.state.global_step}"
        before = list_file_names(checkpoint)
        if self.data_record is not None and self.args.should_save:
            self.data_record.write(checkpoint / DATA_FILE)
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            record_checkpoint(OwnedFiles(folder, RUN_KIND), checkpoint, before)
            remove_old_checkpoints(folder, self._save_total_limit, self.state.best_model_checkpoint)

    def _restore_finished(self, finished: TrainerState) -> TrainOutput:
        """Load weights, state and metrics of a finished run from its folder."""
        folder = Path(self.args.output_dir)
        logger.log(NOTE, "this run is finished: its weights are loaded and nothing is trained")
        self._load_from_checkpoint(str(folder), self.unwrapped_model)
        self.state = finished  # The first process wrote it, so the flags below belong to another process.
        self.state.is_local_process_zero = self.is_local_process_zero()
        self.state.is_world_process_zero = self.is_world_process_zero()
        self._load_callback_state()
        metrics = folder / "train_results.json"
        train_metrics = read_json_file(metrics) if metrics.is_file() else {}
        self.accelerator.wait_for_everyone()  # The first process is about to overwrite that file.
        return TrainOutput(finished.global_step, train_metrics.get("train_loss", 0.0), train_metrics)

    def _load_callback_state(self) -> None:
        super()._load_callback_state()
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, ExportableState):  # Checkpoints of older releases lack some callbacks.
                self.state.stateful_callbacks.setdefault(type(callback).__name__, callback.state())

    def get_eval_dataloader(self, eval_dataset=None) -> DataLoader:
        """Return the evaluation batches of this process, see [`split_evaluation`]."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        return DataLoader(
            dataset,
            batch_sampler=split_evaluation(len(dataset), self.args),
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            pin_memory=self.args.dataloader_pin_memory,
            multiprocessing_context=self.args.dataloader_multiprocessing_context,
        )

    def evaluation_loop(
        self, dataloader, description, prediction_loss_only=None, ignore_keys=None, metric_key_prefix="eval"
    ):
        """Predict all samples, and score, write and draw the predictions, see [`Evaluator.evaluate`]."""
        run_loop = partial(super().evaluation_loop, dataloader, description, True, ignore_keys, metric_key_prefix)
        with self._progress.closed_on_error():
            return self.evaluator.evaluate(run_loop, dataloader.dataset, metric_key_prefix)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Store the predictions of a batch in the evaluator; nothing is returned to be gathered."""
        self.evaluator.predict_step(model, self._prepare_inputs(inputs))
        return None, None, None

    def collect_predictions(self, samples: EvaluationSamples) -> PredictionStore:
        """
        Return the unscored predictions for evaluation samples, gathered from all processes.

        Args:
            samples (`EvaluationSamples`): Images with their prompts.
        """
        run_loop = partial(super().evaluation_loop, self.get_eval_dataloader(samples), "predictions", True)
        with self._progress.closed_on_error():
            self.evaluator.predict(run_loop, samples)
        self.callback_handler.on_predict(self.args, self.state, self.control, {})  # This ends the progress bar.
        return self.evaluator.store

    @cached_property
    def hub(self) -> HubUploader:
        """Uploader of the run; its creation moves the token out of the arguments."""
        return HubUploader(self.args)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Create the repositories of the run before training, see [`HubUploader.create_repositories`]."""
        if self.is_world_process_zero():
            self.hub.create_repositories(self.unwrapped_model, token, private)
            self.hub_model_id = self.hub.repo_id

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False):
        """Save the model without a push; `push_to_hub` is called when the card is written."""
        super().save_model(output_dir, _internal_call=True)

    def push_to_hub(self, commit_message: str = "Tuned model"):
        """Push the run's folder, see [`HubUploader.push_run`]; processes other than the first return `None`."""
        if not self.is_world_process_zero():
            return None
        if self.hub_model_id is None:
            self.init_hf_repo()
        return self.hub.push_run(self.unwrapped_model, commit_message)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self.is_world_process_zero():
            self.hub.push_checkpoint(Path(checkpoint_folder), self.unwrapped_model, self.state.global_step)

    def _finish_current_push(self) -> None:
        self.hub.finish_uploads()
