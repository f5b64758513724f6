"""SAM 3's training forward: invariances, and agreement with Transformers' `Sam3Model`."""

import pytest
import torch
from transformers import Sam3Config, Sam3Model

from sam_ft.losses.sam3 import Sam3Criterion
from sam_ft.models.freezing import count_parameters, freeze
from sam_ft.models.loading import load_model
from sam_ft.models.lora import add_adapters
from sam_ft.models.sam3.config import build_tiny_config, build_tiny_processor, set_resolution
from sam_ft.models.sam3.family import SAM3
from sam_ft.models.sam3.model import Sam3ForConceptSegmentation
from sam_ft.models.sam3.steps import ConceptEvaluationStep, ConceptPredictionStep, ConceptTrainingStep
from sam_ft.models.sam3.vit_layers import rotate
from sam_ft.options.evaluation import DetectionLimits
from sam_ft.options.model import LoraOptions, ModelOptions
from sam_ft.testing import random_batch, tiny_sam3

from .test_official import no_dropout


PAIRS = [(0, "red circle", 2), (0, "square", 0), (1, "red circle", 3), (1, "blue", 1), (1, "green", 0)]


def loss_and_gradients(model, batch):
    model.zero_grad()
    output = model(**batch)
    output.loss.backward()
    return output, {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}


def assert_close(first, second):
    torch.testing.assert_close(first[0].loss, second[0].loss, rtol=1e-5, atol=0)
    # The gradients are compared as vectors: a ReLU unit at 0 may flip with the order of float32 sums and change single
    # entries, and another order of sums behind the encoders changes the gradients of six ViT layers by about 2e-5.
    grads, expected = (torch.cat([g.flatten() for g in grads.values()]) for grads in (first[1], second[1]))
    assert (grads - expected).norm() < 5e-5 * expected.norm()


@pytest.mark.parametrize("chunk", [1, 2])
def test_chunk_size_does_not_change_loss_and_gradients(chunk):
    model = no_dropout(tiny_sam3()).train()
    freeze(model, [])
    batch = random_batch(PAIRS, exemplars=True)
    model.configure(pairs_per_chunk=len(PAIRS))
    single_chunk = loss_and_gradients(model, batch)
    model.configure(pairs_per_chunk=chunk)
    assert_close(loss_and_gradients(model, batch), single_chunk)
    assert single_chunk[0].parts.keys() == model(**batch).parts.keys()


def test_order_of_pairs_and_phrases_does_not_change_loss_and_gradients():
    model = no_dropout(tiny_sam3()).train()
    freeze(model, [])
    batch = random_batch(PAIRS, exemplars=True)
    order = [3, 0, 4, 2, 1]
    shuffled = dict(batch)
    for key, value in batch.items():
        if key.startswith("pair_"):
            shuffled[key] = [value[i] for i in order]
        elif key in ("input_boxes", "input_boxes_labels", "geometry_token"):
            shuffled[key] = value[order]
    texts = [2, 0, 3, 1]  # another order of the phrases
    shuffled["input_ids"], shuffled["attention_mask"] = batch["input_ids"][texts], batch["attention_mask"][texts]
    shuffled["pair_phrase"] = [texts.index(p) for p in shuffled["pair_phrase"]]
    assert_close(loss_and_gradients(model, shuffled), loss_and_gradients(model, batch))


def test_every_trainable_parameter_gets_a_gradient_even_if_all_phrases_are_absent():
    model = tiny_sam3().train()
    freeze(model, [])
    for pairs in ([(0, "a", 0), (1, "b", 0)], PAIRS):
        model.zero_grad()
        model(**random_batch(pairs)).loss.backward()
        assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_a_batch_without_pairs_trains():
    model = tiny_sam3().train()
    freeze(model, [])
    batch = random_batch([(0, "a", 1)])
    empty = {k: [] if k.startswith("pair_") else v for k, v in batch.items()}
    for key in ("input_boxes", "input_boxes_labels", "geometry_token"):
        empty[key] = batch[key][:0]
    loss = model(**empty).loss
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_many_instances_of_one_phrase_train():
    model = tiny_sam3().train()  # 25 queries
    output = model(**random_batch([(0, "seed", 300)]))
    output.loss.backward()
    assert torch.isfinite(output.loss)


