"""A script of recipes/ without a process of its own."""

import logging
import runpy
import sys

import pytest

from ..training.common import ROOT


@pytest.fixture
def script(tmp_path, monkeypatch, capsys):
    """
    `script(name, *arguments)` runs `recipes/name` as a program in this process and in `tmp_path`; returns its exit status,
    output and error stream. A process of its own spends ten seconds on imports; the tests of whole runs start one all the same.
    """
    package = logging.getLogger("sam_ft")
    for attribute, value in (("handlers", []), ("propagate", package.propagate), ("level", package.level)):
        monkeypatch.setattr(package, attribute, value)
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        package.handlers.clear()
        file = str(ROOT / "recipes" / name)
        monkeypatch.setattr(sys, "argv", [file, *map(str, arguments)])
        capsys.readouterr()
        try:
            runpy.run_path(file, run_name="__main__")
            status = 0
        except SystemExit as end:
            status = end.code
        said = capsys.readouterr()
        return status, said.out, said.err

    return run
