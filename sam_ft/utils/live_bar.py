"""Progress bar on a terminal: one line with a caption, a bar and a text, which other output does not break."""

import os
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn


_SECONDS_BETWEEN_REFRESHES = 0.1
# Jupyter sets it in kernels, whose `!` commands run in pseudo-terminals, and keeps every state of a bar in the output.
_KERNEL_VARIABLE = "JPY_PARENT_PID"


def has_terminal() -> bool:
    """Return whether the error stream is a terminal on which a line can be drawn again, and no cell of a notebook."""
    if _KERNEL_VARIABLE in os.environ:
        return False
    console = Console(stderr=True)
    return sys.stderr.isatty() and console.is_terminal and not console.is_dumb_terminal


class LiveBar:
    """
    Progress bar on the error stream of a terminal.

    It is drawn by the calls of [`update`], without a thread, so that processes can be forked at any time. Lines that
    are written to `sys.stderr` while it is open appear above it.

    Args:
        total (`int`): Number of steps.
        caption (`str`): Text before the bar.
        leave (`bool`): Whether the bar remains after [`close`].
    """

    def __init__(self, total: int, caption: str, *, leave: bool):
        columns = TextColumn("{task.description}", markup=False), BarColumn(None), TextColumn("{task.fields[text]}")
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            *columns,
            console=self._console,
            auto_refresh=False,
            expand=True,
            transient=not leave,
            redirect_stdout=False,
        )
        self._task = self._progress.add_task(caption, total=total, text="")
        self._drawn = 0.0
        self._progress.start()
        self._console.show_cursor(True)  # A killed process would leave it hidden.

    def update(self, completed: int, caption: str, text: str, *, at_once: bool = False) -> None:
        """
        Set the contents, and draw them unless they were drawn a moment ago.

        Args:
            completed (`int`): Number of completed steps.
            caption (`str`): Text before the bar.
            text (`str`): Text after the bar.
            at_once (`bool`): Whether to draw in any case.
        """
        self._progress.update(self._task, completed=completed, description=caption, text=text)
        now = time.perf_counter()
        if at_once or now - self._drawn >= _SECONDS_BETWEEN_REFRESHES:
            self._progress.refresh()
            self._drawn = now

    def close(self) -> None:
        """Draw the last contents, or remove the bar."""
        self._progress.stop()