@pytest.mark.parametrize("with_masks", [True, False])
def test_training_without_masks_freezes_the_mask_decoder(with_masks):
    model = tiny_sam3(with_masks=with_masks).train()
    freeze(model, [], with_masks=with_masks)
    output = model(**random_batch(PAIRS))
    output.loss.backward()
    assert ("loss_mask" in output.parts) == with_masks
    trained = {n for n, p in model.named_parameters() if p.requires_grad and n.startswith("mask_decoder")}
    assert bool(trained) == with_masks


def predictions(model, batch, **keep):
    collected = {}
    with torch.no_grad():
        step = ConceptPredictionStep(DetectionLimits(**keep), lambda p: collected.__setitem__(p.pair, p))
        model(**{k: v for k, v in batch.items() if k != "labels"}, step=step)
    return collected


@pytest.mark.parametrize("chunk", [1, 5])
def test_predictions_equal_those_of_transformers(chunk):
    """Without geometry tokens, predictions equal those of `Sam3Model` for each image and phrase."""
    model = tiny_sam3().eval()
    model.configure(pairs_per_chunk=chunk)
    reference = Sam3Model(model.config).eval()
    reference.load_state_dict(model.state_dict())
    reference.detr_decoder.clamp_presence_logit_max_val = float("inf")
    batch = random_batch(PAIRS)
    batch["geometry_token"][:] = False
    ours = predictions(model, batch, score_threshold=0.0, max_detections=25)
    for pair, (image, _, _) in enumerate(PAIRS):
        row = batch["pair_phrase"][pair]
        with torch.no_grad():
            expected = reference(
                pixel_values=batch["pixel_values"][image : image + 1].float() / 127.5 - 1,
                input_ids=batch["input_ids"][row : row + 1],
                attention_mask=batch["attention_mask"][row : row + 1],
            )
        scores = (expected.pred_logits.sigmoid() * expected.presence_logits.sigmoid())[0]
        order = scores.argsort(descending=True)
        torch.testing.assert_close(ours[pair].scores, scores[order], atol=1e-5, rtol=0)
        torch.testing.assert_close(ours[pair].boxes_xyxy, expected.pred_boxes[0, order].clamp(0, 1), atol=1e-5, rtol=0)
        torch.testing.assert_close(ours[pair].masks, expected.pred_masks[0, order], atol=1e-4, rtol=0)


def test_predictions_with_and_without_loss_are_equal():
    model = tiny_sam3().eval()
    batch = random_batch(PAIRS)
    without_loss, with_loss = predictions(model, batch), {}
    step = ConceptEvaluationStep(Sam3Criterion(), DetectionLimits(), lambda p: with_loss.__setitem__(p.pair, p))
    with torch.no_grad():
        output = model(**batch, step=step)
    assert output.loss > 0
    assert without_loss.keys() == with_loss.keys() == set(range(len(PAIRS)))
    for pair, prediction in without_loss.items():
        torch.testing.assert_close(prediction.scores, with_loss[pair].scores)
        if prediction.masks is not None:
            torch.testing.assert_close(prediction.masks, with_loss[pair].masks, atol=1e-5, rtol=1e-4)


def test_thresholds_drop_queries_and_their_masks():
    model = tiny_sam3().eval()
    batch = random_batch(PAIRS)
    best = predictions(model, batch, score_threshold=0.0, max_detections=3)
    assert all(len(p.scores) == len(p.masks) == 3 for p in best.values())
    none = predictions(model, batch, score_threshold=1.0)
    assert all(len(p.scores) == 0 and p.masks is None for p in none.values())


def test_the_geometry_token_changes_only_pairs_without_boxes():
    model = tiny_sam3().eval()
    batch = random_batch(PAIRS, exemplars=True)  # pairs 0, 2 and 4 have a box
    shown, hidden = dict(batch), dict(batch)
    shown["geometry_token"], hidden["geometry_token"] = (
        torch.ones(5, dtype=torch.bool),
        torch.zeros(5, dtype=torch.bool),
    )
    first, second = (predictions(model, b, score_threshold=0.0, max_detections=20) for b in (shown, hidden))
    for pair in range(5):
        same = torch.allclose(first[pair].scores, second[pair].scores, atol=1e-6)
        assert same == (pair % 2 == 0)


