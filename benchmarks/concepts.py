"""Benchmark of concepts against LoRA, trained heads and full fine-tuning, on 5, 20 and 80 images of the demo.

    OMP_NUM_THREADS=1 python benchmarks/concepts.py --folder out/concepts_benchmark            # runs, then the report
    OMP_NUM_THREADS=1 python benchmarks/concepts.py --folder out/concepts_benchmark --report   # the report alone

Each cell is a process of `recipes/sam3_ft.py` on the data of `demo_full.yaml`, with the same number of steps. The
learning rate of each method is searched first, on 20 images and one seed. A finished cell is one line of
`cells.jsonl`: a stopped benchmark continues after it, and a cell with other keys runs again. The report is two
Markdown tables, and the chart `concepts.svg` in the folder.

Seconds are CPU seconds of the training loop, which other processes of the machine change little. Memory is the peak
of the process's resident memory: libraries, model, training and evaluation. Siblings are measured on scenes that no
run has seen and that contain exactly one new shape: the other new phrases should have no detection above the
threshold that the run saved.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev


ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402
import torch  # noqa: E402

from benchmarks.measure import device_name  # noqa: E402
from sam_ft import Sam3Predictor  # noqa: E402
from sam_ft.data.keyed_random import keyed_draws  # noqa: E402
from sam_ft.data.synthetic.scenes import draw_scene  # noqa: E402
from sam_ft.models.freezing import count_parameters, freeze  # noqa: E402
from sam_ft.models.loading import load_model  # noqa: E402
from sam_ft.options.concepts import CONCEPT_INFO, CONCEPT_WEIGHTS  # noqa: E402
from sam_ft.options.model import ModelOptions  # noqa: E402
from sam_ft.options.scenes import NEW_SHAPES, SceneOptions  # noqa: E402
from sam_ft.reporting.charts import Series, column_chart, draw_charts  # noqa: E402
from sam_ft.utils.yaml_files import read_yaml_mapping  # noqa: E402


STEPS, IMAGES, SEEDS = 150, (20, 5, 80), (42, 1, 2)
SEARCH_IMAGES, SEARCH_SEED = 20, 42
SIBLING_IMAGES, SIBLING_SEED = 120, 1007
CONFIG = ROOT / "recipes" / "configs" / "demo_full.yaml"
KEYS = {
    "max_steps": STEPS, "use_cpu": True, "report_to": "none", "num_pictures": 0, "probe_images": 0,
    "eval_strategy": "no", "save_strategy": "no", "disable_tqdm": True, "start_over": True,
}  # fmt: skip
CONCEPT = {
    "concept_tokens": 8, "learning_rate": 4e-2, "weight_decay": 0, "warmup_steps": 0, "eval_before": True,
}  # fmt: skip
ENCODERS = ["vision_encoder", "text_encoder"]


@dataclass(frozen=True)
class Method:
    """Way of training.

    Attributes:
        label (`str`): Name in the report.
        color (`str`): CSS colour in the chart.
        files (`tuple[str, ...]`): Saved files that a user needs beside the base model.
        keys (`dict`): Keys of the run that differ from `demo_full.yaml`.
        rates (`tuple[float, ...]`): Searched factors of all learning rates.
    """

    label: str
    color: str
    files: tuple[str, ...]
    keys: dict = field(default_factory=dict)
    rates: tuple[float, ...] = (1.0,)


CONCEPT_FILES, MODEL_FILES = (CONCEPT_WEIGHTS, CONCEPT_INFO), ("model.safetensors", "config.json")
METHODS = {
    "concept": Method("concepts", "#1971c2", CONCEPT_FILES, CONCEPT, (0.5, 1.0)),
    "lora": Method(
        "LoRA", "#2f9e44", ("adapter_model.safetensors", "adapter_config.json"),
        {"lora": "attention", "lora_r": 16, "lora_alpha": 32}, (2.0, 5.0, 10.0),
    ),
    "heads": Method("heads", "#f08c00", MODEL_FILES, {"freeze": ENCODERS}, (2.0, 5.0, 10.0)),
    "full": Method("full fine-tuning", "#868e96", MODEL_FILES),
}  # fmt: skip
WITHOUT_ABSENT = Method(
    "concepts without absent phrases", "", CONCEPT_FILES, CONCEPT | {"negative_ratio": 0}, METHODS["concept"].rates
)


@dataclass(frozen=True)
class Cell:
    """One run: a method, the number of training images, the random seed, and the factor of the learning rates."""

    method: str
    images: int
    seed: int
    rate: float

    @property
    def keys(self) -> dict:
        """Keys of the run."""
        method = METHODS.get(self.method, WITHOUT_ABSENT)
        own = {"scene_train_images": self.images, "seed": self.seed, "lr_scale": self.rate}
        return {"eval_before": False} | KEYS | method.keys | own

    def is_measured_by(self, record: dict) -> bool:
        """Return whether a record is the result of this cell with the present keys."""
        return record["method"] == self.method and record["keys"] == self.keys


def find_record(cell: Cell, records: list[dict]) -> dict | None:
    """Return the record of a cell, `None` before it has run."""
    return next((record for record in records if cell.is_measured_by(record)), None)


# ---- The cells


def list_searched(method: str) -> list[Cell]:
    """List the cells of the search for a method's learning rate."""
    return [Cell(method, SEARCH_IMAGES, SEARCH_SEED, rate) for rate in METHODS[method].rates]


