"""Equivalence of a step for all splits of an accumulation window into batches and processes."""

import json

import pytest

from .common import build, distance, run_recipe, save_model_without_dropout, weights


# Plain gradient descent, because Adam would amplify rounding errors of vanishing gradients to the size of a step.
SGD = {
    "optim": "sgd",
    "learning_rate": 1e-3,
    "vision_learning_rate": 1e-3,
    "text_learning_rate": 1e-3,
    "lr_scale": 1.0,
}
DATA = {"crop_probability": 0.5, "exemplar_probability": 0.5, "negative_ratio": 0.4}
STEPS = {"max_steps": 2, "lr_schedule": "transformers", "lr_scheduler_type": "constant", "max_grad_norm": 0.0}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return save_model_without_dropout(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def whole(shapes, start, tmp_path_factory):
    """Weights after two steps of four images at once."""
    folder = tmp_path_factory.mktemp("whole")
    trainer = build(
        shapes, folder, start, data=DATA, per_device_train_batch_size=4, gradient_accumulation_steps=1, **SGD, **STEPS
    )
    trainer.train()
    trainer.save_model()
    return weights(folder)


@pytest.mark.parametrize(("batch", "accumulation"), [(2, 2), (1, 4)])
def test_accumulation_gives_the_same_weights(shapes, start, whole, tmp_path, batch, accumulation):
    trainer = build(
        shapes,
        tmp_path,
        start,
        data=DATA,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        **SGD,
        **STEPS,
    )
    trainer.train()
    trainer.save_model()
    # Tolerance 1e-5: float32 sums in another order.
    assert distance(weights(tmp_path), whole, weights(start)) < 1e-5


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_give_the_same_weights(shapes, start, whole, tmp_path, processes):
    """
    Two processes give the weights of one, and their evaluation the same metrics.

    The evaluation before training must not remove DistributedDataParallel. Three processes share four images unevenly, so
    that one repeats an image; their training must only end, and three evaluation images are shared by two processes.
    """
    arguments = {
        **{"model_name_or_path": start, "dataset_name": shapes, "output_dir": tmp_path / "out", "resize": "plain"},
        **{"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2, "dataloader_num_workers": 0},
        **{"eval_strategy": "no", "save_strategy": "no", "report_to": "none", "warmup_steps": 0, "use_cpu": True},
        **{"disable_tqdm": True, "num_pictures": 0, "ddp_backend": "gloo", "probe_images": 2},
        **{"eval_split": "train", "max_eval_samples": 3, "per_device_eval_batch_size": 1},
        **DATA,
        **SGD,
        **STEPS,
    }
    output = run_recipe([f"--{k}={v}" for k, v in arguments.items()], tmp_path, processes=processes)
    assert f"× {processes} processes" in output
    if processes == 2:
        assert distance(weights(tmp_path / "out"), whole, weights(start)) < 1e-5
    # Each evaluation image occurs once.
    truth = json.loads((tmp_path / "out" / "eval" / "ground_truth.json").read_text())
    assert len(truth["images"]) == 3
    alone = build(shapes, tmp_path / "alone", start, data={"eval_split": "train", "max_eval_samples": 3})
    expected = alone.evaluate(metric_key_prefix="before")
    metrics = json.loads((tmp_path / "out" / "before_results.json").read_text())
    assert "before_cgF1" in metrics
    for name, value in metrics.items():
        if not name.endswith(("_runtime", "_per_second", "_preparation_time", "epoch")):
            assert value == pytest.approx(expected[name], rel=1e-5, abs=1e-6), name


def test_the_official_normaliser_depends_on_the_batch(shapes, start, whole, tmp_path):
    """The comparison above fails with `normalizer: batch`."""
    trainer = build(
        shapes,
        tmp_path,
        start,
        data=DATA,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=4,
        normalizer="batch",
        **SGD,
        **STEPS,
    )
    trainer.train()
    trainer.save_model()
    assert distance(weights(tmp_path), whole, weights(start)) > 1e-3
