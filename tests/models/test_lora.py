"""LoRA adapters: target layers, saving, loading, merging and refusals."""

import json
import shutil

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import Sam3Model

from sam_ft.models.adapter_loading import adapt, load_adapted
from sam_ft.models.loading import load_model
from sam_ft.models.lora import add_adapters, merge_adapters
from sam_ft.models.lora_targets import find_targets
from sam_ft.models.parts import strip_wrappers
from sam_ft.models.sam3.family import SAM3
from sam_ft.models.unwrapping import unwrap_sam
from sam_ft.options.model import LoraOptions, ModelOptions
from sam_ft.options.model_names import RANDOM_TINY
from sam_ft.testing import random_batch, tiny_sam3


OPTIONS = ModelOptions(RANDOM_TINY)
PAIRS = [(0, "red square", 2), (1, "circle", 1), (1, "star", 0)]


def build_trained_adapter(lora=None, name=RANDOM_TINY, **options):
    """Build a model with adapters whose `lora_B` weights are not zero."""
    model = adapt(ModelOptions(str(name), **options), lora or LoraOptions("attention", r=4))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    return model.eval()


def predict(model):
    """Compute boxes, scores, masks and presence for two images and phrases, concatenated."""
    model = model.eval()
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(2, 3, 96, 96, generator=generator)
    ids = torch.randint(1, 500, (2, 32), generator=generator)
    with torch.no_grad():
        out = model(pixel_values=pixels, input_ids=ids, attention_mask=torch.ones_like(ids))
    return torch.cat([t.flatten() for t in (out.pred_boxes, out.pred_logits, out.pred_masks, out.presence_logits)])


@pytest.mark.parametrize("preset", SAM3.lora_presets)
def test_a_preset_selects_its_modules_and_every_adapter_gets_a_gradient(preset):
    model = adapt(OPTIONS, LoraOptions(preset, r=2)).train()
    expected_modules = {
        "attention": {"vision_encoder", "text_encoder", "geometry_encoder", "detr_encoder", "detr_decoder", "mask_decoder"},
        "detr": {"detr_encoder", "detr_decoder", "dot_product_scoring", "mask_decoder"},
        "vision": {"vision_encoder"},
        "text": {"text_encoder", "text_projection"},
    }  # fmt: skip
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert all(".lora_" in name for name in trained)
    assert {strip_wrappers(name).split(".")[0] for name in trained} == expected_modules[preset.removesuffix("+mlp")]
    model(**random_batch(PAIRS)).loss.backward()
    assert [name for name, p in trained.items() if p.grad is None] == []


def test_the_attention_presets_select_all_projections():
    model = tiny_sam3()
    targets = find_targets(model, "attention")
    assert {name.split(".")[-1] for name in targets} == {"q_proj", "k_proj", "v_proj", "o_proj", "out_proj"}
    assert len(targets) == sum(name.endswith(("q_proj", "k_proj", "v_proj", "o_proj", "out_proj")) for name, _ in model.named_modules())  # fmt: skip
    assert set(find_targets(model, "attention+mlp")) - set(targets) == {
        name for name, _ in model.named_modules() if name.endswith(("mlp.fc1", "mlp.fc2"))
    }


def test_initial_adapters_depend_on_the_seed_alone():
    first, _, again, other = (
        adapt(ModelOptions(RANDOM_TINY, seed=seed), LoraOptions("text", r=2)).state_dict() for seed in (3, 4, 3, 4)
    )
    drawn = [name for name in first if "lora_A" in name]
    assert all(torch.equal(first[name], again[name]) for name in drawn)
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


def test_frozen_parts_get_no_adapters():
    targets = find_targets(tiny_sam3(), "attention", frozen=["text_encoder", "vision_encoder"])
    assert {name.split(".")[0] for name in targets} == {
        "geometry_encoder",
        "detr_encoder",
        "detr_decoder",
        "mask_decoder",
    }
    boxes_alone = find_targets(tiny_sam3(), "detr", with_masks=False)
    assert not any(name.startswith("mask_decoder") for name in boxes_alone)


def test_a_target_without_match_is_refused_with_similar_names():
    with pytest.raises(ValueError, match=r"`lora` is 'attentoin'.*attention, attention\+mlp"):
        find_targets(tiny_sam3(), "attentoin")
    with pytest.raises(ValueError, match=r"vision_encoder\.backbone\.layers\.N\.attention\.q_proj"):
        find_targets(tiny_sam3(), r"vision_encoder\.backbone\.layer\.\d+\.attention\.q_proj")
    with pytest.raises(ValueError, match="neither a preset .* nor a regex"):
        find_targets(tiny_sam3(), "(attention")
    with pytest.raises(ValueError, match="all layers that it matches are frozen"):
        find_targets(tiny_sam3(), "vision", frozen=["vision_encoder"])
    with pytest.raises(ValueError, match=r"`lora_modules_to_save` names 'presence_haed'.*presence_head"):
        add_adapters(tiny_sam3(), LoraOptions("vision", modules_to_save=["presence_haed"]))


