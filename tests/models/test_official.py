"""Parity of the training forward with a reduced official model of the `sam3` package, with equal weights."""

import pytest
import torch

from sam_ft.losses.sam3 import Sam3Criterion
from sam_ft.models.freezing import freeze
from sam_ft.models.processors import load_processor
from sam_ft.models.sam3.official_names import from_official, to_official, to_transformers_names
from sam_ft.models.sam3.steps import ConceptTrainingStep
from sam_ft.options.model_names import RANDOM_TINY
from sam_ft.testing import random_batch, tiny_sam3

from .. import official, official_model


def no_dropout(model):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def tokenize(texts):
    tokens = load_processor(RANDOM_TINY).tokenizer(texts, padding="max_length", max_length=32, return_tensors="pt")
    return tokens.input_ids * tokens.attention_mask  # the package treats the id 0 as padding


BATCHES = {
    "two images": [(0, "red circle", 2), (0, "square", 1), (1, "red circle", 3), (1, "blue", 1)],
    # An absent phrase, so that the presence head's gradient is not a difference of equal numbers.
    "with an absent phrase": [(0, "red circle", 2), (0, "square", 1), (1, "red circle", 0), (1, "blue", 3)],
    "all absent": [(0, "red circle", 0), (1, "square", 0)],
}


@pytest.fixture(scope="module")
def models():
    ours = no_dropout(tiny_sam3()).train()
    freeze(ours, [])
    theirs = official_model.build(ours.config, tokenize)
    official_model.copy_weights(ours, theirs)
    return ours, theirs.train()


def run_official(model, batch):
    data, target = official_model.datapoint(batch, batch["labels"][0]["phrases"])
    with official.on_cpu():
        return model(data)[-1], target


@pytest.mark.parametrize("exemplars", [False, True], ids=["text", "text and boxes"])
@pytest.mark.parametrize("name", BATCHES)
def test_training_forward_equals_the_official_model(models, name, exemplars):
    ours, theirs = models
    batch = random_batch(BATCHES[name], exemplars=exemplars, seed=2)
    present = [p for p, (_, _, n) in enumerate(BATCHES[name]) if n]
    ours.configure(pairs_per_chunk=len(BATCHES[name]))
    criterion, captured = Sam3Criterion(scale_by_sqrt_pairs=False), []
    step = ConceptTrainingStep(lambda outputs, *rest: captured.append(outputs) or criterion(outputs, *rest))
    ours.zero_grad()
    result = ours(**batch, step=step)
    result.loss.backward()

    theirs.zero_grad()
    out, target = run_official(theirs, batch)
    layers = [*out["aux_outputs"], out]
    order = present + [p for p in range(len(BATCHES[name])) if p not in present]  # chunks contain present pairs first

    def stacked(key):
        return torch.stack([layer[key] for layer in layers])[:, order]

    def concatenated(get):
        return torch.cat([get(outputs) for outputs in captured], dim=1)

    close = {"rtol": 0, "atol": 1e-4}  # float32 through about thirty layers gives about 1e-6
    torch.testing.assert_close(concatenated(lambda o: o.one_to_one.logits), stacked("pred_logits")[..., 0], **close)
    torch.testing.assert_close(concatenated(lambda o: o.one_to_one.boxes), stacked("pred_boxes"), **close)
    torch.testing.assert_close(
        concatenated(lambda o: o.one_to_many.logits), stacked("pred_logits_o2m")[..., 0], **close
    )
    torch.testing.assert_close(concatenated(lambda o: o.one_to_many.boxes), stacked("pred_boxes_o2m"), **close)
    torch.testing.assert_close(
        concatenated(lambda o: o.presence_logits), stacked("presence_logit_dec")[..., 0], **close
    )
    if present:
        for part, key in (("one_to_one", "pred_masks"), ("one_to_many", "pred_masks_o2m")):
            masks = getattr(captured[0], part).masks
            full = torch.einsum("pqc,pchw->pqhw", masks.embeddings, masks.pixels)
            torch.testing.assert_close(full, out[key][present], **close)
        torch.testing.assert_close(captured[0].semantic_logits, out["semantic_seg"][present, 0], **close)

    wrapper = official.loss_wrapper(masks=True, positive_weight=10.0)
    if target["masks"] is None:  # the package fails without masks, but accepts an empty tensor
        target["masks"] = torch.zeros(0, 96, 96, dtype=torch.bool)
    loss, _ = official.compute(wrapper, out, target)
    loss = (
        loss / len(BATCHES[name]) ** 0.5
    )  # the package's scaling by the square root of the number of pairs, disabled here
    loss.backward()
    torch.testing.assert_close(result.loss.detach(), loss.detach(), rtol=1e-6, atol=0)

    grads = {k: torch.zeros_like(p) if p.grad is None else p.grad for k, p in theirs.named_parameters()}
    expected = from_official(grads)
    compared, errors = 0, {}
    for key, parameter in ours.named_parameters():
        if not parameter.requires_grad:
            continue
        grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        # The bias of a key projection shifts all scores of a softmax equally, so its gradient is rounding noise: small
        # gradients have an absolute bound.
        size, distance = float(expected[key].norm()), float((grad - expected[key]).norm())
        if expected[key].abs().max() > 1e-3:
            errors[key] = distance / size
        else:
            assert distance < 1e-5 * grad.numel() ** 0.5, key
        compared += 1
    assert compared > 150
    # A ReLU unit at 0 may flip with the order of float32 sums and change the gradients of a few tensors.
    assert sorted(errors.values())[int(0.95 * len(errors))] < 1e-4
    assert max(errors.values()) < 1e-3, max(errors, key=errors.get)


def test_weights_are_equal_after_conversion_in_both_directions(models):
    ours, theirs = models
    weights, base = ours.state_dict(), theirs.state_dict()
    assert {n for name in base for n in to_transformers_names(name)} == weights.keys()
    converted = to_official(weights, base)
    assert converted.keys() == base.keys()
    restored = from_official(converted)
    assert restored.keys() == weights.keys()
    for name, value in weights.items():
        assert torch.equal(restored[name], value), name


def test_an_unknown_official_name_is_refused():
    with pytest.raises(KeyError, match="decoder.nothing"):
        to_transformers_names("decoder.nothing")
