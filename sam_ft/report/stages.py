"""What a run says while it goes through its stages."""

import contextlib
import logging
import time
from pathlib import Path


logger = logging.getLogger("sam_ft.run")


def log_to_console_and_file(file: str | Path | None, *, is_main: bool) -> None:
    """
    Sends this package's messages to the console and, once a run has its folder, to a file; other processes stay silent
    below warnings.

    Args:
        file (`str` or `Path`, *optional*): appended to. is_main (`bool`): whether this process speaks.
    """
    package = logging.getLogger("sam_ft")
    package.setLevel(logging.INFO if is_main else logging.WARNING)
    package.propagate = False
    if not package.handlers:
        package.addHandler(logging.StreamHandler())
    for old in [h for h in package.handlers if isinstance(h, logging.FileHandler)]:
        package.removeHandler(old)
        old.close()
    if file is not None and is_main:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        package.addHandler(logging.FileHandler(file, encoding="utf-8"))


@contextlib.contextmanager
def stage(name: str):
    """Announces a stage when it is done, with ✓ and its time, or with ✗ and the error, which goes on."""
    begin = time.perf_counter()
    try:
        yield
    except Exception as error:
        logger.error("✗ %s: %s", name, error)
        raise
    logger.info("✓ %s (%.1f s)", name, time.perf_counter() - begin)


def comparison_table(before: dict[str, float] | None, after: dict[str, float]) -> list[str]:
    """Lines of a table `name before after` of two evaluations; `-` where a number does not exist."""

    def number(metrics, name):
        value = None if metrics is None else metrics.get(name)
        return "-" if value is None or value == -1 else f"{value:.4f}"

    shown = [n for n in after if n.startswith(("mask_", "box_"))] + ["presence_accuracy", "loss"]
    lines = [f"{'':18}{'before':>10}{'after':>10}"]
    return lines + [f"{n:18}{number(before, n):>10}{number(after, n):>10}" for n in shown if n in after]
