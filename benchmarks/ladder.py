"""Benchmark of the memory ladder: peak memory and time of each change, relative to a run without it.

    python benchmarks/ladder.py

A reduced SAM 3 (200 queries, six layers of each stack) at 336 px trains on scenes with about eight phrases each,
through the real Trainer. Each line is a separate process with one change against the first line. Peaks are the most
memory held at once (see `sam_ft/commands/plan_measurement.py`), times are per image of a step. The output is the table
of docs/memory_and_speed.md.
"""

import copy
import sys
import tempfile
from pathlib import Path


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measure import device_name  # noqa: E402
from benchmarks.models import reduced_config  # noqa: E402
from sam_ft.arguments import DataArguments, LossArguments, ModelArguments  # noqa: E402
from sam_ft.commands.build import load_data  # noqa: E402
from sam_ft.commands.plan_measurement import measure  # noqa: E402
from sam_ft.commands.run import Run  # noqa: E402
from sam_ft.data.synthetic.scene_files import write_shape_scenes  # noqa: E402
from sam_ft.models.sam3.config import build_tiny_processor  # noqa: E402
from sam_ft.models.sam3.random_model import build_random_model  # noqa: E402
from sam_ft.options.scenes import (  # noqa: E402
    ALL_SHAPES,
    SceneFiles,  # noqa: E402
    SceneOptions,
)
from sam_ft.training.training_arguments import Sam3TrainingArguments  # noqa: E402


RESOLUTION = 336
HEADS = {"freeze": ["vision_encoder", "text_encoder"]}
# YAML -> changed arguments of model, data, loss and training.
LEVERS = {
    "none": {},
    "pairs_per_chunk: 1": {"model": {"pairs_per_chunk": 1}},
    "masks_per_block: 2": {"loss": {"masks_per_block": 2}},
    "mask_points: 12544": {"loss": {"mask_points": 12544}},
    "vision_text_checkpointing: true": {"model": {"vision_text_checkpointing": True}},
    "pair_checkpointing: true": {"model": {"pair_checkpointing": True}},
    "freeze: [text_encoder], cache_text: true": {
        "model": {"freeze": ["text_encoder"]},
        "data": {"cache_text": True},
    },
    "lora: attention": {"model": {"lora": "attention"}},
    "lora: detr": {"model": {"lora": "detr"}},
    "freeze: [vision_encoder, text_encoder]": {"model": HEADS},
    "the same, feature_cache, cache_text": {"model": HEADS, "data": {"feature_cache": "there", "cache_text": True}},
    "resolution: 224": {"model": {"resolution": 224}},
    "train_masks: false": {"model": {"train_masks": False}},
    "optim: adamw_8bit": {"training": {"optim": "adamw_8bit"}},
    "optim: paged_adamw_8bit": {"training": {"optim": "paged_adamw_8bit"}},
    "per_device_train_batch_size: 4": {"training": {"per_device_train_batch_size": 4}},
    "gradient_accumulation_steps: 4": {"training": {"gradient_accumulation_steps": 4}},
    "all that change no result": {
        "model": {"pairs_per_chunk": 1, "vision_text_checkpointing": True, "pair_checkpointing": True},
        "loss": {"masks_per_block": 2},
    },
    "cached heads with both pair options": {
        "model": {**HEADS, "pairs_per_chunk": 1, "pair_checkpointing": True},
        "data": {"feature_cache": "there", "cache_text": True},
        "loss": {"masks_per_block": 2},
    },
}


def make_run(folder: Path, model=None, data=None, loss=None, training=None) -> Run:
    """Build the arguments of a run.

    Args:
        folder (`Path`): Folder of model, data and output.
        model (`dict`, *optional*): Changed model arguments.
        data (`dict`, *optional*): Changed data arguments.
        loss (`dict`, *optional*): Changed loss arguments.
        training (`dict`, *optional*): Changed training arguments.
    """
    return Run(
        ModelArguments(**{"model_name_or_path": str(folder / "model"), "pairs_per_chunk": 8} | (model or {})),
        DataArguments(dataset_name=str(folder / "data"), resize="plain", negatives_per_image=4, **(data or {})),
        LossArguments(**(loss or {})),
        Sam3TrainingArguments(
            output_dir=str(folder / "out"), report_to=[], dataloader_num_workers=0,
            **{"gradient_accumulation_steps": 1} | (training or {}),
        ),
    )  # fmt: skip


def main():
    """Print the table."""
    print(device_name())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build_random_model(copy.deepcopy(reduced_config(RESOLUTION)), 0).save_pretrained(folder / "model")
        build_tiny_processor(RESOLUTION).save_pretrained(folder / "model")
        scenes = SceneOptions(width=336, height=336, shapes=list(ALL_SHAPES), min_shapes=4, max_shapes=5)
        write_shape_scenes(folder / "data", SceneFiles(scenes, num_train=12, num_validation=2))
        data = load_data(make_run(folder).data)
        first = None
        print("| change | peak | time |\n|---|---|---|")
        for yaml, changes in LEVERS.items():
            try:
                measured = measure(make_run(folder, **changes), data)
            except (ValueError, RuntimeError) as error:
                print(f"| `{yaml}` | not supported here: {str(error).splitlines()[-1]} | |")
                continue
            if measured is None:
                print(f"| `{yaml}` | out of memory | |")
                continue
            first = first or measured
            print(
                f"| `{yaml}` | {measured.step_peak / first.step_peak:.2f} | {measured.step / first.step:.2f} |",
                flush=True,
            )
        print(f"1.00 is {first.step_peak / 2**20:.0f} MB and {first.step:.2f} s per image")


if __name__ == "__main__":
    main()
