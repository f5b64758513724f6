"""Path of the console script of this package, for commands that a program suggests."""

import os
import shlex
import shutil
import sys
from pathlib import Path


def find_program() -> str:
    """Return the name or path by which a shell starts the `sam-ft` of this environment."""
    program = Path(sys.executable).parent / "sam-ft"
    first_in_path = shutil.which("sam-ft")
    if not program.is_file() or (first_in_path is not None and Path(first_in_path).samefile(program)):
        return "sam-ft"
    return shlex.quote(os.path.relpath(program) if program.is_relative_to(Path.cwd()) else str(program))
