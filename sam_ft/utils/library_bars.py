"""Progress bars of Transformers and the Hugging Face Hub, hidden for a while."""

import contextlib
from collections.abc import Iterator

from transformers.utils import logging


@contextlib.contextmanager
def hidden_library_bars(is_hidden: bool = True) -> Iterator[None]:
    """
    Hide the progress bars of Transformers and the Hub, such as those of reading and writing weights.

    Args:
        is_hidden (`bool`): Whether to hide them; a download shows its bar.
    """
    were_shown = is_hidden and logging.is_progress_bar_enabled()
    if were_shown:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if were_shown:
            logging.enable_progress_bar()
