"""Console and log file of a program: handlers, stages, progress bars, error lines, and the metric table of a run."""

import contextlib
import logging
import os
import sys
import time
import warnings
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from .errors import describe_error
from .json_files import read_json_file
from .secrets import redact
from .signals import SIGNALS, Interrupted
from .text import escape_control_characters


logger = logging.getLogger("sam_ft.run")

# Level of messages that a training run shows on the console; those below are in its log file alone.
NOTE = logging.INFO + 5
logging.addLevelName(NOTE, "NOTE")
_TIME_SUFFIXES = ("_runtime", "_per_second", "_preparation_time")  # metrics of speed, not of quality


class ConsoleHandler(logging.StreamHandler):
    """Handler that writes to the current `sys.stderr`, which a progress bar replaces while it is open."""

    def __init__(self):
        logging.Handler.__init__(self)

    @property
    def stream(self):
        """Error stream of the process."""
        return sys.stderr


def log_to_console_and_file(file: str | Path | None, *, is_main: bool, console_level: int = logging.INFO) -> None:
    """
    Send this package's messages to the console and, if one is given, to a file.

    Args:
        file (`str` or `Path`, *optional*): Log file, which is appended to; no file by default.
        is_main (`bool`): Whether this is the main process; other processes log warnings and errors only, and to no
            file.
        console_level (`int`): Lowest level of the messages on the console.
    """
    # bitsandbytes warns at its import that an optional kernel for CPUs is not installed.
    logging.getLogger("bitsandbytes.backends").setLevel(logging.ERROR)
    # Transformers and PEFT use it themselves.
    warnings.filterwarnings("ignore", ".is_gradient_checkpointing. is deprecated", FutureWarning)
    package = logging.getLogger("sam_ft")
    package.setLevel(logging.INFO if is_main else logging.WARNING)
    package.propagate = False
    consoles = [handler for handler in package.handlers if isinstance(handler, ConsoleHandler)]
    console = consoles[0] if consoles else _with_filter(ConsoleHandler())
    if not consoles:
        package.addHandler(console)
    console.setLevel(console_level)
    for handler in [h for h in package.handlers if isinstance(h, logging.FileHandler)]:
        package.removeHandler(handler)
        handler.close()
    if file is not None and is_main:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        package.addHandler(_with_filter(logging.FileHandler(file, encoding="utf-8")))


@contextlib.contextmanager
def logging_to_file(file: str | Path, *, is_main: bool) -> Iterator[None]:
    """
    Append this package's messages to a file while the context is open, its error included.

    The console shows messages from the level `NOTE`.

    Args:
        file (`str` or `Path`): The file.
        is_main (`bool`): Whether this is the main process, which alone writes to the file.
    """
    log_to_console_and_file(file, is_main=is_main, console_level=NOTE)
    try:
        yield
    except BaseException as error:
        log_to_file_only([describe_error(error) or f"{type(error).__name__}: {error}"], logging.ERROR)
        raise
    finally:
        log_to_console_and_file(None, is_main=is_main)


def log_to_file_only(lines: Iterable[str], level: int = logging.INFO) -> None:
    """
    Write lines to the log file of [`logging_to_file`], if there is one, and not to the console.

    Args:
        lines (`Iterable[str]`): The lines.
        level (`int`): Their level, `logging.INFO` by default.
    """
    files = [h for h in logging.getLogger("sam_ft").handlers if isinstance(h, logging.FileHandler)]
    for line in lines:
        for handler in files:
            handler.handle(logger.makeRecord(logger.name, level, __file__, 0, line, (), None))


def _with_filter(handler: logging.Handler) -> logging.Handler:
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
    Run a script whose errors and signals end in one line.

    An error that the user can act on, see [`describe_error`], sets the exit status `failed`; a signal sets 128 plus
    its number.

    Args:
        failed (`int`): Exit status of an error, 1 by default.
    """
    log_to_console_and_file(None, is_main=True)
    # Datasets reads this when it is imported; [`progress_bar`] shows the reading of data.
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
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
    """
    Log the end of a stage: ✓ and its duration, or ✗ if it raises.

    Args:
        name (`str`): Name of the stage.
    """
    begin = time.perf_counter()
    try:
        yield
    except Exception:
        logger.error("✗ %s", name)
        raise
    logger.info("✓ %s (%.1f s)", name, time.perf_counter() - begin)


def progress_bar(
    images: Iterable | None = None,
    *,
    total: int | None = None,
    caption: str | None = None,
    initial: int = 0,
    leave: bool = False,
) -> tqdm:
    """
    Build a progress bar over images, which is shown on a terminal alone, and by the first process of a machine.

    Args:
        images (`Iterable`, *optional*): Images to iterate over; without it, the caller calls `update`.
        total (`int`, *optional*): Number of images; the length of `images` by default.
        caption (`str`, *optional*): Text before the bar; no text by default.
        initial (`int`): Number of images that are done already, 0 by default.
        leave (`bool`): Whether the bar remains after the last image, `False` by default.

    Returns:
        `tqdm`: The bar; it iterates over `images`.
    """
    is_first = os.environ.get("LOCAL_RANK", "0") == "0"
    return tqdm(
        images,
        total=total,
        desc=None if caption is None else escape_control_characters(caption),
        initial=initial,
        unit=" images",
        leave=leave,
        disable=None if is_first else True,
    )


def read_metrics(file: Path | None, prefix: str) -> dict[str, float]:
    """
    Read the metrics of an evaluation.

    Args:
        file (`Path`, *optional*): JSON file of metrics.
        prefix (`str`): Prefix that is removed from their names.

    Returns:
        `dict[str, float]`: Metrics by name; empty if there is no file.
    """
    if file is None or not file.is_file():
        return {}
    numbers = read_json_file(file, remedy="Delete it; the same command then evaluates again")
    return {name.removeprefix(prefix): value for name, value in numbers.items()}


def comparison_table(columns: dict[str, dict[str, float]], names: Container[str] | None = None) -> list[str]:
    """
    Format metrics as a table with one column per evaluation; `-` marks a missing value.

    Args:
        columns (`dict[str, dict[str, float]]`): Metrics of each evaluation by its name. The rows are the metrics of
            the last one with the prefix `eval_`, which is removed from all names.
        names (`Container[str]`, *optional*): Metrics of the table, without prefix; all by default.

    Returns:
        `list[str]`: Lines of the table.
    """

    def format_value(value):
        return "-" if value is None or value == -1 else f"{value:.4f}"

    plain = {
        title: {name.removeprefix("eval_"): value for name, value in metrics.items()}
        for title, metrics in columns.items()
    }
    last = list(columns.values())[-1]
    rows = [n.removeprefix("eval_") for n in last if n.startswith("eval_") and not n.endswith(_TIME_SUFFIXES)]
    rows = rows if names is None else [name for name in rows if name in names]
    width = max([30, *map(len, rows)])
    widths = {title: max(10, len(title) + 2) for title in plain}
    lines = [" " * width + "".join(f"{title:>{widths[title]}}" for title in plain)]
    return lines + [
        f"{name:{width}}"
        + "".join(f"{format_value(metrics.get(name)):>{widths[title]}}" for title, metrics in plain.items())
        for name in rows
    ]
