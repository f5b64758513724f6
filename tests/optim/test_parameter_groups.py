import pytest
import torch

from sam_ft.models.freezing import freeze
from sam_ft.optim.parameter_groups import build_parameter_groups, build_sam3_schedule
from sam_ft.options.optim import LearningRates
from sam_ft.testing import tiny_sam3


RATES = LearningRates(transformer=1.0, vision=0.5, text=0.25, vision_layer_decay=0.9, weight_decay=0.1)


@pytest.fixture(scope="module")
def groups():
    """Map parameter names to (rate, decay, part)."""
    model = tiny_sam3()
    freeze(model, [])
    names = {id(p): n for n, p in model.named_parameters()}
    values = {}
    for group in build_parameter_groups(model, RATES):
        for parameter in group["params"]:
            values[names[id(parameter)]] = group["lr"], group["weight_decay"], group["part"]
    assert values.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    return values


@pytest.mark.parametrize(
    ("name", "rate", "decay", "part"),
    [
        # With six ViT layers: 0.9^(6 − i), 0.9^7 before the first layer, 1 for position embeddings and neck.
        ("vision_encoder.backbone.layers.5.mlp.fc1.weight", 0.5 * 0.9, 0.1, "vision"),
        ("vision_encoder.backbone.layers.0.mlp.fc1.weight", 0.5 * 0.9**6, 0.1, "vision"),
        ("vision_encoder.backbone.layers.0.layer_norm1.weight", 0.5 * 0.9**6, 0.0, "vision"),
        ("vision_encoder.backbone.embeddings.patch_embeddings.projection.weight", 0.5 * 0.9**7, 0.1, "vision"),
        ("vision_encoder.backbone.layer_norm.weight", 0.5 * 0.9**7, 0.0, "vision"),
        ("vision_encoder.backbone.embeddings.position_embeddings", 0.5, 0.1, "vision"),
        ("vision_encoder.neck.fpn_layers.0.proj1.weight", 0.5, 0.1, "vision"),
        ("text_encoder.text_model.embeddings.token_embedding.weight", 0.25, 0.1, "text"),
        ("text_projection.bias", 0.25, 0.0, "text"),
        ("detr_decoder.query_embed.weight", 1.0, 0.1, "transformer"),
        (
            "mask_decoder.pixel_decoder.norms.0.weight",
            1.0,
            0.1,
            "transformer",
        ),  # GroupNorm is decayed
        ("mask_decoder.pixel_decoder.norms.0.bias", 1.0, 0.0, "transformer"),
    ],
)
def test_rates_and_decay(groups, name, rate, decay, part):
    assert groups[name] == (pytest.approx(rate), decay, part)


def test_wrapped_models_have_the_same_groups():
    model = tiny_sam3()
    wrapped = torch.nn.ModuleDict({"module": model})
    wrapped_groups, groups = (build_parameter_groups(m, RATES) for m in (wrapped, model))
    assert [g["lr"] for g in wrapped_groups] == [g["lr"] for g in groups]


def rates_of(steps, **options):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = build_sam3_schedule(optimizer, steps, **options)
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return rates


def test_schedule_equals_its_closed_form():
    rates = rates_of(200)
    assert rates[0] == 0
    assert rates[10] == pytest.approx(0.5)
    assert rates[20] == pytest.approx(1.0)
    assert rates[100] == pytest.approx((100 / 20) ** -0.5)
    assert rates[190] == pytest.approx((190 / 20) ** -0.5 * 10 / 20)
    assert rates[199] == pytest.approx((199 / 20) ** -0.5 / 20)


def test_ramps_of_short_runs_multiply():
    rates = rates_of(10)
    assert rates[5] == pytest.approx(5 / 20 * 5 / 20)
    assert rates_of(4, warmup=0, cooldown=0) == [
        pytest.approx(1.0 if s == 0 else ((s + 20) / 20) ** -0.5) for s in range(4)
    ]
