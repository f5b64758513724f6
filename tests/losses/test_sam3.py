import pytest
import torch

from sam_ft.losses.matcher import HungarianMatcher, OneToManyMatcher, start_matching
from sam_ft.losses.sam3 import Sam3Criterion
from sam_ft.losses.structures import ConceptOutputs, DenseMasks, Normalizers, PairTargets, QueryOutputs

from .test_parity import make_case


def outputs_of(leaves, masks=True, many=True):
    def queries(name):
        dense = DenseMasks(leaves[f"{name}_masks"]) if masks else None
        return QueryOutputs(leaves[f"{name}_logits"], leaves[f"{name}_boxes"], dense)

    return ConceptOutputs(
        queries("one"),
        queries("many") if many else None,
        leaves["presence"],
        leaves["semantic"][:, 0] if masks else None,
    )


def targets_of(boxes, masks, counts, **more):
    return PairTargets(
        boxes, counts, more.pop("exhaustive", [True] * len(counts)), masks, list(range(len(boxes))), **more
    )


def counts_of(counts):
    return Normalizers(sum(counts), len(counts), sum(c > 0 for c in counts))


@pytest.mark.parametrize("block", [1, 2, 100])
def test_loss_is_independent_of_mask_blocks(block):
    counts = [3, 0, 2]
    leaves, boxes, masks = make_case(counts, 20, 0)
    expected, _ = Sam3Criterion(masks_per_block=3)(
        outputs_of(leaves), targets_of(boxes, masks, counts), counts_of(counts)
    )
    loss, _ = Sam3Criterion(masks_per_block=block)(
        outputs_of(leaves), targets_of(boxes, masks, counts), counts_of(counts)
    )
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)


def test_loss_is_independent_of_target_order():
    counts = [4]
    leaves, boxes, masks = make_case(counts, 20, 0)
    order = torch.tensor([2, 0, 3, 1])
    losses = [
        Sam3Criterion()(outputs_of(leaves), targets_of(boxes[o], masks[o], counts), counts_of(counts))[0]
        for o in (torch.arange(4), order)
    ]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=0)


def test_loss_is_independent_of_repeated_pairs():
    counts = [3, 0]
    leaves, boxes, masks = make_case(counts, 20, 0)
    once, _ = Sam3Criterion()(outputs_of(leaves), targets_of(boxes, masks, counts), counts_of(counts))
    twice = {k: torch.cat([v, v], dim=0 if v.dim() == 4 and "boxes" not in k else 1) for k, v in leaves.items()}
    targets = targets_of(boxes.repeat(2, 1), masks.repeat(2, 1, 1), counts * 2)
    again, _ = Sam3Criterion()(outputs_of(twice), targets, counts_of(counts * 2))
    torch.testing.assert_close(again, once, rtol=1e-5, atol=0)


def test_matching_permutes_with_the_targets():
    counts = [5]
    leaves, boxes, masks = make_case(counts, 20, 3)
    order = torch.tensor([4, 2, 0, 1, 3])
    pairs = []
    for o in (torch.arange(5), order):
        matches, _ = start_matching(
            outputs_of(leaves), targets_of(boxes[o], masks, counts), HungarianMatcher(), OneToManyMatcher()
        )()
        first = matches.layer == 0
        queries, targets = matches.query[first], matches.target[first]
        pairs.append({(int(q), int(o[t])) for q, t in zip(queries, targets, strict=True)})
    assert pairs[0] == pairs[1]


def test_absent_phrases_supervise_only_presence():
    counts = [0, 0]
    leaves, boxes, masks = make_case(counts, 20, 0)
    loss, parts = Sam3Criterion()(outputs_of(leaves), targets_of(boxes, masks, counts), counts_of(counts))
    assert parts["presence_loss"] > 0
    assert parts["loss_ce"] == parts["loss_bbox"] == parts["loss_mask"] == parts["loss_semantic_seg"] == 0
    grads = torch.autograd.grad(loss, leaves.values(), allow_unused=True)
    assert all(g is None or torch.isfinite(g).all() for g in grads)
    assert grads[list(leaves).index("presence")].abs().sum() > 0


