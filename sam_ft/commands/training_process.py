"""Program of a training that another process starts; it ends with that process."""

import os
import signal
import sys
import threading

from .program import main


def _end_with_parent() -> None:
    """End this process, after a checkpoint, when the parent closes the standard input or is killed."""
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    main()