def choose_rate(method: str, records: list[dict]) -> float | None:
    """Choose the factor with the highest sum of AP50 of new and of other phrases; `None` before the search is done."""
    searched = [(cell.rate, find_record(cell, records)) for cell in list_searched(method)]
    if any(record is None for _, record in searched):
        return None
    return max(searched, key=lambda item: item[1]["AP50_new"] + item[1]["AP50_others"])[0]


def find_next_cell(records: list[dict]) -> Cell | None:
    """Return the next cell without a record: each method on 20 images, its search first, then on 5 and 80 images."""
    cells, rates = [], {}
    for method in METHODS:
        cells += list_searched(method)
        rates[method] = choose_rate(method, records)
        if rates[method] is None:
            break
        names = (method, "without_absent") if method == "concept" else (method,)
        cells += [Cell(name, SEARCH_IMAGES, seed, rates[method]) for name in names for seed in SEEDS]
    if None not in rates.values():
        for images in IMAGES:
            cells += [Cell(method, images, seed, rates[method]) for seed in SEEDS for method in METHODS]
    return next((cell for cell in cells if find_record(cell, records) is None), None)


def run_cell(cell: Cell, folder: Path) -> dict:
    """Train a cell in a separate process and measure the result.

    Args:
        cell (`Cell`): The cell.
        folder (`Path`): Folder of data and output.

    Returns:
        `dict`: Scores, trained numbers, bytes, seconds, memory and counts of siblings.

    Raises:
        RuntimeError: If the run fails.
    """
    output = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
    command = [sys.executable, str(ROOT / "recipes" / "sam3_ft.py"), "--config", str(CONFIG)]
    command += ["--output_dir", output.name]
    for name, value in cell.keys.items():
        values = value if isinstance(value, list) else [str(value).lower() if isinstance(value, bool) else value]
        command += [f"--{name}", *map(str, values)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=folder, env=environment, text=True, **streams)
    lines, marks = [], {}
    for line in process.stderr:
        lines.append(line)
        for name in ("evaluation before training", "training"):
            if line.startswith(f"✓ {name} ("):
                times = psutil.Process(process.pid).cpu_times()
                marks[name] = times.user + times.system
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{cell} failed:\n{''.join(lines[-20:])}")
    metrics = json.loads((output / "eval_results.json").read_text())
    record = {
        "method": cell.method, "keys": cell.keys,
        "AP50_new": metrics["eval_mask_AP50_trained"], "AP50_others": metrics["eval_mask_AP50_untrained"],
        "trained": count_trained(cell, output),
        "bytes": sum((output / name).stat().st_size for name in METHODS.get(cell.method, WITHOUT_ABSENT).files),
        "seconds": marks["training"] - marks["evaluation before training"],
        "memory": usage.ru_maxrss * 1024, "siblings": measure_siblings(output),
    }  # fmt: skip
    before = output / "before_results.json"
    if before.is_file():
        metrics = json.loads(before.read_text())
        record["before"] = [metrics["before_mask_AP50_trained"], metrics["before_mask_AP50_untrained"]]
    shutil.rmtree(output)
    return record


def count_trained(cell: Cell, output: Path) -> int:
    """Count the trained numbers of a run."""
    from safetensors.torch import load_file

    method = METHODS.get(cell.method, WITHOUT_ABSENT)
    if method.files != MODEL_FILES:
        return sum(tensor.numel() for tensor in load_file(output / method.files[0]).values())
    model = load_model(ModelOptions())
    freeze(model, method.keys.get("freeze", []))
    return sum(trained for trained, _ in count_parameters(model).values())


# ---- Siblings


def draw_sibling_scenes() -> list[tuple]:
    """Draw scenes of the demo that contain exactly one of the new shapes, as pairs of image and shape."""
    keys = read_yaml_mapping(str(CONFIG), "config")
    names = {name.removeprefix("scene_"): value for name, value in keys.items() if name.startswith("scene_")}
    options = SceneOptions(**{n: v for n, v in names.items() if n in SceneOptions.__dataclass_fields__})
    scenes, index = [], 0
    while len(scenes) < SIBLING_IMAGES:
        image, objects = draw_scene(keyed_draws(SIBLING_SEED, 0, f"siblings-{index}", "file"), options)
        shapes = [scene_object.shape for scene_object in objects if scene_object.shape in NEW_SHAPES]
        if len(shapes) == 1:
            scenes.append((image, shapes[0]))
        index += 1
    return scenes


