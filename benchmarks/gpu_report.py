"""Report of the full-size model on one GPU: correctness, memory, speed and hazards, one JSON line per cell.

    python benchmarks/gpu_report.py --out out/gpu_report.jsonl         # every cell, about ten minutes on an H200
    python benchmarks/gpu_report.py --cells memory steps               # some of them
    python benchmarks/gpu_report.py --resume                           # the cells without a result in the file
    python benchmarks/gpu_report.py --card fake                        # tiny models on a CPU, to test the cells' code

SAM 3's 840 M-parameter architecture with random weights at 1008 px, built on the GPU; nothing is downloaded. An image
has eight phrases, four of them present with two instances each. Each cell runs in a separate process with a time
limit, so that an error or a crash costs one cell only. The cells are in the order of importance, and a report that is
stopped contains the cells before. At the end, or when it is stopped, a Markdown table is printed and written beside
the JSON lines.

Seconds are medians of synchronized steps after warm-up. FLOP are counted by `torch.utils.flop_counter` in a step
without recomputation. Memory is the allocator's peak (`allocated`, `reserved`) and the driver's use beside it
(`context`). Memory caps are `set_per_process_memory_fraction` at the card's size less 0.7 GiB for the context.
"""

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import psutil


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

from benchmarks import gpu_cells, gpu_comparisons  # noqa: E402
from benchmarks.gpu_setup import FAKE_LIMIT_FACTOR, IS_FAKE  # noqa: E402
from benchmarks.gpu_table import format_report  # noqa: E402


GROUPS = ["basics", "memory", "steps", "syncs", "evaluation", "official", "commands"]
LOOKAHEAD = 3  # processes that import their libraries while a cell runs


def make_cells(out: str) -> list[tuple[str, str, object, tuple, int]]:
    """List the cells as (group, name, function, arguments, time limit in s), the most important first."""
    cells = [("basics", "versions", gpu_cells.versions, (), 40)]
    cells += [("basics", f"NaN probe, {b}", gpu_cells.nan_probe, (b,), 40)
              for b in ("default", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION")]  # fmt: skip
    cells += [("basics", f"attention, {shape}", gpu_cells.attention, (shape,), 40) for shape in gpu_cells.ATTENTION]
    cells += [("basics", "tiny model", gpu_cells.tiny_equivalence, (), 60)]
    cells += [("memory", recipe, gpu_cells.memory, (recipe,), 60) for recipe in gpu_cells.RECIPES]
    full = [(1, 8, 8, "plain, syncs"), (1, 8, 8, "compiled"), (1, 8, 8, "compiled, tf32"), (1, 2, 2, "plain"),
            (1, 32, 32, "plain"), (4, 32, 8, "plain"), (4, 32, 8, "compiled, tf32")]  # fmt: skip
    cells += [("steps", f"full, {i} image(s) × {p} phrases, chunk {c}, {v}", gpu_cells.steps, (i, c, p, v), 90)
              for i, c, p, v in full]  # fmt: skip
    cells += [("steps", "profile", gpu_cells.profile, (out,), 60)]
    cells += [
        ("syncs", f"synchronisations, {r}", gpu_cells.sync_sources, (r,), 60) for r in ("sam3_full", "sam3_lora_8gb")
    ]
    cells += [("evaluation", "evaluation", gpu_comparisons.evaluation, (), 90),
              ("evaluation", "run-length encoding", gpu_comparisons.run_length_encoding, (), 40)]  # fmt: skip
    cells += [("official", name, getattr(gpu_comparisons, name), (), 60) for name in ("criterion", "step", "loader")]
    limits = {"plan of the demo": 65, "dry run with a feature cache": 65, "demo": 125}
    cells += [("commands", name, gpu_comparisons.command, (name, limit - 5), limit) for name, limit in limits.items()]
    return cells


class Worker:
    """Process that imports the libraries, and then runs cells.

    Args:
        is_fake (`bool`): Whether cells use tiny models on the CPU.
    """

    def __init__(self, is_fake: bool):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, is_fake), daemon=False)
        self.process.start()
        theirs.close()

    def run(self, function, arguments: tuple, limit: float) -> dict:
        """Return the `result` of a cell, or its `error`; after an error, the process may have ended."""
        try:
            self.connection.send((function, arguments))
            if self.connection.poll(limit):
                return self.connection.recv()
            return {"error": f"no result after {limit:.0f} s"}
        except (EOFError, OSError):
            self.process.join(5)
            return {"error": f"the process ended with exit code {self.process.exitcode}"}

    def stop(self) -> None:
        """Kill the process and those that it started."""
        try:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                child.kill()
        except psutil.NoSuchProcess:
            pass
        self.process.kill()
        self.process.join(10)


