"""SAM 2's training forward: parity with Transformers' `Sam2Model`, invariances, adapters and refusals."""

import copy

import pytest
import torch
import torch.nn.functional as F
from transformers import Sam2Config, Sam2Model, Sam2Processor

from sam_ft.losses.sam2 import RoundOutputs, Sam2Criterion, suppress_absent
from sam_ft.models.adapter_loading import adapt, load_adapted
from sam_ft.models.freezing import count_parameters, freeze
from sam_ft.models.loading import load_model
from sam_ft.models.lora import merge_adapters
from sam_ft.models.processors import load_processor
from sam_ft.models.sam2.config import set_resolution
from sam_ft.models.sam2.family import SAM2
from sam_ft.models.sam2.steps import PromptPredictionStep, PromptTrainingStep
from sam_ft.ops.clicks import uniform_clicks
from sam_ft.ops.prompts import ObjectPrompts
from sam_ft.options.model import LoraOptions, ModelOptions
from sam_ft.options.model_names import RANDOM_TINY, RANDOM_TINY_SAM2
from sam_ft.testing import random_prompts, tiny_sam2


SIDE = 64


def batch(objects=(3, 2), rounds=3, seed=0, **prompts):
    return random_prompts(list(objects), resolution=SIDE, rounds=rounds, seed=seed, **prompts)


def gradients(model, inputs, **arguments):
    model.zero_grad()
    loss = model(**inputs, **arguments).loss
    loss.backward()
    return float(loss.detach()), {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}


def assert_same(first, second, tolerance=1e-5):
    assert first[0] == pytest.approx(second[0], rel=tolerance)
    scale = max(float(g.abs().max()) for g in second[1].values())
    assert first[1].keys() == second[1].keys()
    for name, grad in second[1].items():
        assert float((first[1][name] - grad).abs().max()) < tolerance * scale, name


@pytest.fixture
def model():
    return tiny_sam2(resolution=SIDE).train()


@pytest.mark.parametrize("gated", [False, True])
def test_rounds_equal_calls_of_transformers(model, gated):
    """Compare with single-object calls of `Sam2Model`, whose best logits are the next mask prompt, not detached."""
    inputs = batch(rounds=4)
    collected = gradients(model, inputs, step=PromptTrainingStep(gate_absent=gated))
    reference = Sam2Model(copy.deepcopy(model.config)).train()
    reference.load_state_dict(model.state_dict())
    prompts, images = inputs["prompts"], inputs["pixel_values"].float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = (images - mean[:, None, None]) / std[:, None, None]
    targets = torch.cat([label["masks"] for label in inputs["labels"]])
    embeddings = reference(
        images, input_points=torch.zeros(2, 1, 1, 2), input_labels=torch.ones(2, 1, 1, dtype=torch.long)
    ).image_embeddings
    total, best = 0.0, 0
    for i, image in enumerate(prompts.image):
        number, target = prompts.number[i], targets[i : i + 1]
        points, labels, mask, rounds = prompts.points[i : i + 1, :number], prompts.labels[i : i + 1, :number], None, []
        for step in range(4):
            if step:
                drawn = prompts.click_draws[i : i + 1, step - 1], prompts.click_from_truth[i : i + 1, step - 1]
                click, kind = uniform_clicks(target, rounds[-1].logits[:, best] > 0, *drawn)
                points, labels = torch.cat([points, click[:, None]], 1), torch.cat([labels, kind[:, None]], 1)
            outputs = reference(
                image_embeddings=[level[image : image + 1] for level in embeddings],
                input_points=points[:, None],
                input_labels=labels[:, None],
                input_masks=mask,
                multimask_output=points.shape[1] == 1,
            )
            low, ious, score = outputs.pred_masks[:, 0], outputs.iou_scores[:, 0], outputs.object_score_logits[:, 0, 0]
            low = suppress_absent(low, score) if gated else low
            best = int(ious.argmax())
            mask = low[:, best : best + 1]
            full = F.interpolate(low, (SIDE, SIDE), mode="bilinear", align_corners=False)
            rounds.append(RoundOutputs(full, ious, score))
        total = total + Sam2Criterion()(rounds, target, len(prompts))[0]
    total.backward()
    expected = (
        float(total.detach()),
        {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in reference.named_parameters()},
    )
    assert_same(collected, expected)


