"""Callbacks of the trainers: epoch of the sampler, stop on a signal, log file, early stopping, TensorBoard folder."""

import logging
from pathlib import Path

from transformers import EarlyStoppingCallback, TrainerCallback
from transformers.integrations import TensorBoardCallback
from transformers.integrations.integration_utils import default_logdir

from ..utils.signals import SIGNALS, Interrupted


logger = logging.getLogger(__name__)


class SamplerEpochCallback(TrainerCallback):
    """
    Callback that sets the epoch of the sampler, which Accelerate may have wrapped.

    Args:
        trainer (`Trainer`): Trainer with an attribute `train_sampler`.
    """

    def __init__(self, trainer):
        self.trainer = trainer

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.trainer.train_sampler.set_epoch(int((state.epoch or 0.0) + 1e-6))


class SignalStopCallback(TrainerCallback):
    """
    Callback that saves a checkpoint after the step in which a signal arrived, and ends the program.

    Attributes:
        number (`int`, *optional*): Signal that arrived before the current step. With several processes the trainer
            sets the same signal in all of them, so that they stop after the same step.
    """

    def __init__(self):
        self.number: int | None = None

    def _stop(self, args, control):
        number = SIGNALS.received if args.world_size == 1 else self.number
        if number is not None:
            self.number = number
            args.save_only_model = False  # The run resumes from this checkpoint.
            control.should_save = True
        return control

    def on_step_end(self, args, state, control, **kwargs):
        return self._stop(args, control)

    def on_evaluate(self, args, state, control, **kwargs):
        return self._stop(args, control)

    def on_save(self, args, state, control, **kwargs):
        if self.number is not None:
            logger.warning("checkpoint-%d is saved; run the same command again to resume from it", state.global_step)
            raise Interrupted(self.number)


class LogFile(TrainerCallback):
    """
    Callback that writes each log to a file as one line.

    Args:
        path (`str`): The file.
    """

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


def set_event_folder(callbacks: list[TrainerCallback], output_dir: Path) -> None:
    """Set TensorBoard's folder before the first evaluation, which would write to `./runs`."""
    for callback in callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(output_dir / default_logdir())
