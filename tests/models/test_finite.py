"""NaN and infinity in weights are refused when a model is loaded."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from sam_ft.export.source_model import load_source
from sam_ft.models.adapter_loading import adapt
from sam_ft.models.finite import NonFiniteError, find_non_finite_tensor
from sam_ft.models.loading import load_as_trained, load_model
from sam_ft.models.processors import load_processor
from sam_ft.options.model import LoraOptions, ModelOptions
from sam_ft.options.model_names import RANDOM_TINY, RANDOM_TINY_SAM2


NAMES = {
    RANDOM_TINY: "detr_decoder.layers.0.self_attn.q_proj.weight",
    RANDOM_TINY_SAM2: "mask_decoder.iou_token.weight",
}


def save(name, folder):
    load_model(ModelOptions(name)).save_pretrained(folder)
    load_processor(name).save_pretrained(folder)


def set_value(file, tensor, value):
    weights = load_file(file)
    weights[tensor].view(-1)[3] = value
    save_file(weights, file, metadata={"format": "pt"})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", NAMES)
def test_a_non_finite_parameter_is_refused_by_name(tmp_path, name, value):
    save(name, tmp_path)
    load_model(ModelOptions(str(tmp_path)))
    set_value(tmp_path / "model.safetensors", NAMES[name], value)
    with pytest.raises(NonFiniteError, match=rf"`{NAMES[name]}` of '{tmp_path}' contains NaN or infinity"):
        load_model(ModelOptions(str(tmp_path)))


def test_a_non_finite_buffer_is_refused_by_name(tmp_path):
    save(RANDOM_TINY_SAM2, tmp_path)
    set_value(tmp_path / "model.safetensors", "shared_image_embedding.positional_embedding", float("nan"))
    with pytest.raises(NonFiniteError, match="`shared_image_embedding.positional_embedding`"):
        load_as_trained(ModelOptions(str(tmp_path)))


@pytest.mark.parametrize("options", [{"dtype": "bfloat16"}, {"quantization": "nf4"}])
def test_nan_is_detected_in_half_precision_and_four_bits(tmp_path, options):
    save(RANDOM_TINY, tmp_path)
    name = "vision_encoder.backbone.layers.0.mlp.fc1.weight"
    set_value(tmp_path / "model.safetensors", name, float("nan"))
    with pytest.raises(NonFiniteError, match=f"`{name}`"):
        load_model(ModelOptions(str(tmp_path), **options))


def test_an_adapter_and_its_base_are_checked(tmp_path):
    adapt(ModelOptions(RANDOM_TINY), LoraOptions("detr", r=2)).save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    tensor, original = min(load_file(file)), file.read_bytes()
    set_value(file, tensor, float("inf"))
    with pytest.raises(NonFiniteError, match=rf"`{tensor}` of '.*adapter_model.safetensors'"):
        load_model(ModelOptions(str(tmp_path)))
    file.write_bytes(original)
    set_value(tmp_path / "base" / "model.safetensors", NAMES[RANDOM_TINY], float("nan"))
    with pytest.raises(NonFiniteError, match=rf"`{NAMES[RANDOM_TINY]}` of '.*base' contains NaN"):
        load_model(ModelOptions(str(tmp_path)))


def test_a_weight_file_for_an_export_is_checked(tmp_path):
    save(RANDOM_TINY, tmp_path)
    file = tmp_path / "model.safetensors"
    load_source(ModelOptions(str(file)), None)
    set_value(file, NAMES[RANDOM_TINY], float("nan"))
    with pytest.raises(NonFiniteError, match=f"`{NAMES[RANDOM_TINY]}`"):
        load_source(ModelOptions(str(file)), None)


def test_integers_empty_tensors_and_large_values_are_finite():
    large = torch.full((4,), torch.finfo(torch.float32).max)
    tensors = {"a": torch.arange(3), "b": torch.zeros(0), "c": large, "d": large.bfloat16()[:0]}
    assert find_non_finite_tensor(tensors.items()) is None
    assert find_non_finite_tensor([*tensors.items(), ("e", large * 2)]) == "e"
