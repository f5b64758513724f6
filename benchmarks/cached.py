"""Benchmark of cached features: measured speed-up of an epoch against the speed-up by operation counts.

    python benchmarks/cached.py

The model has SAM 3's ratio of ViT to the rest (5.6 TFLOP per image, 0.43 per pair), frozen encoders, and 1, 8 or 32
phrases per image. An epoch runs through the real Trainer, files and loader included, on images and on cached features.
The ratio of the operations of one step in each gives the allowed speed-up.
"""

import json
import sys
import tempfile
import time
from pathlib import Path


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402
from transformers import TrainerCallback  # noqa: E402

from benchmarks.measure import DEVICE, device_name  # noqa: E402
from benchmarks.models import reduced_config  # noqa: E402
from sam_ft.arguments import DataArguments, LossArguments, ModelArguments  # noqa: E402
from sam_ft.commands.build import load_data, load_sam  # noqa: E402
from sam_ft.commands.build_sam3 import build_sam3_trainer  # noqa: E402
from sam_ft.data.synthetic.scene_files import write_shape_scenes  # noqa: E402
from sam_ft.models.sam3.config import build_tiny_processor  # noqa: E402
from sam_ft.models.sam3.model import Sam3ForConceptSegmentation  # noqa: E402
from sam_ft.models.sam3.random_model import build_random_model  # noqa: E402
from sam_ft.models.sam3.steps import ConceptPredictionStep  # noqa: E402
from sam_ft.options.evaluation import DetectionLimits  # noqa: E402
from sam_ft.options.scenes import (
    SceneFiles,  # noqa: E402
    SceneOptions,  # noqa: E402
)
from sam_ft.testing import random_batch  # noqa: E402
from sam_ft.training.training_arguments import Sam3TrainingArguments  # noqa: E402


RESOLUTION, PHRASES, IMAGES, EPOCHS = 224, (1, 8, 32), 4, 3
OFFICIAL_RATIO = 5.6 / 0.43