def test_a_saved_model_loads_as_sam3_model(tmp_path):
    model = tiny_sam3().eval()
    model.save_pretrained(tmp_path)
    build_tiny_processor().save_pretrained(tmp_path)
    reference, report = Sam3Model.from_pretrained(tmp_path, output_loading_info=True)
    assert reference.config.architectures == ["Sam3Model"]
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    reloaded = load_model(ModelOptions(str(tmp_path)))
    for (name, a), b in zip(model.state_dict().items(), reloaded.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("resolution", [56, 152, 168])
def test_other_resolutions(resolution):
    model = tiny_sam3(resolution=resolution).train()
    output = model(**random_batch(PAIRS, resolution=resolution))
    output.loss.backward()
    assert torch.isfinite(output.loss)


@pytest.mark.parametrize(("resolution", "low", "high"), [(480, 476, 490), (720, 714, 728), (0, 14, 28)])
def test_an_invalid_resolution_is_refused_with_the_nearest_two(resolution, low, high):
    with pytest.raises(ValueError, match=rf"`resolution` is {resolution}.*use {low} or {high}.*336"):
        set_resolution(Sam3Config(), resolution)
    with pytest.raises(ValueError, match="`resolution` is 100.*patches of 8 px: use 96 or 104.*Multiples of 32"):
        set_resolution(build_tiny_config(), 100)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere/at/all", "there is no folder 'nowhere/at/all'"),
        ("./missing", "there is no folder"),
    ],
)
def test_a_missing_model_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        load_model(ModelOptions(name))


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="contains no config.json"):
        load_model(ModelOptions(str(tmp_path)))


def test_every_parameter_has_one_part_and_parts_can_be_frozen():
    model = tiny_sam3()
    for name, _ in model.named_parameters():
        assert sum(name.startswith(prefixes) for prefixes in SAM3.parts.prefixes.values()) == 1, name
    freeze(model, ["vision_encoder", "text_encoder"])
    counts = count_parameters(model)
    assert counts["vision_trunk"][0] == counts["vision_neck"][0] == counts["text_encoder"][0] == 0
    assert counts["detr_decoder"][0] == counts["detr_decoder"][1]
    output = model.train()(**random_batch(PAIRS))
    output.loss.backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())


def test_freezing_an_unknown_part_or_every_part_is_refused():
    with pytest.raises(ValueError, match="`freeze` has no part 'backbone'. Choose from: vision_encoder"):
        freeze(tiny_sam3(), ["backbone"])
    with pytest.raises(ValueError, match="leaves nothing to train"):
        freeze(tiny_sam3(), list(SAM3.parts.prefixes))


def test_gradient_checkpointing_does_not_change_loss_and_gradients():
    batch = random_batch(PAIRS)
    results = []
    for checkpointing in (False, True):
        model = no_dropout(tiny_sam3(activation_checkpointing=checkpointing)).train()
        freeze(model, [])
        results.append(loss_and_gradients(model, batch))
    assert_close(*results)


def test_pair_checkpointing_does_not_change_gradients_and_replays_dropout():
    results = []
    for checkpointing in (False, True):
        model = tiny_sam3(pair_checkpointing=checkpointing, dropout=0.3, pairs_per_chunk=2).train()
        freeze(model, [])
        torch.manual_seed(0)
        results.append(loss_and_gradients(model, random_batch(PAIRS)))
    assert_close(*results)


def test_only_encoders_have_half_precision():
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        tiny_sam3().save_pretrained(folder)
        model = load_model(ModelOptions(folder, dtype="bfloat16")).train()
    freeze(model, ["vision_encoder", "text_encoder"])
    dtypes = {
        part: {p.dtype for n, p in model.named_parameters() if n.startswith(SAM3.parts.prefixes[part])}
        for part in SAM3.parts.prefixes
    }
    assert dtypes["vision_trunk"] == dtypes["vision_neck"] == {torch.bfloat16}
    assert dtypes["detr_decoder"] == dtypes["mask_decoder"] == dtypes["geometry_encoder"] == {torch.float32}
    for autocast in (True, False):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = model(**random_batch(PAIRS, exemplars=True)).loss
        loss.backward()
        assert torch.isfinite(loss)


