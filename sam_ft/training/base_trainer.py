"""Trainer base class of SAM 3 and SAM 2: loss normalization, logged loss parts, keyed dropout, rates by part."""

import logging
import math
import signal
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate.utils import gather_object, send_to_device
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, TrainerCallback, TrainerState
from transformers.integrations import TensorBoardCallback
from transformers.integrations.integration_utils import default_logdir
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import TrainOutput, get_last_checkpoint

from ..data.keyed_random import keyed_draws
from ..data.lazy_rows import MixedRows
from ..data.samples.pipeline import EpochSampler
from ..optim.parameter_groups import Rates, parameter_groups
from ..utils.json_files import read_json_file
from ..utils.owned_files import OwnedFiles
from ..utils.signals import SIGNALS, Interrupted
from .checkpoints import RUN_KIND, names_below, read_finished, record_checkpoint, remove_old_checkpoints
from .data_record import DATA_FILE, DataRecord
from .finite_check import FiniteCheck, naming_step
from .hub_upload import HubTrainer
from .run_cost import RunCost


logger = logging.getLogger(__name__)


class SamTrainer(HubTrainer):
    """
    Transformers' Trainer for losses that are divided by the number of instances.

    Args:
        args: Positional arguments of `transformers.Trainer`.
        rates (`Rates`, *optional*): Learning rates by part.
        count (`Callable`): Function from a batch to the counts that it adds to the loss normalizers.
        kwargs: Keyword arguments of `transformers.Trainer`.

    Raises:
        ValueError: With more than one GPU in one process, fp16, label smoothing, sampling by length, or
            self-distillation under FSDP or DeepSpeed.
    """

    loss_is_scaled_for_ga = True  # Losses are divided by the counts of the whole accumulation window.

    def __init__(self, *args, rates: Rates | None = None, count: Callable[[dict], tuple] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        if self.args.n_gpu > 1:
            raise ValueError(
                f"{self.args.n_gpu} GPUs are visible to one process, and DataParallel cannot split these batches. Use "
                "`accelerate launch --config_file accelerate_configs/multi_gpu.yaml recipes/…`, or set "
                "CUDA_VISIBLE_DEVICES to one of them"
            )
        if self.args.train_sampling_strategy not in ("random", "sequential"):
            raise ValueError(
                f"`train_sampling_strategy` is {self.args.train_sampling_strategy!r}, but images have no "
                "length to sort by. Choose random or sequential"
            )
        if self.args.label_smoothing_factor:
            raise ValueError(
                f"`label_smoothing_factor` is {self.args.label_smoothing_factor}, but it is for class labels, which "
                f"this "
                "loss has not. Leave it out"
            )
        if getattr(self.model, "teacher", None) is not None and not self.can_evaluate_before_training:
            raise ValueError(
                "`distill_weight` needs the whole model in each process. Use DistributedDataParallel instead of FSDP "
                "or "
                "DeepSpeed"
            )
        if self.args.fp16 or self.accelerator.mixed_precision == "fp16":
            raise ValueError(
                "`fp16` is not supported, because chunked losses cannot be rescaled. Use `bf16: true` or float32"
            )
        self.model_accepts_loss_kwargs = True  # PEFT and FSDP may hide the attribute of the model.
        self.rates, self.count = rates or Rates(), count
        self._parts: dict[str, torch.Tensor] = {}
        self._micro_step = self._parts_since = 0
        self._finite = FiniteCheck()
        self.data_record: DataRecord | None = None
        self.stop_signal: int | None = None
        # Trainer removes whole folders of old checkpoints; `_save_checkpoint` removes only files that the run wrote.
        self._save_total_limit, self.args.save_total_limit = self.args.save_total_limit, None
        self._keep_events_in_output_dir()
        self.add_callback(_EpochForSampler(self))
        self.add_callback(RunCost())
        self.add_callback(_StopOnSignal(self))

    def _keep_events_in_output_dir(self) -> None:
        """Set TensorBoard's folder before the first evaluation, which would write to `./runs`."""
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
                callback.logging_dir = str(Path(self.args.output_dir) / default_logdir())

    def train(self, resume_from_checkpoint=None, *args, **kwargs):
        """
        Train as `transformers.Trainer.train`; a finished run is restored instead.

        Trainer would take another step after the last one, or continue to the next evaluation after an early stop.
        """
        if resume_from_checkpoint is True:
            resume_from_checkpoint = get_last_checkpoint(self.args.output_dir)
        if resume_from_checkpoint and self.can_evaluate_before_training:
            finished = read_finished(Path(self.args.output_dir), Path(resume_from_checkpoint))
            if finished is not None:
                return self._restore(finished)
        if self.model_wrapped is self.model and getattr(self.model, "_is_accelerate_prepared", False):
            # An evaluation has prepared the bare model. Accelerate would treat it as wrapped and skip
            # DistributedDataParallel, so that each process would silently train a model of its own.
            self.model = self.model_wrapped = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
            self.model._is_accelerate_prepared = False
            self.accelerator._models.clear()
        with SIGNALS.deferring():
            output = super().train(resume_from_checkpoint, *args, **kwargs)
        SIGNALS.raise_received()  # A signal may arrive after the last step.
        return output

    def _save_checkpoint(self, model, trial):
        """Save a checkpoint with the fingerprint of the data; remove old ones, but only files that the run wrote."""
        folder = Path(self._get_output_dir(trial=trial))
        checkpoint = folder / f"checkpoint-{self.state.global_step}"
        before = names_below(checkpoint)
        if self.data_record is not None and self.args.should_save:
            self.data_record.write(checkpoint / DATA_FILE)
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            record_checkpoint(OwnedFiles(folder, RUN_KIND), checkpoint, before)
            remove_old_checkpoints(folder, self._save_total_limit, self.state.best_model_checkpoint)

    def close_loggers(self) -> None:
        """Close TensorBoard's writer, so that its file is complete."""
        for callback in self.callback_handler.callbacks:
            if getattr(callback, "tb_writer", None) is not None:
                callback.tb_writer.close()
                callback.tb_writer = None

    def _restore(self, finished: TrainerState) -> TrainOutput:
        folder = Path(self.args.output_dir)
        logger.info("this run is finished: its weights are loaded and nothing is trained")
        self._load_from_checkpoint(str(folder), self.accelerator.unwrap_model(self.model))
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

    @property
    def can_evaluate_before_training(self) -> bool:
        """Whether the model can be evaluated before training; FSDP and DeepSpeed shard it for good."""
        return not (self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def create_accelerator_and_postprocess(self):
        """Create the accelerator; with FSDP2, weights and box inputs stay in float32 under autocast."""
        super().create_accelerator_and_postprocess()
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        if plugin is not None and getattr(plugin, "fsdp_version", 1) == 2:
            from torch.distributed.fsdp import MixedPrecisionPolicy

            plugin.mixed_precision_policy = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)

    def _get_train_sampler(self, train_dataset=None):
        dataset = self.train_dataset if train_dataset is None else train_dataset
        shuffle = self.args.train_sampling_strategy != "sequential" and not getattr(dataset, "in_order", False)
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        rows = getattr(dataset, "rows", dataset)
        if isinstance(rows, MixedRows) and not shuffle:
            raise ValueError(
                "`train_sampling_strategy: sequential` has no effect with `extra_datasets`, whose mixture is drawn at "
                "random. Leave one of them out"
            )
        self.train_sampler = EpochSampler(rows, seed, shuffle)
        return self.train_sampler

    def get_eval_dataloader(self, eval_dataset=None) -> DataLoader:
        """
        Return the evaluation batches of this process.

        Each process builds its own batches, so that no batch is padded and no example is evaluated twice. A process
        with fewer batches repeats the first one, because sharded models need all processes in each step; repeated
        predictions have the same key.
        """
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        size, world, rank = self.args.eval_batch_size, self.args.world_size, self.args.process_index
        batches = [list(range(i, min(i + size, len(dataset)))) for i in range(0, len(dataset), size)]
        own_batches = batches[rank::world]
        own_batches += batches[:1] * (math.ceil(len(batches) / world) - len(own_batches))
        return DataLoader(
            dataset,
            batch_sampler=own_batches,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            pin_memory=self.args.dataloader_pin_memory,
            multiprocessing_context=self.args.dataloader_multiprocessing_context,
        )

    def _prepare_input(self, data):
        # The base class casts all floats to DeepSpeed's dtype, which would shift boxes by pixels.
        return send_to_device(data, self.args.device)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """Return the batches of the accumulation window and the loss normalizers, summed over all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._micro_step = 0
        counts = torch.tensor([self.count(batch) for batch in batches], dtype=torch.float32, device=device).sum(0)
        self.stop_signal = SIGNALS.received
        if self.args.world_size == 1:
            return batches, counts
        # A signal may reach a single process, but all of them must stop after the same step.
        signals = torch.full((1,), float(SIGNALS.received or 0), device=device)
        *total, signals = self.accelerator.reduce(torch.cat([counts, signals]), "sum").split([len(counts), 1])
        if float(signals) and self.stop_signal is None:
            self.stop_signal = signal.SIGTERM
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
            counts = torch.tensor(self.count(inputs), dtype=torch.float32, device=self.args.device)
            # `Sam3LossWrapper` ("global") averages instances over the processes, but not pairs; SAM 2 has no
            # pairs.
            counts[0] = self.accelerator.reduce(counts[:1], "mean")[0]
            scale = 1 / self.current_gradient_accumulation_steps
        else:
            counts, scale = num_items_in_batch, self.accelerator.num_processes  # Gradients are averaged.
        with naming_step(self.state.global_step + 1, inputs["labels"]):
            outputs = model(**inputs, normalizers=counts)
        self._finite.add(inputs["labels"], outputs.loss, outputs.parts)
        # Logged parts are summed over the processes, so that means need a division.
        part_scale = 1.0 if self.args.normalizer == "window" else scale / self.accelerator.num_processes
        self._add_parts({name: value * part_scale for name, value in outputs.parts.items() if "_aux_" not in name})
        loss = outputs.loss * scale
        return (loss, outputs) if return_outputs else loss

    def _add_parts(self, parts: dict[str, torch.Tensor]):
        for name, value in parts.items():
            self._parts[name] = self._parts.get(name, 0.0) + value

    def floating_point_ops(self, inputs) -> int:
        """Return 0, because the base class estimates operations from text tokens."""
        return 0

    def create_optimizer(self, model=None):
        """Create the optimizer with one parameter group per part and layer."""
        if self.optimizer is None:
            model = model or self.model
            cls, arguments = self.get_optimizer_cls_and_kwargs(self.args, model)
            self.optimizer = cls(parameter_groups(model, self.rates), **arguments)
        return self.optimizer

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log with the loss parts and learning rates; parts are averaged over the steps since the last log."""
        if "loss" in logs:
            steps = max(self.state.global_step - self._parts_since, 1)
            self._parts_since = self.state.global_step
            own_parts = {name: float(value) for name, value in self._parts.items()}
            self._parts = {}
            for parts in gather_object([own_parts]):
                for name, value in parts.items():
                    logs[name] = logs.get(name, 0.0) + value / steps
            for group in self.optimizer.param_groups if self.optimizer is not None else ():
                name = f"lr_{group.get('part', 'all')}"
                logs[name] = max(logs.get(name, 0.0), group["lr"])  # Layer-wise decay only lowers rates.
        super().log(logs, start_time)


class _EpochForSampler(TrainerCallback):
    """Callback that sets the epoch of the sampler, which Accelerate may have wrapped, and resets the logged sums."""

    def __init__(self, trainer: SamTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        self.trainer._parts, self.trainer._parts_since = {}, state.global_step

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.trainer.train_sampler.set_epoch(int((state.epoch or 0.0) + 1e-6))


class _StopOnSignal(TrainerCallback):
    """Callback that saves a checkpoint after the step in which a signal arrived, and ends the program."""

    def __init__(self, trainer: SamTrainer):
        self.trainer = trainer

    def _stop(self, control):
        # With several processes, `get_batch_samples` has chosen the same step for all of them.
        number = SIGNALS.received if self.trainer.args.world_size == 1 else self.trainer.stop_signal
        if number is not None:
            self.trainer.stop_signal = number
            self.trainer.args.save_only_model = False  # The run resumes from this checkpoint.
            control.should_save = True
        return control

    def on_step_end(self, args, state, control, **kwargs):
        return self._stop(control)

    def on_evaluate(self, args, state, control, **kwargs):
        return self._stop(control)

    def on_save(self, args, state, control, **kwargs):
        if self.trainer.stop_signal is not None:
            logger.warning("checkpoint-%d is saved; run the same command again to resume from it", state.global_step)
            raise Interrupted(self.trainer.stop_signal)


class LogFile(TrainerCallback):
    """Callback that writes each log to a file as one line."""

    def __init__(self, path: str):
        self.path = path

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero and logs:
            numbers = ", ".join(f"{k} {v:.6g}" if isinstance(v, float) else f"{k} {v}" for k, v in logs.items())
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(f"step {state.global_step}: {numbers}\n")


class EarlyStopping(EarlyStoppingCallback):
    """Early stopping that ignores evaluations outside `train()`, which have no `eval_` metrics."""

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        if any(name.startswith("eval_") for name in metrics):
            super().on_evaluate(args, state, control, metrics, **kwargs)
