"""Report of the full-size model on one GPU: correctness, memory, speed and hazards, one JSON line per cell.

    python benchmarks/gpu_report.py --out out/gpu_report.jsonl         # every cell, about ten minutes on an H200
    python benchmarks/gpu_report.py --cells memory steps            # some of them
    python benchmarks/gpu_report.py --reduced                       # small models, to run the code on a CPU

SAM 3's 840 M-parameter architecture with random weights at 1008 px, built on the GPU; nothing is downloaded. An image
has eight phrases, four of them present with two instances each. Each cell runs in a separate process with a time
limit, so that an error or a crash costs one cell only.

Seconds are medians of synchronized steps after warm-up. FLOP are counted by `torch.utils.flop_counter` in a step
without recomputation. Memory is the allocator's peak (`allocated`, `reserved`) and the driver's use beside it
(`context`). Memory caps are `set_per_process_memory_fraction` at the card's size less 0.7 GiB for the context.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
import traceback
from pathlib import Path


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

from benchmarks import gpu_cells  # noqa: E402


GROUPS = ["basics", "memory", "steps", "syncs", "evaluation", "criterion", "commands"]
LOOKAHEAD = 3  # processes that import their libraries while a cell runs


def make_cells(out: str) -> list[tuple[str, str, object, tuple, int]]:
    """List the cells as (group, name, function, arguments, time limit in s), the most important first."""
    python = sys.executable
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
    cells += [
        ("evaluation", "evaluation", gpu_cells.evaluation, (), 90),
        ("criterion", "criterion", gpu_cells.criterion, (), 60),
    ]
    demo = ["--config", "recipes/configs/demo_full.yaml"]
    fine_tune = [python, "recipes/sam3_ft.py", "--output_dir", "out/gpu-demo", *demo]
    cells += [("commands", "demo", gpu_cells.command, (fine_tune,), 120)]
    cells += [("commands", "plan of the demo", gpu_cells.command, ([python, "recipes/plan.py", *demo],), 60)]
    return cells


def _work(connection, reduced: bool) -> None:
    """Import the libraries, wait for a cell, and return its result."""
    import peft  # noqa: F401

    import sam_ft.models.lora  # noqa: F401
    import sam_ft.testing  # noqa: F401

    gpu_cells.IS_REDUCED[0] = reduced
    function, arguments = connection.recv()
    begin = time.perf_counter()
    try:
        line = {"result": function(*arguments), "wall": round(time.perf_counter() - begin, 1)}
    except Exception as error:
        frames = traceback.format_exception(error)[-4:]
        line = {"error": f"{type(error).__name__}: {error}"[:600], "trace": "".join(frames)[-1500:]}
    connection.send(line)


def main():
    """Run the cells and append a JSON line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", choices=GROUPS, default=GROUPS)
    parser.add_argument("--out", default="out/gpu_report.jsonl")
    parser.add_argument("--seconds", type=float, default=560, help="Time after which no further cell starts.")
    parser.add_argument("--reduced", action="store_true", help="Small models, to run the code on a CPU.")
    args = parser.parse_args()
    begin, context = time.perf_counter(), multiprocessing.get_context("spawn")

    def start_worker():
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, args.reduced), daemon=False)
        process.start()
        theirs.close()
        return process, ours

    cells = [cell for cell in make_cells(args.out) if cell[0] in args.cells]
    # The next processes import their libraries while a cell runs.
    workers = [start_worker() for _ in cells[:LOOKAHEAD]]
    for number, (_, name, function, arguments, limit) in enumerate(cells):
        process, connection = workers.pop(0)
        left = args.seconds - (time.perf_counter() - begin)
        if left < 5:
            process.kill()
            print(f"not run: {name}", flush=True)
            continue
        try:
            connection.send((function, arguments))
            ready = connection.poll(min(limit, left))
            line = connection.recv() if ready else {"error": f"no result after {min(limit, left):.0f} s"}
        except (EOFError, OSError):
            process.join(5)
            line = {"error": f"the process ended with exit code {process.exitcode}"}
        process.kill()
        process.join(10)
        if number + LOOKAHEAD < len(cells):
            workers.append(start_worker())
        line = {"cell": name, **line}
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        with open(args.out, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
