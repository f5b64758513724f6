"""GPU report: cells on a CPU, failures of a cell, and the table."""

import json
import multiprocessing
import os
import signal

import pytest

from benchmarks import gpu_report, gpu_setup
from benchmarks.gpu_table import format_report


class SameProcess:
    """Worker that runs cells in this process."""

    def __init__(self, is_fake):
        gpu_setup.IS_FAKE[0] = is_fake

    def run(self, function, arguments, limit):
        return {"result": function(*arguments), "wall": 0.0}

    def stop(self):
        gpu_setup.IS_FAKE[0] = False


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    monkeypatch.setattr(gpu_report, "Worker", SameProcess)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    out = tmp_path / "report.jsonl"

    def run_cells(*cells):
        gpu_report.main(["--card", "fake", "--out", str(out), "--resume", "--cells", *cells])
        return gpu_report.read_lines(out), out.with_suffix(".md").read_text()

    return run_cells


def test_cells_run_on_a_cpu(run):
    cells = "sam3_lora_8gb", "run-length encoding"
    lines, table = run(*cells)
    assert set(lines) == set(cells)
    assert lines["sam3_lora_8gb"]["result"]["seconds an image"] > 0
    assert lines["run-length encoding"]["result"]["ratio"] > 0
    assert "## memory" in table
    assert "| sam3_lora_8gb |" in table
    # A resumed report runs the other cells alone.
    assert {"versions", *cells} == set(run("versions", *cells)[0])


def test_unknown_cells_are_an_error(run, capsys):
    with pytest.raises(SystemExit):
        run("speed")
    assert "'speed'" in capsys.readouterr().err


def test_a_stopped_report_writes_the_table_of_the_cells_before(run, monkeypatch):
    def stop(self, function, arguments, limit):
        if function is gpu_report.gpu_cells.nan_probe:
            raise KeyboardInterrupt
        return {"result": {"value": 1}, "wall": 0.0}

    monkeypatch.setattr(SameProcess, "run", stop)
    with pytest.raises(KeyboardInterrupt):
        run("basics")
    lines, table = run("versions")
    assert set(lines) == {"versions"}
    assert "| versions | 1 | 0 |" in table


@pytest.mark.slow
def test_a_cell_that_ends_its_process_or_fails_is_an_error(monkeypatch):
    """The process is forked, because another would spend its time on imports."""
    fork = multiprocessing.get_context("fork")
    monkeypatch.setattr("benchmarks.gpu_report.multiprocessing.get_context", lambda _: fork)
    worker = gpu_report.Worker(is_fake=True)
    try:
        assert "invalid literal" in worker.run(int, ("x",), 120)["error"]
        assert worker.run(os._exit, (3,), 60) == {"error": "the process ended with exit code 3"}
    finally:
        worker.stop()


def test_tables_have_the_columns_of_their_cells_and_list_failures(tmp_path):
    lines = [
        {"group": "memory", "cell": "a", "wall": 1.0, "result": {"GiB": 2.5, "lines": ["x"]}},
        {"group": "memory", "cell": "b", "wall": 2.0, "result": {"GiB": 3.25, "share": {"x": 0.5}}},
        {"group": "basics", "cell": "c", "error": "a | b"},
    ]
    file = tmp_path / "report.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert format_report(gpu_report.read_lines(file).values()) == (
        "## memory\n\n| cell | GiB | share | wall s |\n|---|---|---|---|\n| a | 2.5 |  | 1 |\n| b | 3.25 | x 0.5 | 2 |\n"
        "\n## Cells without a result\n\n| cell | error |\n|---|---|\n| c | a \\| b |\n"
    )