def test_unmatched_queries_of_a_non_exhaustive_phrase_are_not_supervised():
    counts = [2]
    leaves, boxes, masks = make_case(counts, 20, 0)
    targets = targets_of(boxes, masks, counts, exhaustive=[False])
    criterion = Sam3Criterion()
    matches, _ = criterion.start_matching(outputs_of(leaves), targets)()
    _, parts = criterion(outputs_of(leaves), targets, counts_of(counts))
    loss, _ = criterion(outputs_of(leaves, masks=False, many=False), targets, counts_of(counts))
    grad = torch.autograd.grad(loss, leaves["one_logits"])[0]
    matched = torch.zeros_like(grad, dtype=torch.bool)
    matched[matches.layer, matches.pair, matches.query] = True
    assert (grad[matched] != 0).all()
    assert (grad[~matched] == 0).all()
    assert parts["loss_semantic_seg"] == 0  # the union of masks is incomplete


def test_unmatched_queries_in_an_ignored_region_are_not_supervised():
    counts = [1]
    leaves, boxes, masks = make_case(counts, 20, 0)
    region = torch.zeros(42, 42, dtype=torch.bool)
    region[:, 21:] = True
    centre = torch.where(torch.arange(20) % 2 == 0, 0.2, 0.8)[None, None].expand(3, 1, 20)  # left, right, left, …
    leaves["one_boxes"] = torch.stack([centre, torch.full_like(centre, 0.5)] + [torch.full_like(centre, 0.1)] * 2, -1)
    targets = targets_of(boxes, masks, counts, ignore=[region])
    loss, _ = Sam3Criterion()(outputs_of(leaves, masks=False, many=False), targets, counts_of(counts))
    grad = torch.autograd.grad(loss, leaves["one_logits"])[0][0, 0]
    matches, _ = Sam3Criterion().start_matching(outputs_of(leaves, masks=False, many=False), targets)()
    matched = set(matches.query[matches.layer == 0].tolist())
    for query in range(20):
        assert (grad[query] == 0) == (query % 2 == 1 and query not in matched), query


def test_instances_without_mask_supervise_only_boxes():
    counts = [2]
    leaves, boxes, masks = make_case(counts, 20, 0)
    targets = targets_of(boxes, masks, counts)
    targets.mask_index = [0, -1]
    _, parts = Sam3Criterion()(outputs_of(leaves), targets, counts_of(counts))
    _, both = Sam3Criterion()(outputs_of(leaves), targets_of(boxes, masks, counts), counts_of(counts))
    assert 0 < parts["loss_mask"] < both["loss_mask"]
    assert parts["loss_bbox"] == both["loss_bbox"]
    assert parts["loss_semantic_seg"] == 0


def test_error_of_a_non_finite_cost_contains_the_example():
    counts = [1, 2]
    leaves, boxes, masks = make_case(counts, 20, 0)
    leaves["one_logits"] = leaves["one_logits"].detach().clone()
    leaves["one_logits"][:, 1] = float("nan")
    targets = targets_of(boxes, masks, counts, names=["example 'a'", "example 'b', phrase 'dog'"])
    with pytest.raises(ValueError, match=r"example 'b', phrase 'dog' is not finite.*learning_rate"):
        Sam3Criterion()(outputs_of(leaves), targets, counts_of(counts))


def test_point_sampling_estimates_the_full_loss():
    counts = [3]
    leaves, boxes, masks = make_case(counts, 20, 0)
    full = Sam3Criterion()(outputs_of(leaves), targets_of(boxes, masks, counts), counts_of(counts))[1]["loss_dice"]
    sampled = Sam3Criterion(mask_points=400)(outputs_of(leaves), targets_of(boxes, masks, counts), counts_of(counts))
    # Dice of noise masks is near 0.5; 0.1 is several standard errors of 400 points.
    assert abs(sampled[1]["loss_dice"] - full) < 0.1
    assert torch.isfinite(torch.autograd.grad(sampled[0], leaves["one_masks"])[0]).all()
