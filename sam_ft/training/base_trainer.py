"""What SAM 3 and SAM 2 share: counting over the accumulation window, named losses, keyed randomness, rates by part."""

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
    Transformers' Trainer for models that count instances.

    Args:
        rates (`Rates`): learning rates by part.
        count (`Callable`): `count(batch)` gives the numbers that the batch adds to the loss's normalisers.
        Everything else as in `transformers.Trainer`.

    Raises:
        `ValueError`: with more than one GPU in one process, and with fp16.
    """

    loss_is_scaled_for_ga = True  # losses are divided by the whole accumulation window

    def __init__(self, *args, rates: Rates | None = None, count: Callable[[dict], tuple] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        if self.args.n_gpu > 1:
            raise ValueError(
                f"{self.args.n_gpu} GPUs are visible to one process, which would split images and phrases apart. Use "
                "`accelerate launch --config_file accelerate_configs/multi_gpu.yaml recipes/…`, or set "
                "CUDA_VISIBLE_DEVICES to one of them"
            )
        if self.args.train_sampling_strategy not in ("random", "sequential"):
            raise ValueError(
                f"`train_sampling_strategy` is {self.args.train_sampling_strategy!r}; images have no length to sort by: "
                "choose random or sequential"
            )
        if self.args.label_smoothing_factor:
            raise ValueError(
                "`label_smoothing_factor` is for class labels; masks and soft scores have none. Leave it out"
            )
        if getattr(self.model, "teacher", None) is not None and not self.can_evaluate_before_training:
            raise ValueError(
                "`distill_weight` needs the whole model in each process: use DistributedDataParallel, not FSDP or DeepSpeed"
            )
        if self.args.fp16 or self.accelerator.mixed_precision == "fp16":
            raise ValueError("`fp16` is not supported: chunked losses cannot be rescaled. Use `bf16: true` or float32")
        self.model_accepts_loss_kwargs = True  # a wrapped model (PEFT, FSDP) may hide its own attribute
        self.rates, self.count = rates or Rates(), count
        self._parts: dict[str, torch.Tensor] = {}
        self._micro_step = self._parts_since = 0
        self._finite = FiniteCheck()
        self.data_record: DataRecord | None = None
        self.stop_signal: int | None = None
        # Trainer removes old checkpoints with everything in them; `_save_checkpoint` removes what a run wrote
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
        Trains; see `transformers.Trainer.train`. A run that is finished is restored: Trainer would take another step beyond its last one, or
        after an early stop go on to the next evaluation.
        """
        if resume_from_checkpoint is True:
            resume_from_checkpoint = get_last_checkpoint(self.args.output_dir)
        if resume_from_checkpoint and self.can_evaluate_before_training:
            finished = read_finished(Path(self.args.output_dir), Path(resume_from_checkpoint))
            if finished is not None:
                return self._restore(finished)
        if self.model_wrapped is self.model and getattr(self.model, "_is_accelerate_prepared", False):
            # An evaluation has prepared the bare model. Accelerate would take it for wrapped and leave it without
            # DistributedDataParallel: processes would train apart, without a word.
            self.model = self.model_wrapped = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
            self.model._is_accelerate_prepared = False
            self.accelerator._models.clear()
        with SIGNALS.deferring():
            output = super().train(resume_from_checkpoint, *args, **kwargs)
        SIGNALS.raise_received()  # one that arrived after the last step
        return output

    def _save_checkpoint(self, model, trial):
        """As Trainer's, with the fingerprint of the data. Of old checkpoints only files that a run writes are removed."""
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
        logger.info("this run is finished: its weights are loaded, nothing is trained")
        self._load_from_checkpoint(str(folder), self.accelerator.unwrap_model(self.model))
        self.state = finished  # as the first process wrote it
        self.state.is_local_process_zero = self.is_local_process_zero()
        self.state.is_world_process_zero = self.is_world_process_zero()
        self._load_callback_state()
        metrics = folder / "train_results.json"
        train_metrics = read_json_file(metrics) if metrics.is_file() else {}
        self.accelerator.wait_for_everyone()  # the first process is about to write that file anew
        return TrainOutput(finished.global_step, train_metrics.get("train_loss", 0.0), train_metrics)

    def _load_callback_state(self) -> None:
        super()._load_callback_state()
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, ExportableState):  # one that a checkpoint of an older release does not know
                self.state.stateful_callbacks.setdefault(type(callback).__name__, callback.state())

    @property
    def can_evaluate_before_training(self) -> bool:
        """Whether an evaluation may come first; one that shards the model cannot be undone."""
        return not (self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def create_accelerator_and_postprocess(self):
        """Keeps FSDP2's weights in float32 under autocast: the parts behind the encoders need them, boxes as inputs too."""
        super().create_accelerator_and_postprocess()
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        if plugin is not None and getattr(plugin, "fsdp_version", 1) == 2:
            from torch.distributed.fsdp import MixedPrecisionPolicy

            plugin.mixed_precision_policy = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)

    # data

    def _get_train_sampler(self, train_dataset=None):
        dataset = self.train_dataset if train_dataset is None else train_dataset
        shuffle = self.args.train_sampling_strategy != "sequential" and not getattr(dataset, "in_order", False)
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        rows = getattr(dataset, "rows", dataset)
        if isinstance(rows, MixedRows) and not shuffle:
            raise ValueError(
                "`train_sampling_strategy: sequential` means nothing for `extra_datasets`: a mixture is drawn"
            )
        self.train_sampler = EpochSampler(rows, seed, shuffle)
        return self.train_sampler

    def get_eval_dataloader(self, eval_dataset=None) -> DataLoader:
        """
        Batches of this process alone, so that nothing is padded and no example is seen by two. Processes that would run
        dry repeat a batch, because sharded models need everyone; repeated predictions have the same key.
        """
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        size, world, rank = self.args.eval_batch_size, self.args.world_size, self.args.process_index
        batches = [list(range(i, min(i + size, len(dataset)))) for i in range(0, len(dataset), size)]
        mine = batches[rank::world]
        mine += batches[:1] * (math.ceil(len(batches) / world) - len(mine))
        return DataLoader(
            dataset,
            batch_sampler=mine,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            pin_memory=self.args.dataloader_pin_memory,
            multiprocessing_context=self.args.dataloader_multiprocessing_context,
        )

    def _prepare_input(self, data):
        # the base class casts every float to DeepSpeed's dtype: boxes would move by pixels
        return send_to_device(data, self.args.device)

    # the step

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """Batches of the accumulation window, and what they and all other processes' add to the normalisers."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._micro_step = 0
        counts = torch.tensor([self.count(batch) for batch in batches], dtype=torch.float32, device=device).sum(0)
        self.stop_signal = SIGNALS.received
        if self.args.world_size == 1:
            return batches, counts
        # a signal may reach one process alone; all of them must stop after the same step
        signals = torch.full((1,), float(SIGNALS.received or 0), device=device)
        *total, signals = self.accelerator.reduce(torch.cat([counts, signals]), "sum").split([len(counts), 1])
        if float(signals) and self.stop_signal is None:
            self.stop_signal = signal.SIGTERM
        return batches, total[0]

    def training_step(self, model, inputs, num_items_in_batch=None):
        """One micro-batch. Dropout is keyed by (seed, step, micro-batch, rank): resuming and reordering change nothing."""
        key = f"{self.state.global_step}/{self._micro_step}/{self.args.process_index}"
        torch.manual_seed(int(keyed_draws(self.args.seed, 0, key, "dropout").integers(2**62)))
        self._micro_step += 1
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            self._finite.check(model, self.accelerator, self.state.global_step + 1)
        return loss

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """
        The batch's share of the window's loss; with `normalizer: batch`, the official way: the micro-batch's own mean,
        averaged over the window.
        """
        if self.args.normalizer == "batch":
            counts = torch.tensor(self.count(inputs), dtype=torch.float32, device=self.args.device)
            # instances are averaged over the processes, pairs are each process's own (`Sam3LossWrapper`, "global"); SAM 2 counts objects alone
            counts[0] = self.accelerator.reduce(counts[:1], "mean")[0]
            scale = 1 / self.current_gradient_accumulation_steps
        else:
            counts, scale = num_items_in_batch, self.accelerator.num_processes  # processes' gradients are averaged
        with naming_step(self.state.global_step + 1, inputs["labels"]):
            outputs = model(**inputs, normalizers=counts)
        self._finite.add(inputs["labels"], outputs.loss, outputs.parts)
        # a logged part is a sum over processes: shares of one window, or means to be averaged
        shares = 1.0 if self.args.normalizer == "window" else scale / self.accelerator.num_processes
        self._keep_parts({name: value * shares for name, value in outputs.parts.items() if "_aux_" not in name})
        loss = outputs.loss * scale
        return (loss, outputs) if return_outputs else loss

    def _keep_parts(self, parts: dict[str, torch.Tensor]):
        for name, value in parts.items():
            self._parts[name] = self._parts.get(name, 0.0) + value

    def floating_point_ops(self, inputs) -> int:
        return 0  # the base class counts tokens of text

    # optimizer and logs

    def create_optimizer(self, model=None):
        """Parameter groups with a rate for each part."""
        if self.optimizer is None:
            model = model or self.model
            cls, arguments = self.get_optimizer_cls_and_kwargs(self.args, model)
            self.optimizer = cls(parameter_groups(model, self.rates), **arguments)
        return self.optimizer

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the loss's parts, averaged over the steps and summed over the processes since the last log, and rates."""
        if "loss" in logs:
            steps = max(self.state.global_step - self._parts_since, 1)
            self._parts_since = self.state.global_step
            mine = {name: float(value) for name, value in self._parts.items()}
            self._parts = {}
            for parts in gather_object([mine]):
                for name, value in parts.items():
                    logs[name] = logs.get(name, 0.0) + value / steps
            for group in self.optimizer.param_groups if self.optimizer is not None else ():
                name = f"lr_{group.get('part', 'all')}"
                logs[name] = max(logs.get(name, 0.0), group["lr"])  # the undecayed layer's
        super().log(logs, start_time)


