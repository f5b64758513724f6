"""Few-shot benchmark: box AP of full fine-tuning, LoRA, heads and concepts after 10 shots, on ODinW13 or RF100-VL.

    python benchmarks/fewshot.py --suite odinw13 --folder path/to/odinw
    python benchmarks/fewshot.py --suite rf100vl --folder path/to/rf100-vl --methods full lora --seeds 3
    python benchmarks/fewshot.py --suite odinw13 --folder out/stand-in --stand_in --keys --use_cpu true --max_steps 2

The protocol is the SAM 3 paper's: 10 images of each class, seeds 3, 30 and 300, 40 epochs, the official rates × 0.1
for full fine-tuning, 1008 px, box losses without masks, AP of boxes on the test split. ODinW's published files
`fewshot_train_shot10_seed3.json` are used if they are there. Each cell is a run of recipes/sam3_ft.py with the
packaged config of its method. A line for each cell is appended to `results.jsonl`; the same command continues with the
cells that have no result there. The models are removed after their evaluation.

ODinW: github.com/microsoft/GLIP, `odinw/download_datasets.py`. RF100-VL: `pip install rf100vl`, in the COCO format.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.fewshot_suites import FewShotData, find_data, get_shots_file, write_stand_in  # noqa: E402
from benchmarks.gpu_table import format_table  # noqa: E402


# As in the official configuration, a step has two images, each with all classes of the data set.
OFFICIAL_STEP = ["--gradient_accumulation_steps", "2", "--negatives_per_image", "1000"]
# Method -> config, and its keys of the protocol beside those of all methods.
METHODS = {
    "full": ("sam3_full", ["--lr_scale", "0.1", *OFFICIAL_STEP]),
    "lora": ("sam3_lora_24gb", OFFICIAL_STEP),
    "heads": ("sam3_heads", ["--lr_scale", "0.1", *OFFICIAL_STEP]),
    "concepts": ("sam3_concepts", []),
}
TINY_KEYS = {  # of a model on a CPU in float32
    "sam-ft/tiny": ["--resolution", "96", "--bf16", "false", "--dtype", "float32"],
}


def build_command(data: FewShotData, method: str, seed: int, args: argparse.Namespace, folder: Path) -> list[str]:
    """Build the command of a cell.

    Args:
        data (`FewShotData`): Data set.
        method (`str`): Key of `METHODS`.
        seed (`int`): Random seed of the shots and of the training.
        args (`argparse.Namespace`): Arguments of the benchmark.
        folder (`Path`): Temporary folder of the run.
    """
    config, keys = METHODS[method]
    shots = get_shots_file(data, args.shots, seed, Path(args.out) / "shots")
    command = [sys.executable, "recipes/sam3_ft.py", "--config", f"recipes/configs/{config}.yaml", *keys,
               "--model_name_or_path", args.model, "--resolution", "1008", *TINY_KEYS.get(args.model, []),
               "--dataset_name", str(data.train_images.resolve()), "--annotation_file", str(shots.resolve()),
               "--image_folder", str(data.train_images.resolve()),
               "--eval_annotation_file", str(data.test_file.resolve()),
               "--eval_image_folder", str(data.test_images.resolve()),
               "--num_train_epochs", str(args.epochs), "--seed", str(seed), "--train_masks", "false",
               "--probe_images", "0", "--eval_strategy", "no", "--save_strategy", "no", "--num_pictures", "0",
               "--report_to", "none", "--eval_before", "true", "--output_dir", str(folder / "run")]  # fmt: skip
    if method == "concepts":
        command += ["--feature_cache", str(folder / "features")]
    if data.phrases:
        file = folder / "phrases.yaml"
        file.write_text(json.dumps(data.phrases), encoding="utf-8")  # JSON is YAML
        command += ["--phrase_map", str(file)]
    return command + args.keys


def run_cell(data: FewShotData, method: str, seed: int, args: argparse.Namespace) -> dict:
    """Return AP before and after a fine-tuning run, or its last lines on an error; arguments as in `build_command`."""
    line = {"suite": args.suite, "dataset": data.name, "method": method, "seed": seed, "shots": args.shots,
            "epochs": args.epochs, "model": args.model, "keys": args.keys}  # fmt: skip
    begin = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    with tempfile.TemporaryDirectory(dir=args.out, prefix="run-") as name:
        folder = Path(name).resolve()
        command = build_command(data, method, seed, args, folder)
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
        if done.returncode:
            lines = (done.stdout + done.stderr).strip().splitlines()
            return {**line, "error": "\n".join(lines[-8:])}
        for prefix in ("before", "eval"):
            metrics = json.loads((folder / "run" / f"{prefix}_results.json").read_text(encoding="utf-8"))
            line |= {f"{prefix}_{key}": metrics[f"{prefix}_box_{key}"] for key in ("AP", "AP50")}
    return {**line, "seconds": round(time.perf_counter() - begin, 1)}


def make_table(lines: list[dict], methods: list[str]) -> str:
    """Format box AP in percent as a Markdown table: mean ± standard deviation over seeds, and over data sets.

    Args:
        lines (`list[dict]`): Results of [`run_cell`] with AP.
        methods (`list[str]`): Columns.
    """
    scores: dict[tuple[str, str], dict[int, float]] = {}
    for line in lines:
        scores.setdefault((line["dataset"], line["method"]), {})[line["seed"]] = 100 * line["eval_AP"]
        scores.setdefault((line["dataset"], "before"), {})[0] = 100 * line["before_AP"]
    columns, names = ["before", *methods], sorted({dataset for dataset, _ in scores})
    rows = [[name, *(_format_scores(list(scores.get((name, c), {}).values())) for c in columns)] for name in names]
    means = []
    for column in columns:
        cells = [scores[name, column] for name in names if (name, column) in scores]
        # The spread of the mean is that of the seeds that all data sets have.
        seeds = set.intersection(*map(set, cells)) if cells and len(cells) == len(names) else set()
        means.append(_format_scores([statistics.mean(cell[seed] for cell in cells) for seed in sorted(seeds)]))
    rows.append([f"mean of {len(names)}", *means])
    return format_table(["box AP", *columns], rows)


def _format_scores(values: list[float]) -> str:
    if not values:
        return ""
    mean = f"{statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.1f}"


def read_results(file: Path, args: argparse.Namespace) -> list[dict]:
    """Read the lines with AP of the same protocol: suite, shots, epochs, model and keys."""
    lines = [json.loads(text) for text in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []
    names = ("suite", "shots", "epochs", "model", "keys")
    return [line for line in lines if "eval_AP" in line and all(line[n] == getattr(args, n) for n in names)]


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", required=True, choices=["odinw13", "rf100vl"])
    parser.add_argument("--folder", required=True, help="Folder with one folder for each data set.")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--datasets", nargs="+", help="Names of some of the data sets. Default: all in the folder.")
    parser.add_argument("--seeds", nargs="+", type=int, default=[3, 30, 300])
    parser.add_argument("--shots", type=int, default=10, help="Training images with each class.")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--model", default="facebook/sam3", help="`model_name_or_path` of the runs.")
    parser.add_argument("--out", default="out/fewshot", help="Folder of results.jsonl and table.md.")
    parser.add_argument("--stand_in", action="store_true",
                        help="Write two data sets of synthetic shapes in the suite's layout to a new `--folder`, and "
                        "use sam-ft/tiny, one seed and one epoch, to try the benchmark.")  # fmt: skip
    parser.add_argument("--keys", nargs=argparse.REMAINDER, default=[], help="Further keys of the runs; the last one.")
    args = parser.parse_args(arguments)
    if args.stand_in:
        args.model, args.seeds, args.epochs = "sam-ft/tiny", args.seeds[:1], 1
    return args


def main(arguments: list[str] | None = None) -> None:
    """Run the cells without a result, and print the table."""
    args = parse_arguments(arguments)
    if args.stand_in and not Path(args.folder).exists():
        write_stand_in(args.suite, Path(args.folder))
    if not Path(args.folder).is_dir():
        sys.exit(f"`--folder`: {args.folder} is not a folder")
    datasets, missing = find_data(args.suite, Path(args.folder))
    unknown = set(args.datasets or ()) - {data.name for data in datasets}
    if unknown or not datasets:
        names = ", ".join(sorted(unknown)) or args.suite
        sys.exit(f"`--folder`: {args.folder} has no train and test files of {names}")
    if missing:
        print(f"not complete in {args.folder}: {', '.join(missing)}", flush=True)
    datasets = [data for data in datasets if not args.datasets or data.name in args.datasets]
    file = Path(args.out) / "results.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    finished = {(line["dataset"], line["method"], line["seed"]) for line in read_results(file, args)}
    try:
        # Seed by seed, so that a stopped benchmark has all methods and data sets of the first seeds.
        for seed in args.seeds:
            for data in datasets:
                for method in args.methods:
                    if (data.name, method, seed) not in finished:
                        line = run_cell(data, method, seed, args)
                        with open(file, "a", encoding="utf-8") as results:
                            results.write(json.dumps(line) + "\n")
                        print(json.dumps(line), flush=True)
    finally:
        table = make_table(read_results(file, args), args.methods)
        file.with_name("table.md").write_text(table, encoding="utf-8")
        print(table)


if __name__ == "__main__":
    main()
