"""Memory plans are measured, and each rung of the memory ladder is a valid run."""

import multiprocessing

import pytest

from sam_ft.arguments import DataArguments, LossArguments, ModelArguments
from sam_ft.commands.build import load_data
from sam_ft.commands.plan import plan
from sam_ft.commands.plan_measurement import measure
from sam_ft.commands.run import Run
from sam_ft.planning.memory_ladder import iterate_memory_ladder
from sam_ft.training.training_arguments import Sam3TrainingArguments


def make_run(shapes, folder, model=None, **training):
    return Run(
        ModelArguments(**{"model_name_or_path": "sam-ft/random-tiny"} | (model or {})),
        DataArguments(dataset_name=str(shapes), resize="plain"),
        LossArguments(),
        Sam3TrainingArguments(
            output_dir=str(folder / "out"), report_to=[], use_cpu=True, dataloader_num_workers=0,
            num_train_epochs=3, **training
        ),
    )  # fmt: skip


def test_measured_plan(shapes, tmp_path, monkeypatch):
    run = make_run(shapes, tmp_path)
    data = load_data(run.data)
    measured = measure(run, data)
    total = sum(whole for _, whole in measured.trained.values())
    trained = sum(part for part, _ in measured.trained.values())
    # Weights, gradients and AdamW's two moments are float32; buffers and step counts are small.
    assert measured.weights == pytest.approx(4 * total, rel=0.05)
    assert measured.gradients == 4 * trained
    assert measured.optimizer == pytest.approx(8 * trained, rel=0.01)
    assert measured.step_peak > measured.weights + measured.gradients + measured.optimizer
    assert measured.step > 0
    assert measured.side == 96
    assert measured.checkpoint > 4 * total + 8 * trained
    assert not (tmp_path / "out").exists(), "a plan leaves no files"
    monkeypatch.setattr("sam_ft.commands.plan.measure", lambda *_: measured)
    lines = list(plan(run, data, memory=2**40))
    assert any("fits 1024.00 GB" in line for line in lines)
    assert any("for 12" in line for line in lines), "three epochs of four images"
    assert not any("changes that make it fit" in line for line in lines)


def test_an_invalid_run_is_rejected_before_the_measurement(shapes, tmp_path, monkeypatch):
    """The process is forked, because another would spend its time on imports."""
    fork = multiprocessing.get_context("fork")
    monkeypatch.setattr("sam_ft.commands.plan_measurement.multiprocessing.get_context", lambda _: fork)
    run = make_run(shapes, tmp_path, {"lora": "attentoin"})
    with pytest.raises(ValueError, match="`lora` is 'attentoin'"):
        measure(run, load_data(run.data))


def test_ladder_continues_from_the_settings_of_the_run(shapes, tmp_path):
    rungs = list(iterate_memory_ladder(make_run(shapes, tmp_path), "features", 1008))
    lines = [line for rung in rungs for line in rung.yaml]
    assert lines[:2] == ["pairs_per_chunk: 1", "masks_per_block: 2"]
    assert {
        "vision_text_checkpointing: true",
        "pair_checkpointing: true",
        "lora: attention",
        "cache_text: true",
    } <= set(lines)
    assert "resolution: 672" in lines
    last = rungs[-1].run
    assert last.model.pairs_per_chunk == 1
    assert last.loss.masks_per_block == 2
    assert last.data.feature_cache == "features"
    assert set(last.model.freeze) == {"text_encoder", "vision_trunk"}
    assert not last.model.train_masks
    # A change that is already applied is not suggested again.
    again = [line for rung in iterate_memory_ladder(last, "features", 672) for line in rung.yaml]
    assert again == ["resolution: 336"]
    assert "vision_text_checkpointing: true" not in {
        line
        for rung in iterate_memory_ladder(make_run(shapes, tmp_path, {"lora": "detr"}), "features", 1008)
        for line in rung.yaml
    }
