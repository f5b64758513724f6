"""Detection of NaN and infinity: a run stops with an error that names step, example and tensor."""

import json

import pytest
import torch

from sam_ft.models.finite import NonFiniteError
from sam_ft.models.unwrapping import unwrap_sam
from sam_ft.options.model_names import RANDOM_TINY, TINY, TINY_SAM2

from .common import build, build_sam2


def no_checkpoint(folder):
    return not list(folder.glob("checkpoint-*")) and not list(folder.rglob("*.safetensors"))


@pytest.fixture(params=["sam3", "sam2"])
def make(request, shapes, tmp_path):
    """Builds a trainer of either family that saves a checkpoint each step."""
    builder = build if request.param == "sam3" else build_sam2

    def start(**training):
        defaults = {"max_steps": 3, "save_strategy": "steps", "save_steps": 1, "gradient_accumulation_steps": 2}
        return builder(shapes, tmp_path / "run", **(defaults | training))

    return start


def head_of(trainer):
    """A parameter whose value reaches the loss of both families."""
    model = unwrap_sam(trainer.model)
    return model, next(
        name for name, _ in model.named_parameters() if name.startswith("mask_decoder.") and "weight" in name
    )


def test_a_loss_that_is_not_finite_names_step_examples_and_part(make, tmp_path):
    trainer = make()
    criterion = trainer.train_step.criterion
    calls = []

    def broken(*args):
        loss, parts = criterion(*args)
        calls.append(1)
        if trainer.state.global_step == 1:
            return loss * float("nan"), parts | {"loss_mask": parts["loss_mask"] * float("nan")}
        return loss, parts

    trainer.train_step.criterion = broken
    with pytest.raises(NonFiniteError, match=r"step 2: `loss_mask` is nan in the batch of '.*\d+.*'\. ") as caught:
        trainer.train()
    assert len(str(caught.value).splitlines()) == 1
    assert [p.name for p in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-1"]
    assert calls


def test_a_gradient_that_is_not_finite_names_step_examples_and_parameter(make, tmp_path):
    trainer = make()
    model, name = head_of(trainer)
    model.get_parameter(name).register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(
        NonFiniteError, match=rf"step 1: the gradient of `{name}` is (nan|inf) \(1 of \d+ parameters\), batch of '"
    ):
        trainer.train()
    assert no_checkpoint(tmp_path / "run")


def test_non_finite_gradients_are_detected_without_clipping(make, tmp_path):
    trainer = make(max_grad_norm=0.0)
    model, name = head_of(trainer)
    model.get_parameter(name).register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(NonFiniteError, match=f"step 1: the gradient of `{name}` is nan"):
        trainer.train()
    assert no_checkpoint(tmp_path / "run")


def test_diverged_weights_never_reach_a_checkpoint(make, tmp_path):
    """Weights become NaN between two steps, as after an overflow in the optimizer."""
    trainer = make()
    model, name = head_of(trainer)

    def damage(*_):
        if trainer.state.global_step == 1:
            with torch.no_grad():
                model.get_parameter(name).view(-1)[0] = float("nan")

    model.register_forward_pre_hook(damage)
    with pytest.raises(ValueError, match=r"step 2[:,].*'.*'"):
        trainer.train()
    assert [p.name for p in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-1"]


def test_a_step_reads_the_device_once(make, monkeypatch):
    """The check transfers one number per optimizer step, whatever the number of micro-batches."""
    trainer = make(save_strategy="no", gradient_accumulation_steps=4, per_device_train_batch_size=1, max_steps=1)
    reads = []
    check = trainer._finite.check

    def counted(*args):
        read = torch.Tensor.__float__
        monkeypatch.setattr(torch.Tensor, "__float__", lambda tensor: reads.append(1) or read(tensor))
        check(*args)
        monkeypatch.setattr(torch.Tensor, "__float__", read)

    monkeypatch.setattr(trainer._finite, "check", counted)
    trainer.train()
    assert len(reads) == 1


def test_gradients_of_finite_runs_are_not_changed(shapes, tmp_path):
    ends = []
    for check in (True, False):
        trainer = build(shapes, tmp_path / str(check), max_steps=2)
        if not check:
            trainer._finite.check = lambda *args: None
        trainer.train()
        ends.append({n: p.detach().clone() for n, p in trainer.model.named_parameters()})
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize(
    "module, tensor",
    [
        ("dot_product_scoring", "scores"),
        ("detr_decoder.box_head", "boxes"),
        ("detr_decoder.presence_head", "presence"),
        ("mask_decoder.mask_embedder", "masks"),
    ],
)
def test_an_evaluation_names_example_phrase_and_tensor(shapes, tmp_path, module, tensor):
    trainer = build(shapes, tmp_path, TINY)
    model = unwrap_sam(trainer.model)
    model.get_submodule(module).register_forward_hook(lambda _, __, output: output * float("nan"))
    with pytest.raises(
        NonFiniteError,
        match=rf"evaluation, example '.*', phrase '.*': the prediction has NaN or infinity in `{tensor}`",
    ):
        trainer.evaluate()
    assert not (tmp_path / "eval").exists()


@pytest.mark.parametrize("index, tensor", [(0, "candidates"), (1, "ious")])
def test_an_evaluation_of_sam2_names_example_instance_and_tensor(shapes, tmp_path, index, tensor):
    trainer = build_sam2(shapes, tmp_path, TINY_SAM2)

    def damage(_, __, output):
        return tuple(value * float("nan") if i == index else value for i, value in enumerate(output))

    unwrap_sam(trainer.model).mask_decoder.register_forward_hook(damage)
    with pytest.raises(
        NonFiniteError,
        match=rf"evaluation, example '.*', instance \d+: the prediction has NaN or infinity in `{tensor}`",
    ):
        trainer.evaluate()
    assert not (tmp_path / "eval").exists()


def test_an_evaluation_loss_that_is_not_finite_names_examples(shapes, tmp_path):
    for make, name in ((build, RANDOM_TINY), (build_sam2, TINY_SAM2)):
        trainer = make(shapes, tmp_path / make.__name__, name)
        criterion = trainer.train_step.criterion
        trainer.train_step.criterion = lambda *args, criterion=criterion: (criterion(*args)[0] * float("inf"), {})
        with pytest.raises(NonFiniteError, match="evaluation: `loss` is inf in the batch of '"):
            trainer.evaluate()


def test_metrics_files_never_contain_nan(shapes, tmp_path):
    trainer = build(shapes, tmp_path)
    trainer.save_metrics("eval", {"eval_loss": 1.0})
    for value in (float("nan"), float("inf")):
        with pytest.raises(NonFiniteError, match="eval metrics: `eval_mask_AP` is not a finite number"):
            trainer.save_metrics("eval", {"eval_loss": 2.0, "eval_mask_AP": value})
    assert json.loads((tmp_path / "eval_results.json").read_text()) == {"eval_loss": 1.0}
