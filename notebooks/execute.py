"""Execution of the notebooks in place, with their outputs; `make notebooks` runs it on all of them."""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


FOLDER = Path(__file__).resolve().parent
TIMEOUT = 600  # s, of a cell


def execute(file: Path, folder: Path) -> nbformat.NotebookNode:
    """
    Execute the cells of a notebook from the first to the last.

    Args:
        file (`Path`): The notebook; it is not changed.
        folder (`Path`): Working directory, below which the cells write.

    Returns:
        `nbformat.NotebookNode`: The notebook with its outputs, without times, versions and what libraries write to the
            error stream of the kernel: notes on the installation, and progress bars.

    Raises:
        `nbclient.exceptions.CellExecutionError`: If a cell raises an error.
    """
    notebook = nbformat.read(file, as_version=4)
    # The command `sam-ft` is found as in an activated environment.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # Warnings of libraries contain paths of this machine.
    env = os.environ | {"PATH": path, "PYTHONWARNINGS": "ignore::FutureWarning,ignore::DeprecationWarning"}
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        record_timing=False,
        coalesce_streams=True,  # of a progress bar, its last state
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=env)
    notebook.metadata.pop("language_info", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                if "text" in output:  # of a command, which writes to a pseudoterminal
                    output.text = output.text.replace("\r\n", "\n")
    return notebook


def main() -> None:
    """Execute the notebooks of the command line, by default all of this folder, and write them with their outputs."""
    for file in map(Path, sys.argv[1:] or sorted(FOLDER.glob("*.ipynb"))):
        nbformat.write(execute(file, FOLDER), file)


if __name__ == "__main__":
    main()
