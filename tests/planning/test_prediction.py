"""Memory and time are predicted on fake tensors for cards that are not there."""

import dataclasses
import re
from types import SimpleNamespace

import pytest
import torch
from transformers.models.sam3.modeling_sam3 import Sam3SinePositionEmbedding

from sam_ft.arguments import DataArguments, LossArguments, ModelArguments, PlanArguments
from sam_ft.commands import plan as plan_command
from sam_ft.commands.plan import plan_for_card
from sam_ft.commands.plan_measurement import RunMeasurement
from sam_ft.commands.plan_prediction import StepContent, StepPrediction, predict
from sam_ft.commands.program import find_command
from sam_ft.commands.run import Run
from sam_ft.losses.resized_masks import resized_focal_dice_rows
from sam_ft.planning.cards import CARDS, find_card, find_card_of_device
from sam_ft.planning.roofline import compute_kernel_seconds
from sam_ft.planning.simulation import simulate
from sam_ft.training.training_arguments import Sam3TrainingArguments


CONTENT = StepContent(phrases=1, objects=1)
CARD = find_card("rtx4090")


def make_run(folder, model=None, **training):
    return Run(
        ModelArguments(**{"model_name_or_path": "sam-ft/random-tiny", "pairs_per_chunk": 1} | (model or {})),
        DataArguments(dataset_name="path/to/coco"),
        LossArguments(),
        Sam3TrainingArguments(output_dir=str(folder / "out"), report_to=[], use_cpu=True, **training),
    )


@pytest.fixture(scope="module")
def predictions(tmp_path_factory):
    """Predictions of three runs of the untrained tiny model."""
    folder = tmp_path_factory.mktemp("predictions")
    models = {"full": {}, "chunk 2": {"pairs_per_chunk": 2}, "lora": {"lora": "attention", "dtype": "bfloat16"}}
    content = {"chunk 2": StepContent(phrases=3, objects=2)}
    found = {
        name: predict(make_run(folder, model), CARD, content.get(name, CONTENT), with_bf16=True)
        for name, model in models.items()
    }
    assert not (folder / "out").exists()
    return found


def test_components_are_those_of_the_run(predictions):
    found = predictions["full"]
    total = sum(whole for _, whole in found.trained.values())
    trained = sum(part for part, _ in found.trained.values())
    # Weights, gradients and AdamW's two moments are float32; buffers, step counts and rounding to 512 bytes add some.
    assert found.weights == pytest.approx(4 * total, rel=0.15)
    assert found.gradients == pytest.approx(4 * trained, rel=0.06)
    assert found.optimizer == pytest.approx(8 * trained, rel=0.15)
    parts = found.weights + found.gradients + found.optimizer + found.activations
    assert parts == found.step_peak
    assert found.activations > 0
    assert found.needed > 1.1 * found.step_peak + 0.69 * 2**30
    assert found.side == 96


def test_chunks_and_adapters_change_memory(predictions):
    assert predictions["chunk 2"].activations > 1.2 * predictions["full"].activations
    assert predictions["lora"].step_peak < predictions["full"].step_peak
    assert predictions["lora"].weights < 0.9 * predictions["full"].weights


def test_time_is_that_of_kernels_or_host(predictions):
    found = predictions["full"]
    assert found.kernels > 1000
    assert found.flops > 0
    assert 0 < found.kernel_seconds < found.host_seconds == found.step, "a tiny model is bound by launches"


def test_real_tensors_work_after_a_prediction(predictions):
    assert torch.ones(2).sum().item() == 2
    assert torch.ones(2).numpy().tolist() == [1.0, 1.0]
    encoding = Sam3SinePositionEmbedding(4)
    arguments = torch.Size((1, 8, 2, 2)), torch.device("cpu"), torch.float32
    with simulate(CARD):
        encoding(*arguments)
    assert isinstance(encoding(*arguments).sum().item(), float), "Transformers caches position encodings"


@pytest.mark.parametrize("name", ["RTX 4090", "rtx-4090", "NVIDIA GeForce RTX 4090"])
def test_card_by_name(name):
    assert find_card(name) is CARDS["rtx4090"]


def test_card_by_size_and_device():
    assert find_card("24GB").memory == 24 * 2**30
    assert find_card("24GB").bandwidth is None
    found = find_card_of_device("NVIDIA A100-SXM4-80GB", 79 * 2**30)
    assert (found.memory, found.bandwidth) == (79 * 2**30, 2039)
    assert find_card_of_device("NVIDIA L40S", 45 * 2**30).bandwidth == 864
    assert find_card_of_device("NVIDIA GeForce GTX 1080", 8 * 2**30).bandwidth is None


def test_unknown_card_is_refused_with_all_names():
    parsed = find_command("plan").make_parser().parse(["--card", "rtx4091", "--model_name_or_path", "facebook/sam3"])
    assert isinstance(parsed[-1], PlanArguments)
    with pytest.raises(ValueError, match=r"got 'rtx4091'. Did you mean rtx4090\?") as error:
        plan_command.run_plan(*parsed)
    assert all(name in str(error.value) for name in CARDS)


def test_sizes_and_rates_of_cards_are_plausible():
    for card in CARDS.values():
        assert 8 * 2**30 * 0.99 < card.memory < 200 * 2**30
        assert card.source
        assert card.with_bf16 == (card.bf16 is not None)
        assert (card.bf16 or card.tf32) >= card.tf32 * 1.9 or not card.with_bf16


