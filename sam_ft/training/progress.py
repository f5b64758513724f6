"""Progress of training and evaluation: one bar on a terminal, a line from time to time elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator
from datetime import timedelta

from transformers import TrainerCallback
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import IntervalStrategy, has_length

from ..reporting.metric_specs import short_label_of
from ..reporting.metric_table import exists, lead_metric_of
from ..utils.live_bar import LiveBar, has_terminal


LINES_PER_RUN = 20
MAX_SECONDS_BETWEEN_LINES = 300
_PREFIXES = {"before": "before_", "now": "eval_"}


class ProgressReport(TrainerCallback):
    """
    Callback that shows steps, loss, the metric of the trained phrases or objects, and the time left.

    On a terminal it is one bar, in which evaluations during training appear as well; an evaluation outside training
    has a bar that is removed at its end. Without a terminal, or with `disable_tqdm`, about `LINES_PER_RUN` lines are
    written to the error stream; with `logging_strategy: no`, none.
    """

    def __init__(self):
        self.loss: float | None = None
        self.scores: dict[str, tuple[str, float]] = {}  # metric and value, `before` training and `now`
        self._bar: LiveBar | None = None
        self._is_training = False
        self._step = self._max_steps = self._first_step = 0
        self._begin = self._written = time.perf_counter()
        self._written_step: int | None = None
        self._evaluated = self._num_batches = 0

    def on_train_begin(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        self.close()
        self._is_training, self._max_steps = True, state.max_steps
        self._step = self._first_step = state.global_step
        self._begin, self._written_step = time.perf_counter(), None
        if _wants_bar(args):
            self._bar = LiveBar(state.max_steps, "training", leave=True)
            self._draw(at_once=True)

    def on_step_end(self, args, state, control, **kwargs):
        self._step = state.global_step
        self._draw()

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not (state.is_world_process_zero and self._is_training and "loss" in (logs or {})):
            return
        self.loss, self._step = logs["loss"], state.global_step
        self._draw()
        if self._wants_line():
            values = self._list_values(with_score="now" in self.scores)
            self._write(args, ", ".join([f"step {self._step} of {self._max_steps}", *values]))
            self._written_step = self._step

    def on_prediction_step(self, args, state, control, eval_dataloader=None, **kwargs):
        if not (state.is_world_process_zero and has_length(eval_dataloader)):
            return
        self._evaluated, self._num_batches = self._evaluated + 1, len(eval_dataloader)
        if self._bar is None and _wants_bar(args):
            self._bar = LiveBar(self._num_batches, "evaluation", leave=False)
        self._draw()
        if time.perf_counter() - self._written >= MAX_SECONDS_BETWEEN_LINES:
            self._write(args, f"evaluation: {self._evaluated} of {self._num_batches} batches")

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        if state.is_world_process_zero:
            self._end_evaluation()
            self._record_score(args, metrics or {})

    def on_predict(self, args, state, control, metrics=None, **kwargs):
        self._end_evaluation()

    def on_train_end(self, args, state, control, **kwargs):
        self.close()

    def close(self) -> None:
        """Close the bar, also of a training that failed."""
        if self._bar is not None:
            if self._is_training:
                self._draw(at_once=True, at_end=True)
            self._bar.close()
        self._bar, self._is_training, self._evaluated = None, False, 0

    @contextlib.contextmanager
    def closed_on_error(self) -> Iterator[None]:
        """Close the bar if the context raises."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _end_evaluation(self) -> None:
        self._evaluated = 0
        if self._is_training:
            self._draw(at_once=True)
        else:
            self.close()

    def _record_score(self, args, metrics: dict[str, float]) -> None:
        """Record the leading metric of an evaluation; without a bar, write a line about it."""
        for time_name, prefix in _PREFIXES.items():
            values = {name.removeprefix(prefix): v for name, v in metrics.items() if name.startswith(prefix)}
            name = lead_metric_of(values)
            if name is None or not exists(values[name]):
                continue
            self.scores[time_name] = name, values[name]
            if self._is_training:
                self._draw(at_once=True)
                self._write(args, f"step {self._step} of {self._max_steps}, evaluation: {self._describe_score()}")
            elif time_name == "before" and not _wants_bar(args):
                self._write(args, f"evaluation before training: {short_label_of(name)} {values[name]:.2f}")

    def _describe_score(self) -> str:
        """Describe the leading metric before training and in the last evaluation."""
        before, now = self.scores.get("before"), self.scores.get("now")
        if now is None:
            return "" if before is None else f"{short_label_of(before[0])} {before[1]:.2f} before"
        name, value = now
        change = f"{before[1]:.2f} → {value:.2f}" if before is not None and before[0] == name else f"{value:.2f}"
        return f"{short_label_of(name)} {change}"

    def _list_values(self, *, with_score: bool = True) -> list[str]:
        """Return loss, leading metric and time left, as far as they are known."""
        values = [] if self.loss is None else [f"loss {self.loss:.3g}"]
        values += filter(None, [self._describe_score() if with_score else ""])
        done = self._step - self._first_step
        if done > 1:  # The first step is slower than the others.
            seconds = (time.perf_counter() - self._begin) / done * (self._max_steps - self._step)
            values.append(f"{timedelta(seconds=round(seconds))} left")
        return values

    def _draw(self, *, at_once: bool = False, at_end: bool = False) -> None:
        if self._bar is None:
            return
        evaluated = f"{self._evaluated}/{self._num_batches}"
        if not self._is_training:
            self._bar.update(self._evaluated, "evaluation", evaluated)
            return
        values = self._list_values()
        if at_end:
            elapsed = timedelta(seconds=round(time.perf_counter() - self._begin))
            values = [*(value for value in values if not value.endswith(" left")), f"{elapsed}"]
        caption = f"evaluation {evaluated}" if self._evaluated else "training"
        text = " · ".join([f"{self._step}/{self._max_steps}", *values])
        self._bar.update(self._step, caption, text, at_once=at_once)

    def _wants_line(self) -> bool:
        """Return whether enough steps or time have passed since the last line."""
        last = self._written_step
        return (
            last is None
            or self._step - last >= self._max_steps / LINES_PER_RUN
            or self._step >= self._max_steps
            or time.perf_counter() - self._written >= MAX_SECONDS_BETWEEN_LINES
        )

    def _write(self, args, line: str) -> None:
        """Write a line unless there is a bar or logging is off."""
        self._written = time.perf_counter()
        if self._bar is None and args.logging_strategy != IntervalStrategy.NO:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()


def _wants_bar(args) -> bool:
    return not args.disable_tqdm and has_terminal()


def add_progress_report(trainer) -> ProgressReport:
    """
    Replace Transformers' progress callback of a trainer.

    Args:
        trainer (`Trainer`): Trainer to change.
    """
    for callback in (DEFAULT_PROGRESS_CALLBACK, PrinterCallback):
        trainer.remove_callback(callback)
    report = ProgressReport()
    trainer.add_callback(report)
    return report