@pytest.mark.parametrize("size", [1, 2, 100])
def test_chunk_size_does_not_change_loss_and_gradients(model, size):
    inputs = batch((4, 3), mixed=True, mask_prompts=True)
    model.configure(objects_per_chunk=3)
    expected = gradients(model, inputs)
    model.configure(objects_per_chunk=size)
    assert_same(gradients(model, inputs), expected)


def test_normalizers_divide_the_loss(model):
    inputs = batch()
    full_loss = gradients(model, inputs)
    half_loss = gradients(model, inputs, normalizers=torch.tensor([10.0]))
    assert half_loss[0] == pytest.approx(full_loss[0] / 2, rel=1e-5)


def test_a_batch_without_objects_has_zero_gradients(model):
    loss, grads = gradients(model, batch((0, 0)))
    assert loss == 0
    assert all(float(g.abs().max()) == 0 for g in grads.values())


def test_every_parameter_gets_a_gradient(model):
    _, grads = gradients(model, batch((6, 6), mixed=True))
    without_gradient = {name for name, grad in grads.items() if float(grad.abs().max()) == 0}
    # A mask token that is never selected has a zero gradient.
    assert all("output_hypernetworks_mlps" in name for name in without_gradient)


def test_gradient_checkpointing_does_not_change_loss_and_gradients(model):
    inputs = batch()
    expected = gradients(model, inputs)
    second = tiny_sam2(resolution=SIDE, activation_checkpointing=True).train()
    assert_same(gradients(second, inputs), expected, 1e-6)


def test_cached_features_change_the_loss_only_by_bfloat16_rounding(model):
    inputs = batch()
    freeze(model, ["vision_encoder"])
    loss, _ = gradients(model, inputs)
    features = model.encode_images(inputs.pop("pixel_values"))
    model.offload(*model.offloaded_when_cached)
    second, _ = gradients(model, inputs | {"vision_features": features})
    assert second == pytest.approx(loss, rel=1e-6)
    rounded, _ = gradients(model, inputs | {"vision_features": features.to(torch.bfloat16)})
    assert rounded == pytest.approx(loss, rel=2e-2)  # 8 bits of mantissa
    with pytest.raises(ValueError, match="vision_encoder is offloaded"):
        model(**batch())


def test_positions_are_float32_under_autocast(model):
    """Prompts and positions are float32 under autocast: bfloat16 cannot represent half a pixel."""
    inputs = batch()
    exact, _ = gradients(model, inputs)
    position_dtypes = []
    model.prompt_encoder.shared_embedding.register_forward_hook(
        lambda module, inputs, out: position_dtypes.append(out.dtype)
    )
    with torch.autocast("cpu", torch.bfloat16):
        rounded, grads = gradients(model, inputs)
    assert set(position_dtypes) == {torch.float32}
    assert all(torch.isfinite(grad).all() for grad in grads.values())
    assert rounded == pytest.approx(exact, rel=0.05)