@pytest.fixture
def steps(monkeypatch, predictions):
    """Replace the simulation: each further call needs less memory; collect the runs."""
    runs = []

    def fake(run, card, content, *, with_bf16):
        runs.append((run, with_bf16))
        return dataclasses.replace(predictions["full"], step_peak=(40 >> len(runs)) * 2**30)

    monkeypatch.setattr(plan_command, "predict", fake)
    return runs


def test_plan_shows_components_time_and_rungs(tmp_path, steps):
    card = dataclasses.replace(CARD, memory=8 * 2**30)
    run = make_run(tmp_path, {"pairs_per_chunk": 4})
    lines = list(plan_for_card(run, card, CONTENT, with_bf16=True))
    text = "\n".join(lines)
    assert "predicted without a GPU" in lines[0]
    assert "memory of a step of 96 px, predicted" in text
    assert "22.70 GB with 10% for fragmentation and 0.70 GB of CUDA context: does not fit 8.00 GB" in text
    assert "1008 GB/s (NVIDIA Ada architecture whitepaper)" in text
    begin = lines.index("changes that make it fit, each together with those above it")
    assert lines[begin + 1] == "  pairs_per_chunk: 1"
    assert lines[begin + 3] == "  masks_per_block: 2"
    assert lines[-1].endswith("it fits")
    assert len(steps) == 3


def test_card_without_bf16_is_planned_in_float32(tmp_path, steps):
    run = make_run(tmp_path, {"lora": "attention", "dtype": "bfloat16"})
    lines = list(plan_for_card(run, dataclasses.replace(find_card("t4"), memory=2**40), CONTENT, with_bf16=True))
    assert lines[0].startswith("t4 has no bf16, and `fp16` is not supported: set `bf16: false` and `dtype: float32`")
    planned, with_bf16 = steps[0]
    assert not with_bf16
    assert planned.model.dtype == "float32"
    assert run.model.dtype == "bfloat16", "the run is not modified"


def test_keys_that_do_not_fit_are_refused(tmp_path):
    run = make_run(tmp_path)
    run = dataclasses.replace(run, data=dataclasses.replace(run.data, feature_cache="features"))
    with pytest.raises(ValueError, match="`feature_cache` needs a frozen image encoder"):
        predict(run, CARD, CONTENT, with_bf16=False)
    run.training.optim = "adamw_torch"
    with pytest.raises(ValueError, match="`optim` is 'adamw_torch', whose update cannot be predicted"):
        predict(run, CARD, CONTENT, with_bf16=False)


def test_measurement_on_a_gpu_is_shown_beside_the_prediction(tmp_path, monkeypatch, predictions):
    measured = RunMeasurement(
        2 * 2**30, 2**30, 2**29, 2**28, 2**26, 2**27, 0.5, 0.1, 96, 0.2, 2**20, 2**20, {"scoring": (1, 2)},
        reserved=3 * 2**30,
    )  # fmt: skip
    monkeypatch.setattr(plan_command, "measure", lambda run, data: measured)
    data = SimpleNamespace(train=[0] * 4, validation=[0])
    lines = list(plan_command.plan(make_run(tmp_path), data, int(3.5 * 2**30), predictions["full"]))
    text = "\n".join(lines)
    assert "memory of a step on the largest images, measured and predicted" in text
    assert "  weights                0.25 GB   0.01 GB" in lines
    gpu_line = r"  on the card +3.70 GB +0.7\d GB: reserved, and 0.70 GB of CUDA context; does not fit 3.50 GB"
    assert any(re.fullmatch(gpu_line, line) for line in lines)
    assert "0.500 s per image (predicted 0." in text
    assert "changes that make it fit, each together with those above it" in lines


def test_prediction_needs_the_memory_of_a_card():
    found = StepPrediction(2**30, 2**28, 0, 0, 96, 1000, 1e9, 1e9, 0.5)
    assert found.activations == 2**30 - 2**28
    assert found.step == 0.5


def test_kernels_are_those_of_a_gpu():
    with simulate(CARD) as recorder:
        parameters = [torch.nn.Parameter(torch.zeros(4)) for _ in range(20)]
        for parameter in parameters:
            parameter.grad = torch.zeros(4)
        recorder.reset()
        torch.nn.utils.clip_grad_norm_(parameters, 0.1)
        assert 2 <= recorder.kernels < 20, "norms and products of all parameters together"
        recorder.reset()
        torch.nn.functional.dropout(torch.zeros(4), 0.1)
        assert recorder.kernels == 2, "zeros and one kernel of dropout"
        counts = []
        for rows in (1, 8):
            logits, target = torch.zeros(rows, 4, 4), torch.zeros(rows, 8, 8, dtype=torch.bool)
            recorder.reset()
            resized_focal_dice_rows(logits, target, alpha=0.25)
            counts.append(recorder.kernels)
        assert counts[0] == counts[1], "masks of a block together"


def test_float32_products_run_in_tf32_unless_the_run_disables_it():
    card, flops = find_card("a100-40gb"), 10**13
    seconds = [
        compute_kernel_seconds(card, name, 0, flops, True, with_tf32)
        for name in ("aten::mm", "aten::convolution")
        for with_tf32 in (True, False)
    ]
    assert seconds[1] / seconds[0] == seconds[3] / seconds[2] == pytest.approx(card.tf32 / card.fp32)
    assert compute_kernel_seconds(card, "aten::mm", 0, flops, False, False) == pytest.approx(seconds[0] / 2)
