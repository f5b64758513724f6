"""What a run says while it goes through its stages."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .errors import describe_error
from .json_files import read_json_file
from .secrets import redact
from .signals import SIGNALS, Interrupted
from .text import escape_control_characters


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
        package.addHandler(_clean(logging.StreamHandler()))
    for old in [h for h in package.handlers if isinstance(h, logging.FileHandler)]:
        package.removeHandler(old)
        old.close()
    if file is not None and is_main:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        package.addHandler(_clean(logging.FileHandler(file, encoding="utf-8")))


@contextlib.contextmanager
def logging_to_file(file: str | Path, *, is_main: bool) -> Iterator[None]:
    """
    Append this package's messages to a file while the context is open, its error included.

    Args:
        file (`str` or `Path`): The file.
        is_main (`bool`): Whether this process logs.
    """
    log_to_console_and_file(file, is_main=is_main)
    try:
        yield
    except BaseException as error:
        for handler in logging.getLogger("sam_ft").handlers:
            if isinstance(handler, logging.FileHandler):
                line = describe_error(error) or f"{type(error).__name__}: {error}"
                handler.handle(logger.makeRecord(logger.name, logging.ERROR, __file__, 0, line, (), None))
        raise
    finally:
        log_to_console_and_file(None, is_main=is_main)


def _clean(handler: logging.Handler) -> logging.Handler:
    """Add a filter that removes secrets and control characters."""
    handler.addFilter(_clean_record)
    return handler


def _clean_record(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    clean = escape_control_characters(redact(message))
    if clean != message:
        record.msg, record.args = clean, ()
    return True


@contextlib.contextmanager
def as_program(failed: int = 1):
    """
    Run a script: an error that the user can act on, see [`describe_error`], is one line and the exit status `failed`; a signal is one line and the
    exit status 128 plus its number.

    Args:
        failed (`int`): Exit status of an error.
    """
    log_to_console_and_file(None, is_main=True)
    with SIGNALS.installed():
        try:
            yield
        except Interrupted as end:
            logger.error("stopped by %s", end.signal_name)
            raise
        except Exception as error:
            line = describe_error(error)
            if line is None:
                raise
            logger.error("%s", line)
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
    numbers = read_json_file(file, remedy="Delete it, and the evaluation is made again by the same command")
    return {name.removeprefix(prefix): value for name, value in numbers.items()}


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