class _EpochForSampler(TrainerCallback):
    """Tells the sampler its epoch, whatever accelerate has wrapped around it, and starts the sums of logs afresh."""

    def __init__(self, trainer: SamTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        self.trainer._parts, self.trainer._parts_since = {}, state.global_step

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.trainer.train_sampler.set_epoch(int((state.epoch or 0.0) + 1e-6))


class _StopOnSignal(TrainerCallback):
    """Saves a checkpoint after the step in which a signal arrived, and ends the program."""

    def __init__(self, trainer: SamTrainer):
        self.trainer = trainer

    def _stop(self, control):
        # of several processes, `get_batch_samples` has agreed on the step
        number = SIGNALS.received if self.trainer.args.world_size == 1 else self.trainer.stop_signal
        if number is not None:
            self.trainer.stop_signal = number
            self.trainer.args.save_only_model = False  # the run resumes from this checkpoint
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
    """Writes every log of a run to a file as one line."""

    def __init__(self, path: str):
        self.path = path

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero and logs:
            numbers = ", ".join(f"{k} {v:.6g}" if isinstance(v, float) else f"{k} {v}" for k, v in logs.items())
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(f"step {state.global_step}: {numbers}\n")


class EarlyStopping(EarlyStoppingCallback):
    """Transformers' callback, deaf to evaluations outside training, which have no `eval_` metrics."""

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        if any(name.startswith("eval_") for name in metrics):
            super().on_evaluate(args, state, control, metrics, **kwargs)