def test_a_saved_model_predicts_equal_masks_in_transformers(tmp_path):
    model = tiny_sam2(resolution=SIDE).eval()
    model.save_pretrained(tmp_path)
    load_processor(RANDOM_TINY_SAM2).save_pretrained(tmp_path)
    assert Sam2Config.from_pretrained(tmp_path).architectures == ["Sam2Model"]
    reference, report = Sam2Model.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert Sam2Processor.from_pretrained(tmp_path).target_size == 128
    inputs, collected = batch(rounds=1, mixed=True), {}
    prompts = inputs["prompts"]
    with torch.no_grad():
        step = PromptPredictionStep(lambda p: collected.setdefault(p.object, p))
        model(inputs["pixel_values"], prompts=prompts, step=step)
        pixels = inputs["pixel_values"].float() / 255
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        pixels = (pixels - mean[:, None, None]) / std[:, None, None]
        for i, image in enumerate(prompts.image):
            k = prompts.number[i]
            expected_output = reference(
                pixels[image : image + 1],
                input_points=prompts.points[i : i + 1, None, :k],
                input_labels=prompts.labels[i : i + 1, None, :k],
                multimask_output=k == 1,
            )
            best = int(expected_output.iou_scores[0, 0].argmax())
            # The batch size differs: single objects in `Sam2Model`, several here.
            assert torch.allclose(expected_output.pred_masks[0, 0, best], collected[i].masks[0], atol=1e-5)
            assert float(expected_output.iou_scores[0, 0, best]) == pytest.approx(
                float(collected[i].ious[0]), abs=1e-5
            )


def test_a_call_with_the_arguments_of_sam2_model_has_its_output():
    model = tiny_sam2(resolution=SIDE).eval()
    reference = Sam2Model(copy.deepcopy(model.config)).eval()
    reference.load_state_dict(model.state_dict())
    point_prompt = {"input_points": torch.tensor([[[[20.0, 30.0]]]]), "input_labels": torch.tensor([[[1]]])}
    pixels = torch.rand(1, 3, SIDE, SIDE)
    with torch.no_grad():
        assert torch.equal(model(pixels, **point_prompt).pred_masks, reference(pixels, **point_prompt).pred_masks)


