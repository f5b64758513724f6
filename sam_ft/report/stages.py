"""What a run says while it goes through its stages."""

import contextlib
import json
import logging
import sys
import time
from pathlib import Path


logger = logging.getLogger("sam_ft.run")

_OF_TIME = ("_runtime", "_per_second", "_preparation_time")  # of an evaluation's numbers


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
def as_program(failed: int = 1):
    """
    A script's run: what is wrong with its input, a `ValueError`, or with a file of it, or a package that is to be installed, is a line and
    the exit status `failed`, not a traceback.
    """
    log_to_console_and_file(None, is_main=True)
    try:
        yield
    except ValueError as error:
        logger.error("%s", error)
        sys.exit(failed)
    except ImportError as error:
        if "pip install" not in str(error):
            raise
        logger.error("%s", error)
        sys.exit(failed)
    except OSError as error:
        if error.filename is None:  # not of a file: a defect that a traceback helps to find
            raise
        logger.error("%s: %s", error.filename, error.strerror)
        sys.exit(failed)


@contextlib.contextmanager
def stage(name: str):
    """Announces a stage when it is done, with ✓ and its time, or with ✗ before its error goes on to the caller."""
    begin = time.perf_counter()
    try:
        yield
    except Exception:
        logger.error("✗ %s", name)
        raise
    logger.info("✓ %s (%.1f s)", name, time.perf_counter() - begin)


def read_metrics(file: Path | None, prefix: str) -> dict[str, float]:
    """An evaluation's numbers from a file of them, without their prefix; none where there is no file."""
    if file is None or not file.is_file():
        return {}
    return {n.removeprefix(prefix): v for n, v in json.loads(file.read_text(encoding="utf-8")).items()}


def comparison_table(before_file: Path | None, metrics: dict[str, float]) -> list[str]:
    """
    Lines of a table `name before after`; `-` where a number does not exist.

    Args:
        before_file (`Path`, *optional*): JSON of the evaluation before training, its names prefixed `before_`.
        metrics (`dict[str, float]`): of the evaluation after it, prefixed `eval_`.
    """
    before = read_metrics(before_file, "before_")

    def number(value):
        return "-" if value is None or value == -1 else f"{value:.4f}"

    names = [n.removeprefix("eval_") for n in metrics if n.startswith("eval_") and not n.endswith(_OF_TIME)]
    lines = [f"{'':30}{'before':>10}{'after':>10}"]
    return lines + [
        f"{name:30}{number(before.get(name)):>10}{number(metrics.get(f'eval_{name}')):>10}" for name in names
    ]