def test_a_call_with_the_arguments_of_sam3_model_has_its_output():
    model = tiny_sam3().eval()
    batch = random_batch([(0, "cat", 1)])
    pixels = batch["pixel_values"].float() / 127.5 - 1
    with torch.no_grad():
        output = model(pixel_values=pixels, input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    assert output.pred_masks.shape == (1, 25, 48, 48)


def test_a_custom_criterion_is_used():
    model = Sam3ForConceptSegmentation(build_tiny_config()).train()
    step = ConceptTrainingStep(
        lambda outputs, targets, normalizers: (outputs.presence_logits.sum(), {"mine": torch.ones(())})
    )
    output = model(**random_batch(PAIRS), step=step)
    assert output.parts == {"mine": torch.tensor(2.0)}  # 1 from each chunk
    output.loss.backward()
    assert model.detr_decoder.presence_token.weight.grad.abs().sum() > 0


def test_unknown_keys_and_missing_labels_or_teacher_are_refused():
    model, batch = tiny_sam3(), random_batch(PAIRS)
    with pytest.raises(TypeError, match="a batch of SAM 3 has no 'collect'; its keys are attention_mask, "):
        model(**batch, collect=print)
    with pytest.raises(ValueError, match="`labels` is missing, so there is no loss"):
        model(**{name: value for name, value in batch.items() if name != "labels"})
    distillation = {"distill_image": [0], "distill_phrase": [1], "distill_token": torch.ones(1, dtype=torch.bool)}
    with pytest.raises(ValueError, match="`distill_image` has 1 distillation pairs, but the step has no teacher"):
        model(**batch, **distillation)


def test_incomplete_and_damaged_checkpoints_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    tiny_sam3().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    incomplete = {k: v for k, v in load_file(file).items() if "presence" not in k}
    save_file(incomplete, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks \d+ weights of SAM 3, such as 'detr_decoder.presence"):
        load_model(ModelOptions(str(tmp_path)))
    file.write_bytes(b"\x00" * 20)
    with pytest.raises(ValueError, match="cannot be loaded. The folder is damaged"):
        load_model(ModelOptions(str(tmp_path)))


def test_compiled_vit_layers_have_equal_outputs_and_gradients(monkeypatch):
    """Without breaks of the graph, with checkpointing, adapters and frozen layers; code is not generated here."""
    original = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda layer: original(layer, backend="eager", fullgraph=True))
    model = tiny_sam3(activation_checkpointing=True).train()
    layers = model.vision_encoder.backbone.layers
    del layers[1:5]  # one layer with windows and one without
    model = add_adapters(model, LoraOptions("vision"))
    pixels, results = random_batch(PAIRS)["pixel_values"], []
    for compile_vision in (False, "auto", True):
        model.get_base_model().configure(compile_vision=compile_vision)
        model.zero_grad()
        features = model.get_base_model().encode_images(pixels)
        features.square().sum().backward()
        results.append([features, *(p.grad for p in model.parameters() if p.grad is not None)])
        assert (layers[0]._compiled_call_impl is not None) == (compile_vision is True)
    assert len(results[0]) > 2
    for first, _, third in zip(*results, strict=True):
        torch.testing.assert_close(first, third)


def test_compilation_without_a_compiler_is_refused(monkeypatch):
    monkeypatch.setattr("sam_ft.models.sam3.vit_layers.shutil.which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    model = tiny_sam3(compile_vision=True)
    with pytest.raises(ValueError, match=r"`compile_vision` is true, but a compiler \(g\+\+\) is missing"):
        model.encode_images(random_batch(PAIRS)["pixel_values"])
    with pytest.raises(ValueError, match="`compile_vision` must be auto, true or false, got 'yes'"):
        ModelOptions(compile_vision="yes")


def test_rotation_by_complex_numbers_equals_rotation_by_sine_and_cosine():
    query, key = torch.randn(2, 3, 5, 4, 8)
    angles = torch.randn(5, 4).repeat_interleave(2, dim=1)
    cos, sin = angles.cos(), angles.sin()
    expected = rotate(query, key, (cos, sin))
    torch.testing.assert_close(rotate(query, key, torch.complex(cos[:, ::2], sin[:, ::2])), expected)