def test_a_seed_determines_the_weights():
    state = torch.get_rng_state()
    first, second, other = (tiny_sam2(seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    weight = "mask_decoder.mask_tokens.weight"
    assert torch.equal(first.state_dict()[weight], second.state_dict()[weight])
    assert not torch.equal(first.state_dict()[weight], other.state_dict()[weight])
    # Pixels and prompts have equal position tables.
    tables = [b for n, b in first.named_buffers() if n.endswith("positional_embedding")]
    assert len(tables) == 2
    assert torch.equal(*tables)


@pytest.mark.parametrize("side", [32, 96, 160])
def test_other_resolutions(side):
    model = tiny_sam2(resolution=side).train()
    inputs = random_prompts([2], resolution=side, rounds=2)
    loss, _ = gradients(model, inputs)
    assert loss > 0


def test_an_invalid_resolution_is_refused_with_the_nearest_two():
    with pytest.raises(ValueError, match="`resolution` is 100, .* multiple of 16 px: use 96 or 112"):
        tiny_sam2(resolution=100)
    config = Sam2Config()
    with pytest.raises(ValueError, match="multiple of 32 px: use 992 or 1024"):
        set_resolution(config, 1000)
    set_resolution(config, 512)
    assert config.vision_config.backbone_feature_sizes == [[128, 128], [64, 64], [32, 32]]


def test_every_parameter_has_one_part():
    for config in (tiny_sam2().config, Sam2Config()):
        with torch.device("meta"):
            names = [name for name, _ in Sam2Model(config).named_parameters()]
        for name in names:
            assert sum(name.startswith(prefixes) for prefixes in SAM2.parts.prefixes.values()) == 1, name


def test_a_frozen_encoder_records_no_graph(model):
    freeze(model, ["vision_encoder"])
    counts = count_parameters(model)
    assert all(counts[part][0] == 0 for part in ("vision_trunk", "vision_neck", "vision_projections"))
    assert not any(level.requires_grad for level in model.compute_maps(batch()["pixel_values"]))
    _, grads = gradients(model, batch())
    assert all(name.startswith(("prompt_encoder.", "mask_decoder.")) for name in grads)


@pytest.mark.parametrize("preset", SAM2.lora_presets)
def test_adapters_load_in_transformers(tmp_path, preset):
    adapted = adapt(ModelOptions(RANDOM_TINY_SAM2, resolution=SIDE), LoraOptions(preset, r=4))
    inputs = batch()
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.1)
    adapted.train()
    adapted(**inputs).loss.backward()
    optimizer.step()
    adapted.eval().save_pretrained(tmp_path)
    load_processor(RANDOM_TINY_SAM2).save_pretrained(tmp_path)
    point_prompt = {"input_points": torch.tensor([[[[20.0, 30.0]]]]), "input_labels": torch.tensor([[[1]]])}
    pixels = torch.rand(1, 3, SIDE, SIDE)
    with torch.no_grad():
        expected = adapted.get_base_model()(pixels, **point_prompt).pred_masks
        config = Sam2Config.from_pretrained(tmp_path / "base")
        set_resolution(config, SIDE)
        reference = Sam2Model.from_pretrained(tmp_path, config=config).eval()
        assert torch.allclose(reference(pixels, **point_prompt).pred_masks, expected, atol=1e-5)
        second = load_adapted(ModelOptions(str(tmp_path), resolution=SIDE)).eval()
        assert torch.allclose(second.get_base_model()(pixels, **point_prompt).pred_masks, expected, atol=1e-5)
        merged = merge_adapters(second).eval()
        assert torch.allclose(merged(pixels, **point_prompt).pred_masks, expected, atol=1e-5)


def test_adapters_of_late_blocks_get_gradients():
    """Gradients of the coarse maps must flow although the fine map requires none."""
    adapted = adapt(
        ModelOptions(RANDOM_TINY_SAM2, resolution=SIDE), LoraOptions(r".*blocks\.[45]\.attn\.qkv", r=2)
    ).train()
    _, grads = gradients(adapted, batch())
    assert grads
    assert all(float(grad.abs().max()) > 0 for name, grad in grads.items() if ".lora_B." in name)


def test_only_the_encoder_has_half_precision():
    model = tiny_sam2(dtype="bfloat16")
    dtypes = {n.split(".")[0]: p.dtype for n, p in model.named_parameters()}
    assert dtypes.pop("vision_encoder") == torch.bfloat16
    assert set(dtypes.values()) == {torch.float32}


def test_a_model_of_the_other_family_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is a SAM 3, but this script is for SAM 2. Use sam3_ft.py"):
        load_model(ModelOptions(RANDOM_TINY, family="sam2"))
    tiny_sam2().save_pretrained(tmp_path / "model")
    adapt(ModelOptions(RANDOM_TINY_SAM2), LoraOptions("attention", r=2)).save_pretrained(tmp_path / "adapter")
    for name in ("model", "adapter"):
        with pytest.raises(ValueError, match="is a SAM 2, but this script is for SAM 3. Use sam2_ft.py"):
            load_model(ModelOptions(str(tmp_path / name), family="sam3"))


def test_a_checkpoint_with_missing_weights_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    tiny_sam2().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    state = load_file(file)
    del state["mask_decoder.iou_token.weight"]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lacks 1 weights of SAM 2, such as 'mask_decoder.iou_token.weight'"):
        load_model(ModelOptions(str(tmp_path)))


def test_unknown_keys_and_missing_labels_are_refused(model):
    inputs = batch()
    with pytest.raises(TypeError, match="a batch of SAM 2 has no 'clicks'; its keys are box_prompts, "):
        model(**inputs, clicks=2)
    with pytest.raises(ValueError, match="`labels` is missing, so there is no loss"):
        model(**{name: value for name, value in inputs.items() if name != "labels"})


def test_prompts_move_to_a_device():
    prompts = batch()["prompts"]
    moved = prompts.to("cpu", non_blocking=True)
    assert isinstance(moved, ObjectPrompts)
    assert torch.equal(moved.points, prompts.points)
    assert moved.image == prompts.image
