"""
Commands and Python code of the documentation, executed page by page with packaged models: `make test-docs`.

The commands of a page run first, in their order and in one folder, then its Python code as one program. Blocks and
lines with a mark of `pages.py` are left out. `reduced_program.py` appends keys that shorten the runs.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .documented_commands import split_lines
from .pages import PAGES, ROOT, read_blocks
from .working_folder import WorkingFolder


pytestmark = [pytest.mark.docs, pytest.mark.slow]


def is_executed(block):
    """Return whether a block, or some of its lines, are executed here."""
    return "" not in block.reasons and "tested" not in block.marks


EXECUTED = [page for page in PAGES if any(is_executed(block) for block in read_blocks(page, "bash", "python"))]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Path of the socket of the server that runs the programs."""
    folder = tmp_path_factory.mktemp("server")
    path = str(folder / "socket")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache")}
    process = subprocess.Popen([sys.executable, ROOT / "tests" / "docs" / "program_server.py", path], env=environment)
    while not Path(path).exists():
        assert process.poll() is None
        time.sleep(0.05)
    yield path
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def assumed_files(server, tmp_path_factory):
    """Folder of the models, data sets and runs that pages assume."""
    return WorkingFolder(tmp_path_factory.mktemp("assumed"), server)


@pytest.mark.parametrize("page", EXECUTED)
def test_commands_of_a_page_run(page, server, assumed_files, tmp_path):
    folder = WorkingFolder(tmp_path, server, assumed_files)
    for block in read_blocks(page):
        if "file" in block.marks:
            folder.provide_inputs(block.text)
            (tmp_path / block.marks["file"]).write_text(block.text, encoding="utf-8")
    for block in filter(is_executed, read_blocks(page, "bash")):
        for line in split_lines(block.text):
            if block.find_reason(line) is None:
                try:
                    folder.run(line)
                except RuntimeError as error:
                    pytest.fail(f"{block.name}: {error}", pytrace=False)
    run_python(page, folder)


def run_python(page, folder):
    """Run the Python blocks of a page as one program."""
    lines = []
    for block in filter(is_executed, read_blocks(page, "python")):
        if "setup" in block.marks:
            lines.append(block.marks["setup"])
        lines += [f"# {block.name}", block.text]
    if lines:
        code = "\n".join(lines)
        folder.provide_inputs(code)
        (folder.path / "page.py").write_text(code, encoding="utf-8")
        try:
            folder.run("python page.py")
        except RuntimeError as error:
            pytest.fail(f"{page}: {error}", pytrace=False)