def measure_siblings(output: Path) -> dict[str, int]:
    """Count predictions of the new phrases on scenes with exactly one new shape.

    Args:
        output (`Path`): Folder of a run with its saved thresholds.

    Returns:
        `dict[str, int]`: `pairs`: images × siblings; `refused`: those without a detection above the threshold;
            `absent`: those with a presence below 0.5; `images`, and `found`: images whose new shape has a detection.
    """
    predictor = Sam3Predictor.from_pretrained(str(output), device="cpu")
    counts = dict.fromkeys(("pairs", "refused", "absent", "images", "found"), 0)
    for image, shape in draw_sibling_scenes():
        prediction = predictor(image, list(NEW_SHAPES))
        counts["images"] += 1
        counts["found"] += bool(prediction.detections[shape])
        for sibling in set(NEW_SHAPES) - {shape}:
            counts["pairs"] += 1
            counts["refused"] += not prediction.detections[sibling]
            counts["absent"] += prediction.presence[sibling] < 0.5
    return counts


# ---- The report


def format_spread(values: list[float], digits: int = 3) -> str:
    """Format mean and standard deviation of the seeds."""
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def group_records(records: list[dict], methods: list[str], images: int) -> dict[str, list[dict]]:
    """Group the records of a number of images by method, one of each seed, at the chosen learning rates."""
    groups = {}
    for method in methods:
        rate = choose_rate(method if method in METHODS else "concept", records)
        cells = [Cell(method, images, seed, rate) for seed in SEEDS] if rate is not None else []
        groups[method] = [record for cell in cells if (record := find_record(cell, records)) is not None]
    return {method: found for method, found in groups.items() if found}


def print_comparison(records: list[dict]) -> None:
    """Print the table of all methods and numbers of images."""
    print("| images | trained | seeds | AP50 new | AP50 others | numbers | file | CPU s | memory |")
    print("|---|---|---|---|---|---|---|---|---|")
    for before in {tuple(r["before"]) for r in records if "before" in r}:
        print(f"| 0 | nothing | | {before[0]:.3f} | {before[1]:.3f} | 0 | | | |")
    for images in sorted(IMAGES):
        for name, runs in group_records(records, list(METHODS), images).items():
            values = {key: [run[key] for run in runs] for key in ("AP50_new", "AP50_others", "seconds", "memory")}
            print(
                f"| {images} | {METHODS[name].label} | {len(runs)} | {format_spread(values['AP50_new'])} | "
                f"{format_spread(values['AP50_others'])} | {runs[0]['trained']:,} | "
                f"{mean(run['bytes'] for run in runs) / 1000:,.1f} KB | {format_spread(values['seconds'], 0)} | "
                f"{mean(values['memory']) / 2**30:.2f} GiB |"
            )
    for name in METHODS:
        rates = ", ".join(
            f"{cell.rate:g}: {record['AP50_new']:.3f} / {record['AP50_others']:.3f}"
            for cell in list_searched(name)
            if (record := find_record(cell, records)) is not None
        )
        print(f"{METHODS[name].label}, factor of the learning rates: AP50 new / others: {rates}")


def print_siblings(records: list[dict]) -> None:
    """Print the table of siblings, over all seeds."""
    print("| trained | pairs | no detection | presence below 0.5 | own shape found | AP50 new |")
    print("|---|---|---|---|---|---|")
    for name, runs in group_records(records, ["concept", "without_absent", *METHODS], SEARCH_IMAGES).items():
        total = {key: sum(run["siblings"][key] for run in runs) for key in runs[0]["siblings"]}
        print(
            f"| {METHODS.get(name, WITHOUT_ABSENT).label} | {total['pairs']} | "
            f"{total['refused'] / total['pairs']:.1%} | {total['absent'] / total['pairs']:.1%} | "
            f"{total['found'] / total['images']:.1%} | {format_spread([run['AP50_new'] for run in runs])} |"
        )


def write_chart(records: list[dict], file: Path) -> None:
    """Write the chart of AP50 by number of images, of the numbers of images with all methods."""
    groups = {images: group_records(records, list(METHODS), images) for images in sorted(IMAGES)}
    groups = {images: runs for images, runs in groups.items() if len(runs) == len(METHODS)}
    labels, charts = [f"{images} images" for images in groups], []
    for title, key in {"New phrases": "AP50_new", "Other phrases": "AP50_others"}.items():
        series = [
            Series(m.label, m.color, [round(100 * mean(run[key] for run in runs[n])) for runs in groups.values()])
            for n, m in METHODS.items()
        ]
        charts.append(column_chart(f"{title}: mask AP50 in %", "%", labels, series))
    file.write_text(draw_charts(charts, series), encoding="utf-8")


def main():
    """Run the missing cells and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="folder of data, runs, cells.jsonl and the chart")
    parser.add_argument("--report", action="store_true", help="print the report of the finished cells only")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    file = args.folder / "cells.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    while not args.report and (cell := find_next_cell(records)) is not None:
        records.append(run_cell(cell, args.folder))
        with file.open("a") as stream:
            stream.write(json.dumps(records[-1]) + "\n")
        print(cell, {k: v for k, v in records[-1].items() if k != "keys"}, file=sys.stderr, flush=True)
    print(f"{device_name()}; {STEPS} steps; AP50 of masks\n")
    print_comparison(records)
    print()
    print_siblings(records)
    write_chart(records, args.folder / "concepts.svg")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
