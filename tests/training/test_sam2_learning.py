"""A short fine-tuning run of the packaged SAM 2, and its gain from corrective clicks."""

import pytest

from sam_ft.data.synthetic.scene_files import write_shape_scenes
from sam_ft.options.model_names import TINY_SAM2
from sam_ft.options.scenes import SceneFiles, SceneOptions

from .common import build_sam2


pytestmark = pytest.mark.slow


DARK = {"fills": ["outlined", "dotted"], "grounds": ["night"], "clutter": 0.0, "seed": 21,
        "colors": ["red", "orange", "yellow", "green", "blue", "purple"]}  # fmt: skip


@pytest.fixture(scope="module")
def dark_scenes(tmp_path_factory):
    """Small outlined and dotted shapes at night; the packaged model was trained on large solid ones."""
    scenes = SceneOptions(min_shapes=3, max_shapes=6, sizes=["small", "medium"], **DARK)
    return write_shape_scenes(tmp_path_factory.mktemp("dark"), SceneFiles(scenes, num_train=30, num_validation=24))


@pytest.fixture(scope="module")
def learned(dark_scenes, tmp_path_factory):
    """Folder of a short run, and its metrics on held-out scenes before and after."""
    folder = tmp_path_factory.mktemp("learned")
    trainer = build_sam2(
        dark_scenes, folder, TINY_SAM2, data={"n_rounds": 2, "eval_clicks": 1}, model={"resolution": 96}, max_steps=30,
        per_device_train_batch_size=8, per_device_eval_batch_size=12, learning_rate=5e-4, vision_layer_decay=1.0, weight_decay=0.01, max_grad_norm=1.0,
        logging_steps=20,
    )  # fmt: skip
    before = trainer.evaluate(metric_key_prefix="before")
    trainer.train()
    after = trainer.evaluate()
    trainer.save_model()
    return folder, before, after


def test_a_short_run_learns_new_textures(learned):
    _, before, after = learned
    assert after["eval_object_IoU"] >= before["before_object_IoU"] + 0.2
    assert after["eval_IoU@box"] >= before["before_IoU@box"] + 0.2


def test_five_clicks_are_better_than_one(learned, tmp_path):
    """Objects overlap in these held-out scenes, so that one click is ambiguous."""
    scenes = SceneOptions(min_shapes=4, max_shapes=7, sizes=["medium", "large"], **DARK)
    crowded = write_shape_scenes(tmp_path / "crowded", SceneFiles(scenes, num_train=1, num_validation=24))
    trainer = build_sam2(
        crowded,
        tmp_path / "out",
        learned[0],
        data={"eval_clicks": 5},
        model={"resolution": 96},
        per_device_eval_batch_size=12,
    )
    metrics = trainer.evaluate()
    assert metrics["eval_IoU@5"] >= metrics["eval_IoU@1"] + 0.05, metrics


def test_packaged_model_segments_its_training_distribution(tmp_path):
    """Held-out scenes of the training distribution."""
    data = {
        **{
            "dataset_name": "synthetic-stream",
            "scene_train_images": 1,
            "scene_eval_images": 24,
            "scene_seed": 77,
            "eval_clicks": 3,
        },
        **{
            "scene_min_shapes": 3,
            "scene_max_shapes": 6,
            "scene_fills": ["solid", "striped"],
            "scene_sizes": ["medium", "large"],
        },
        **{"scene_grounds": ["plain", "gradient", "speckled"], "scene_clutter": 0.0},
    }
    metrics = build_sam2(
        "", tmp_path, TINY_SAM2, data=data, model={"resolution": 96}, per_device_eval_batch_size=8
    ).evaluate()
    assert metrics["eval_IoU@1"] > 0.65
    assert metrics["eval_IoU@box"] > 0.65
    assert metrics["eval_IoU@3"] > metrics["eval_IoU@1"]


def test_untrained_model_has_a_low_iou(dark_scenes, tmp_path):
    metrics = build_sam2(dark_scenes, tmp_path, model={"resolution": 96}, data={"eval_clicks": 1}).evaluate()
    assert metrics["eval_object_IoU"] < 0.3
