"""Signals that end a program; in training, the first one requests a checkpoint and the second one stops at once."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator


_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_SAME_SIGNAL_S = 1.0  # a launcher forwards signals that the process has already received


class Interrupted(SystemExit):
    """
    The end of a program by a signal; the exit status is 128 plus the signal's number.

    Args:
        number (`int`): The signal.
    """

    def __init__(self, number: int):
        super().__init__(128 + number)
        self.signal_name = signal.Signals(number).name


class SignalWatch:
    """
    Handlers of SIGINT, SIGTERM and SIGHUP of this process.

    Attributes:
        received (`int`, *optional*): The first signal that arrived while the watch was deferring.
    """

    def __init__(self):
        self.received: int | None = None
        self._received_at = 0.0
        self._deferring = False
        self._process: int | None = None

    @contextlib.contextmanager
    def installed(self) -> Iterator["SignalWatch"]:
        """Handle the signals while the context is open; outside the main thread, which receives them, do nothing."""
        if threading.current_thread() is not threading.main_thread() or self._process == os.getpid():
            yield self
            return
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        self._process, self.received, self._deferring = os.getpid(), None, False
        for number in _SIGNALS:
            # a signal that the parent ignores, such as SIGHUP under nohup, stays ignored
            if before[number] is not signal.SIG_IGN:
                signal.signal(number, self._handle)
        try:
            yield self
        finally:
            self._process = None
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    @contextlib.contextmanager
    def deferring(self) -> Iterator["SignalWatch"]:
        """Record the first signal in `received` instead of raising, while the context is open."""
        self._deferring = True
        try:
            yield self
        finally:
            self._deferring = False

    def raise_received(self) -> None:
        """
        End the program if a signal was recorded.

        Raises:
            `Interrupted`: If a signal was recorded.
        """
        if self.received is not None:
            raise Interrupted(self.received)

    def _handle(self, number: int, _frame) -> None:
        if os.getpid() != self._process:  # in a forked loader worker, only a request to terminate counts
            if number != signal.SIGINT:
                os._exit(128 + number)
            return
        now = time.monotonic()
        if self.received is not None and now - self._received_at < _SAME_SIGNAL_S:
            return
        if not self._deferring or self.received is not None:
            raise Interrupted(number)
        self.received, self._received_at = number, now
        name = signal.Signals(number).name
        line = f"{name}: a checkpoint is saved after the current step; a second signal stops at once\n"
        os.write(2, line.encode())  # logging is not safe within a handler


SIGNALS = SignalWatch()