def _work(connection, is_fake: bool) -> None:
    """Import the libraries, and run cells until the connection closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops the process
    IS_FAKE[0] = is_fake
    import peft  # noqa: F401

    import sam_ft.models.lora  # noqa: F401
    import sam_ft.testing  # noqa: F401

    while True:
        try:
            function, arguments = connection.recv()
        except EOFError:
            return
        begin = time.perf_counter()
        try:
            line = {"result": function(*arguments), "wall": round(time.perf_counter() - begin, 1)}
        except Exception as error:
            frames = traceback.format_exception(error)[-4:]
            line = {"error": f"{type(error).__name__}: {error}"[:600], "trace": "".join(frames)[-1500:]}
        connection.send(line)


def run_cells(cells: list[tuple], out: Path, seconds: float, is_fake: bool) -> None:
    """Run cells, and append the JSON line of each to a file.

    Args:
        cells (`list[tuple]`): Some of [`make_cells`].
        out (`Path`): File of JSON lines.
        seconds (`float`): Time after which no further cell starts.
        is_fake (`bool`): Tiny models on the CPU, all in one process as long as no cell fails.
    """
    begin, workers = time.perf_counter(), []
    try:
        for number, (group, name, function, arguments, limit) in enumerate(cells):
            # On a GPU, the next processes import their libraries while a cell runs.
            while len(workers) < (1 if is_fake else min(LOOKAHEAD, len(cells) - number)):
                workers.append(Worker(is_fake))
            left = seconds - (time.perf_counter() - begin)
            if left < 5:
                print(f"not run: {name}", flush=True)
                continue
            limit *= FAKE_LIMIT_FACTOR if is_fake else 1
            line = {"group": group, "cell": name, **workers[0].run(function, arguments, min(limit, left))}
            if not is_fake or "error" in line:
                workers.pop(0).stop()
            with open(out, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
    finally:
        for worker in workers:
            worker.stop()


def read_lines(file: Path) -> dict[str, dict]:
    """Read the JSON lines of a report: cell -> its last line with a result, or else its last line."""
    lines = {}
    for text in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        line = json.loads(text)
        if "result" in line or "result" not in lines.get(line["cell"], {}):
            lines[line["cell"]] = line
    return lines


def main(arguments: list[str] | None = None) -> None:
    """Run the cells, append a JSON line for each, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=GROUPS, metavar="NAME",
                        help=f"Groups ({', '.join(GROUPS)}) or cells by name.")  # fmt: skip
    parser.add_argument("--out", default="out/gpu_report.jsonl", help="File of JSON lines; they are appended.")
    parser.add_argument("--seconds", type=float, default=560, help="Time after which no further cell starts.")
    parser.add_argument("--resume", action="store_true", help="Leave out the cells with a result in the file.")
    parser.add_argument("--card", choices=["gpu", "fake"], default="gpu", help="`fake`: tiny models on a CPU.")
    args = parser.parse_args(arguments)
    out = Path(args.out)
    cells = make_cells(args.out)
    unknown = set(args.cells) - {name for cell in cells for name in cell[:2]}
    if unknown:
        names = ", ".join(repr(cell[1]) for cell in cells)
        parser.error(f"`--cells` contains {sorted(unknown)[0]!r}; use {', '.join(GROUPS)}, or one of {names}")
    cells = [cell for cell in cells if set(args.cells) & set(cell[:2])]
    if args.resume:
        cells = [cell for cell in cells if "result" not in read_lines(out).get(cell[1], {})]
    out.parent.mkdir(parents=True, exist_ok=True)
    if args.card == "fake":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    try:
        run_cells(cells, out, args.seconds, args.card == "fake")
    finally:
        table = format_report(read_lines(out).values())
        out.with_suffix(".md").write_text(table, encoding="utf-8")
        print(table)


if __name__ == "__main__":
    main()