@pytest.mark.parametrize(
    "lora",
    [
        LoraOptions("attention", r=4, rank_pattern={r".*detr_decoder.*": 2}),
        LoraOptions("detr", r=2, dora=True),
        LoraOptions("vision", r=2, rslora=True, modules_to_save=["dot_product_scoring", "presence_head"]),
    ],
    ids=["ranks", "dora", "saved-whole"],
)
def test_saving_loading_and_merging_preserve_predictions(lora, tmp_path):
    model = build_trained_adapter(lora)
    if lora.modules_to_save:
        with torch.no_grad():
            unwrap_sam(model).dot_product_scoring.text_proj.weight.add_(0.1)
    expected = predict(unwrap_sam(model))
    assert not torch.allclose(expected, predict(tiny_sam3()), atol=1e-3), "the adapter must have an effect"
    model.save_pretrained(tmp_path)

    names = load_file(tmp_path / "adapter_model.safetensors")
    assert all(".lora_" in n or any(m in n for m in lora.modules_to_save) for n in names)
    # Merged weights change the order of float32 sums.
    assert torch.allclose(predict(Sam3Model.from_pretrained(tmp_path)), expected, atol=1e-5)
    assert torch.allclose(predict(unwrap_sam(load_adapted(ModelOptions(str(tmp_path))))), expected, atol=1e-5)
    merged = load_model(ModelOptions(str(tmp_path)))
    assert not any("lora" in name for name, _ in merged.named_parameters())
    assert torch.allclose(predict(merged), expected, atol=1e-5)
    merged.save_pretrained(tmp_path / "merged")
    assert torch.allclose(predict(Sam3Model.from_pretrained(tmp_path / "merged")), expected, atol=1e-5)


def test_peft_loads_adapter_and_base(tmp_path):
    model = build_trained_adapter()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    base = Sam3Model.from_pretrained(config["base_model_name_or_path"])
    start = predict(base)
    assert torch.equal(start, predict(Sam3Model.from_pretrained(tmp_path / "base")))
    loaded = PeftModel.from_pretrained(base, tmp_path)
    assert torch.allclose(predict(loaded), predict(model), atol=1e-5)
    with model.disable_adapter():
        assert torch.allclose(predict(model), start, atol=1e-5)


def test_adapters_stay_in_float32_over_half_precision_encoders():
    model = build_trained_adapter(LoraOptions("attention+mlp", r=2), dtype="bfloat16")
    assert unwrap_sam(model).vision_encoder.backbone.layers[0].mlp.fc1.base_layer.weight.dtype == torch.bfloat16
    assert {p.dtype for n, p in model.named_parameters() if p.requires_grad} == {torch.float32}
    assert model(**random_batch(PAIRS)).loss.isfinite()
    with pytest.raises(ValueError, match="merged in float32"):
        merge_adapters(model)


def test_a_moved_folder_with_its_base_loads(tmp_path):
    build_trained_adapter().save_pretrained(tmp_path / "first")
    expected = predict(load_model(ModelOptions(str(tmp_path / "first"))))
    shutil.move(tmp_path / "first", tmp_path / "second")
    assert torch.equal(predict(load_model(ModelOptions(str(tmp_path / "second")))), expected)


def test_a_missing_or_incompatible_base_is_refused(tmp_path):
    build_trained_adapter().save_pretrained(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "base")
    with pytest.raises(ValueError, match=r"the adapter .*run' was made from .*base', which cannot be loaded"):
        load_model(ModelOptions(str(tmp_path / "run")))
    other = tiny_sam3()
    del other.vision_encoder.backbone.layers[4:]
    other.config.vision_config.backbone_config.num_hidden_layers = 4
    other.save_pretrained(tmp_path / "run" / "base")
    with pytest.raises(ValueError, match="does not fit its base"):
        load_model(ModelOptions(str(tmp_path / "run")))


def test_continuing_an_adapter_requires_its_rank(tmp_path):
    build_trained_adapter().save_pretrained(tmp_path)
    reloaded = adapt(ModelOptions(str(tmp_path)), LoraOptions("attention", r=4))
    assert any(p.requires_grad for p in reloaded.parameters())
    with pytest.raises(ValueError, match="`lora_r` is 8, but the adapter .* was made with 4"):
        adapt(ModelOptions(str(tmp_path)), LoraOptions("attention", r=8))


def test_adapters_of_4_bit_encoders_get_gradients(tmp_path):
    from bitsandbytes.nn import Linear4bit

    lora = LoraOptions("attention", r=4)
    model = adapt(ModelOptions("sam-ft/tiny", quantization="nf4"), lora).train()
    base = unwrap_sam(model)
    is_four_bit = {
        n: isinstance(m.base_layer, Linear4bit) for n, m in base.named_modules() if hasattr(m, "base_layer")
    }
    assert {n for n, four in is_four_bit.items() if four} == {
        n for n in is_four_bit if n.startswith(("vision_encoder.", "text_encoder."))
    }
    loss = model(**random_batch(PAIRS)).loss
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    # 4-bit rounding changes the loss by some percent.
    plain = load_model(ModelOptions("sam-ft/tiny")).train()(**random_batch(PAIRS)).loss
    assert float(loss.detach()) == pytest.approx(float(plain.detach()), rel=0.1)
    model.save_pretrained(tmp_path)
    whole = load_model(ModelOptions(str(tmp_path)))
    assert {p.dtype for p in whole.parameters()} == {torch.float32}
    with pytest.raises(ValueError, match="`quantization` is for saved weights"):
        adapt(ModelOptions(RANDOM_TINY, quantization="nf4"), lora)