def operations(call) -> int:
    """Count the floating-point operations of a call."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def forward_operations(model: Sam3ForConceptSegmentation) -> tuple[int, int]:
    """Count the operations of one image in the ViT, and of one more pair behind it."""

    def run(pairs):
        batch = random_batch([(0, f"phrase {i}", 1) for i in range(pairs)], resolution=RESOLUTION)
        batch = {k: v.to(DEVICE) if torch.is_tensor(v) else v for k, v in batch.items() if k != "labels"}
        batch["text_features"] = torch.zeros(pairs, 32, model.text_projection.out_features, device=DEVICE)
        with torch.no_grad():
            return operations(lambda: model(**batch, step=ConceptPredictionStep(DetectionLimits(0.0), lambda _: None)))

    pixels = torch.zeros(1, 3, RESOLUTION, RESOLUTION, device=DEVICE)
    with torch.no_grad():
        trunk = operations(lambda: model.encode_images(pixels))
    return trunk, run(2) - run(1)


def build_model_with_official_ratio() -> Sam3ForConceptSegmentation:
    """Build a model whose ViT costs as many pairs as SAM 3's does.

    The ViT gets layers until the ratio is reached. The rest is as wide as in SAM 3, because in narrower models calls
    cost more than the counted operations.

    Returns:
        `Sam3ForConceptSegmentation`: Random weights, in evaluation mode.

    Raises:
        RuntimeError: If no depth of the ViT reaches the ratio.
    """
    for layers in range(8, 100, 4):
        config = reduced_config(RESOLUTION, width=256, layers=2, queries=50)
        trunk = config.vision_config.backbone_config
        trunk.hidden_size, trunk.intermediate_size = 512, 2048
        trunk.num_hidden_layers, trunk.global_attn_indexes = layers, list(range(3, layers, 4))
        config._attn_implementation = "eager"  # The counter supports no other attention kernel.
        model = build_random_model(config, 0).eval().to(DEVICE)
        image, pair = forward_operations(model)
        if image / pair >= OFFICIAL_RATIO:
            print(f"{layers} ViT layers: one image in the ViT counts as many operations as {image / pair:.1f} pairs")
            return model
    raise RuntimeError("no depth of the ViT below 100 layers reaches the official ratio")


class Stopwatch(TrainerCallback):
    """Callback that records the seconds of each epoch."""

    def __init__(self):
        """Start without epochs."""
        self.seconds = []

    def on_epoch_begin(self, args, state, control, **kwargs):
        """Start the clock."""
        self.begin = time.perf_counter()

    def on_epoch_end(self, args, state, control, **kwargs):
        """Record the seconds since the start of the epoch."""
        self.seconds.append(time.perf_counter() - self.begin)


def write_data(folder: Path) -> Path:
    """Write scenes of one object each, with a vocabulary large enough for 32 phrases per image."""
    write_shape_scenes(folder, SceneFiles(SceneOptions(min_shapes=1, max_shapes=1, sizes=["large"]), IMAGES, 1))
    for file in (folder / "annotations").iterdir():
        coco = json.loads(file.read_text())
        coco["categories"] += [{"id": 100 + i, "name": f"absent {i}"} for i in range(max(PHRASES))]
        file.write_text(json.dumps(coco))
    return folder


def make_trainer(folder: Path, phrases: int, cached: bool):
    """Build a trainer whose steps have one image, with one present phrase and absent ones.

    Args:
        folder (`Path`): Folder of model, data and output.
        phrases (`int`): Phrases per image.
        cached (`bool`): Whether the ViT's features are cached.
    """
    output_dir = folder / f"{phrases}-{cached}"
    data_args = DataArguments(
        dataset_name=str(folder / "data"), resize="plain", negatives_per_image=phrases - 1,
        max_phrases_per_image=phrases, feature_cache=f"{output_dir}-features" if cached else None, cache_text=True,
    )  # fmt: skip
    model_args = ModelArguments(str(folder / "model"), freeze=["vision_encoder", "text_encoder"], pairs_per_chunk=8)
    training_args = Sam3TrainingArguments(
        output_dir=str(output_dir), report_to=[], num_train_epochs=EPOCHS, gradient_accumulation_steps=1,
        eval_strategy="no", save_strategy="no", dataloader_num_workers=0, disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    model, processor = load_sam(model_args, 0)
    return build_sam3_trainer(model, processor, load_data(data_args), data_args, LossArguments(), training_args)


def measure_epoch(folder: Path, phrases: int, cached: bool) -> tuple[int, float]:
    """Measure the operations of a step and the seconds of the fastest epoch after the first."""
    trainer, watch = make_trainer(folder, phrases, cached), Stopwatch()
    trainer.add_callback(watch)
    trainer.train()
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    counted = operations(lambda: trainer.model.train()(**batch).loss.backward())
    return counted, min(watch.seconds[1:])  # The first epoch is the warm-up.


def main():
    """Print the table."""
    print(device_name())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build_model_with_official_ratio().save_pretrained(folder / "model")
        build_tiny_processor(RESOLUTION).save_pretrained(folder / "model")
        write_data(folder / "data")
        print("| phrases per image | allowed by operation counts | measured | share |\n|---|---|---|---|")
        for phrases in PHRASES:
            (full_flops, full_time), (cached_flops, cached_time) = (
                measure_epoch(folder, phrases, cached) for cached in (False, True)
            )
            allowed, measured = full_flops / cached_flops, full_time / cached_time
            share = (1 - 1 / measured) / (1 - 1 / allowed)
            numbers = f"{allowed:.2f}× | {measured:.2f}× | {measured / allowed:.0%} of the factor"
            print(f"| {phrases} | {numbers}, {share:.0%} of the saved time |")


if __name__ == "__main__":
    main()
