"""Processes of a command that Accelerate started, on one or several machines: shares of the work and of errors."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from .signals import Interrupted


_TIMEOUT = timedelta(days=30)  # A process waits this long for a slower one; gloo reports an ended one at once.


@dataclass(frozen=True)
class ProcessGroup:
    """
    Position of this process among those of a command.

    Attributes:
        index (`int`): Number of this process, from 0; the first writes what all share.
        count (`int`): Number of processes on all machines.
        local_index (`int`): Number of this process on its machine, which is also that of its device.
    """

    index: int = 0
    count: int = 1
    local_index: int = 0

    @classmethod
    def start(cls) -> "ProcessGroup":
        """Join the processes of `accelerate launch`; a process that was started alone is a group of one."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        import torch
        from accelerate import PartialState

        # Only short messages are exchanged, so that gloo serves GPUs too, and notices a process that ended.
        state = PartialState(cpu=not torch.accelerator.is_available(), backend="gloo", timeout=_TIMEOUT)
        return cls(state.process_index, state.num_processes, state.local_process_index)

    @property
    def is_main(self) -> bool:
        """Return whether this is the first process."""
        return self.index == 0

    def run(self, work: Callable[[], object]) -> object:
        """
        Run short work of each process and wait for all of them, also for the result of one that failed.

        After long work, an error should end its process at once, without this method: [`gather`] then ends the others.

        Args:
            work (`Callable[[], object]`): Work of this process.

        Returns:
            The result of this process.

        Raises:
            `Exception`: The error of this process, in the first process that has it.
            `SystemExit`: If only other processes failed, or earlier ones with the same message.
            `ValueError`: If another process ended, so that nothing can be exchanged with it.
        """
        if self.count == 1:
            return work()
        result, problem = None, None
        try:
            result = work()
        except (Interrupted, KeyboardInterrupt):
            raise
        except Exception as error:
            problem = error
        messages = self.gather(None if problem is None else f"{type(problem).__name__}: {problem}")
        if problem is not None and messages[self.index] not in messages[: self.index]:
            raise problem
        if any(messages):
            sys.exit(1)
        return result

    def run_first(self, work: Callable[[], object]) -> None:
        """Run work in the first process, while the others wait; see [`run`]."""
        self.run(work if self.is_main else lambda: None)

    def gather(self, value) -> list:
        """
        Return the values of all processes, in the order of their numbers.

        Args:
            value: Small picklable value of this process.

        Raises:
            `ValueError`: If another process ended.
        """
        if self.count == 1:
            return [value]
        import torch.distributed as dist

        values = [None] * self.count
        try:
            dist.all_gather_object(values, value)
        except RuntimeError as error:
            raise ValueError(
                "another process of this command ended, see its message. Start the same command again: it continues"
            ) from error
        return values


ALONE = ProcessGroup()