def test_quantisation_without_bitsandbytes_is_refused(monkeypatch):
    monkeypatch.setattr("sam_ft.models.quantization.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'needs bitsandbytes.*pip install "sam-ft\[quantization\]"'):
        load_model(ModelOptions("sam-ft/tiny", quantization="nf4"))


def test_continuing_an_adapter_requires_its_target_and_dropout(tmp_path):
    build_trained_adapter().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="`lora` is 'detr', but the adapter .* has other layers"):
        adapt(ModelOptions(str(tmp_path)), LoraOptions("detr", r=4))
    with pytest.raises(ValueError, match="`lora_dropout` is 0.2, but .* made with 0.0"):
        adapt(ModelOptions(str(tmp_path)), LoraOptions("attention", r=4, dropout=0.2))
    # Parts can be frozen when the training is continued.
    reloaded = adapt(ModelOptions(str(tmp_path)), LoraOptions("attention", r=4), frozen=["text_encoder"])
    trained = {strip_wrappers(n).split(".")[0] for n, p in reloaded.named_parameters() if p.requires_grad}
    assert "text_encoder" not in trained
    assert "vision_encoder" in trained


def test_adapters_of_offloaded_modules_are_saved(tmp_path):
    model = build_trained_adapter()
    expected = predict(unwrap_sam(model))
    unwrap_sam(model).offload("text_encoder", "text_projection")
    model.save_pretrained(tmp_path)
    assert any("text_encoder" in name for name in load_file(tmp_path / "adapter_model.safetensors"))
    assert torch.allclose(predict(load_model(ModelOptions(str(tmp_path)))), expected, atol=1e-5)


def test_a_saved_config_contains_revision_and_path_of_the_base(tmp_path):
    tiny_sam3().save_pretrained(tmp_path / "base")
    model = adapt(ModelOptions(str(tmp_path / "base"), revision="v2"), LoraOptions("detr", r=2))
    model.save_pretrained(tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["revision"] == "v2"
    assert config["base_model_name_or_path"] == str((tmp_path / "base").resolve())
    unnamed = add_adapters(tiny_sam3(), LoraOptions("detr", r=2))
    unnamed.save_pretrained(tmp_path / "unnamed")
    config = json.loads((tmp_path / "unnamed" / "adapter_config.json").read_text())
    assert not config["base_model_name_or_path"]


def test_modules_to_save_are_trained_in_float32_and_must_not_be_frozen():
    lora = LoraOptions("detr", r=2, modules_to_save=["vision_encoder.neck"])
    model = adapt(ModelOptions(RANDOM_TINY, dtype="bfloat16"), lora)
    trained = {n: p.dtype for n, p in model.named_parameters() if p.requires_grad and "neck" in n}
    assert trained
    assert set(trained.values()) == {torch.float32}
    with pytest.raises(ValueError, match="which is frozen by `freeze`"):
        adapt(OPTIONS, lora, frozen=["vision_encoder"])
    with pytest.raises(ValueError, match="`lora_modules_to_save` names 'fpn_layers', which is no module"):
        adapt(OPTIONS, LoraOptions("detr", modules_to_save=["fpn_layers"]))


def test_a_rank_pattern_without_match_is_refused():
    with pytest.raises(ValueError, match="`lora_rank_pattern` names 'detr_decodre'"):
        adapt(OPTIONS, LoraOptions("attention", rank_pattern={"detr_decodre": 4}))


def test_a_damaged_adapter_is_refused(tmp_path):
    build_trained_adapter().save_pretrained(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(ValueError, match=f"`model_name_or_path`: '{tmp_path}' cannot be loaded"):
        load_model(ModelOptions(str(tmp_path)))


def test_evaluation_does_not_merge_into_a_half_precision_base(tmp_path):
    """Merging into bfloat16 weights would round small updates away."""
    from sam_ft.models.loading import load_as_trained

    tiny_sam3().save_pretrained(tmp_path / "start")
    model = build_trained_adapter(LoraOptions("vision", r=2), tmp_path / "start", dtype="bfloat16")
    model.save_pretrained(tmp_path)
    reloaded = load_as_trained(ModelOptions(str(tmp_path), dtype="bfloat16")).eval()
    batch = random_batch(PAIRS)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(reloaded(**batch).loss, model(**batch).loss)
        merged = load_model(ModelOptions(str(tmp_path), dtype="bfloat16")).eval()
        assert not torch.equal(merged(**batch).loss, model(**batch).loss), (
            "merging must round, otherwise the test has no effect"
        )
