"""Criterion compared with the `sam3` package on random cases: each term, the total and the gradients."""

import pytest
import torch

from sam_ft.losses.matcher import HungarianMatcher, OneToManyMatcher, start_matching
from sam_ft.losses.sam3 import Sam3Criterion
from sam_ft.losses.structures import ConceptOutputs, DenseMasks, Normalizers, PairTargets, QueryOutputs
from sam_ft.options.loss import LossWeights

from .. import official


LAYERS, SIDE, TARGET_SIDE = 3, 12, 42

# name, targets per pair, queries, masks, weight of a matched query
CASES = [
    ("one pair", [3], 20, True, 10.0),
    ("unequal counts", [1, 4, 2], 20, True, 10.0),
    ("with an absent phrase", [2, 0, 3], 20, True, 10.0),
    ("first absent", [0, 3], 20, True, 10.0),
    ("all absent", [0, 0, 0], 20, True, 10.0),
    ("one absent pair", [0], 20, True, 10.0),
    ("more targets than queries", [9, 2], 6, True, 10.0),
    ("as many targets as queries", [8, 8], 8, True, 10.0),
    ("one target", [1], 20, True, 10.0),
    ("many pairs", [1, 0, 2, 3, 0, 1, 5, 0], 30, True, 10.0),
    ("full size queries", [5, 0, 7], 200, True, 10.0),
    ("box only", [3, 0, 2], 20, False, 10.0),
    ("box only, all absent", [0, 0], 20, False, 10.0),
    ("ODinW weights", [3, 1], 20, False, 5.0),
    ("ODinW weights with masks", [2, 0, 2], 20, True, 5.0),
    ("box only, more targets", [7], 5, False, 10.0),
]
SEEDS = [0, 1]


def make_case(counts, num_queries, seed, overlapping=False):
    """Build random outputs as leaves, with some queries near targets for the one-to-many matcher."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.rand(*shape, generator=generator)

    total, pairs = sum(counts), len(counts)
    boxes = torch.cat([0.2 + 0.6 * rand(total, 2), 0.1 + 0.3 * rand(total, 2)], -1)
    if overlapping and total:
        boxes[1:] = boxes[:1] + 0.02 * (rand(total - 1, 4) - 0.5)
    masks = rand(total, TARGET_SIDE, TARGET_SIDE) > 0.6
    leaves = {}
    for name in ("one", "many"):
        logits = 4 * rand(LAYERS, pairs, num_queries) - 2
        predicted = torch.cat(
            [rand(LAYERS, pairs, num_queries, 2), 0.05 + 0.4 * rand(LAYERS, pairs, num_queries, 2)], -1
        )
        start = 0
        for pair, count in enumerate(counts):
            for query in range(num_queries if count else 0):
                if query % 2:  # every other query is near a target
                    near = boxes[start + (query // 2) % count] + 0.05 * (rand(LAYERS, 4) - 0.5)
                    predicted[:, pair, query] = near.clamp(0.02, 0.98)
            start += count
        leaves[f"{name}_logits"], leaves[f"{name}_boxes"] = logits, predicted
        leaves[f"{name}_masks"] = 4 * rand(pairs, num_queries, SIDE, SIDE) - 2
    leaves["presence"] = 4 * rand(LAYERS, pairs) - 2
    leaves["semantic"] = 4 * rand(pairs, 1, SIDE, SIDE) - 2
    return {k: v.requires_grad_() for k, v in leaves.items()}, boxes, masks


def ours(leaves, boxes, masks, counts, with_masks, positive):
    outputs = ConceptOutputs(
        QueryOutputs(
            leaves["one_logits"], leaves["one_boxes"], DenseMasks(leaves["one_masks"]) if with_masks else None
        ),
        QueryOutputs(
            leaves["many_logits"], leaves["many_boxes"], DenseMasks(leaves["many_masks"]) if with_masks else None
        ),
        leaves["presence"],
        leaves["semantic"][:, 0] if with_masks else None,
    )
    targets = PairTargets(
        boxes,
        counts,
        [True] * len(counts),
        masks if with_masks else None,
        list(range(len(boxes))) if with_masks else None,
    )
    criterion = Sam3Criterion(LossWeights(positive=positive), masks_per_block=3, scale_by_sqrt_pairs=True)
    return criterion(outputs, targets, Normalizers(sum(counts), len(counts), sum(c > 0 for c in counts)))


def theirs(leaves, boxes, masks, counts, with_masks, positive):
    outputs = official.outputs_for(
        (leaves["one_logits"], leaves["one_boxes"]),
        (leaves["many_logits"], leaves["many_boxes"]),
        leaves["presence"],
        *((leaves["one_masks"], leaves["many_masks"], leaves["semantic"]) if with_masks else ()),
    )
    wrapper = official.loss_wrapper(masks=with_masks, positive_weight=positive)
    return official.compute(wrapper, outputs, official.targets_for(boxes, counts, masks if with_masks else None))


@pytest.mark.parametrize("overlapping", [False, True], ids=["apart", "overlapping"])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("name", "counts", "num_queries", "with_masks", "positive"), CASES, ids=[c[0] for c in CASES])
def test_criterion_equals_official_code(name, counts, num_queries, with_masks, positive, seed, overlapping):
    leaves, boxes, masks = make_case(counts, num_queries, seed, overlapping)
    our_loss, our_parts = ours(leaves, boxes, masks, counts, with_masks, positive)
    our_grads = torch.autograd.grad(our_loss, leaves.values(), allow_unused=True)
    their_loss, their_parts = theirs(leaves, boxes, masks, counts, with_masks, positive)
    their_grads = torch.autograd.grad(their_loss, leaves.values(), allow_unused=True)

    terms = {k: v for k, v in their_parts.items() if "loss" in k and k != "loss_semantic_presence"}
    assert terms.keys() - our_parts.keys() <= {
        k for k in terms if k.startswith("presence_loss") and k.endswith("_o2m")
    }
    for key in our_parts:
        # Both sides are float32 sums of up to 1e5 numbers (1e-5); terms may be 0 on one side (1e-6 absolute).
        torch.testing.assert_close(our_parts[key], torch.as_tensor(terms[key]).float(), rtol=1e-5, atol=1e-6, msg=key)
    torch.testing.assert_close(our_loss, their_loss, rtol=1e-5, atol=1e-5)
    for key, ours_, theirs_ in zip(leaves, our_grads, their_grads, strict=True):
        a = torch.zeros_like(leaves[key]) if ours_ is None else ours_
        b = torch.zeros_like(leaves[key]) if theirs_ is None else theirs_
        large = b.abs() > 1e-3
        assert ((a - b).abs()[large] / b.abs()[large] < 1e-4).all(), key
        assert ((a - b).abs()[~large] < 1e-4).all(), key


def test_each_term_is_nonzero_in_some_case():
    seen = {}
    for _, counts, num_queries, with_masks, positive in CASES:
        leaves, boxes, masks = make_case(counts, num_queries, 0)
        for key, value in ours(leaves, boxes, masks, counts, with_masks, positive)[1].items():
            seen[key] = seen.get(key, 0) + float(value.abs())
    assert len(seen) == 6 * LAYERS + LAYERS + 4 + 2  # ce, bbox, giou twice; presence; masks twice; semantic
    assert all(value > 0 for value in seen.values()), seen


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("overlapping", [False, True], ids=["apart", "overlapping"])
def test_matchers_equal_official_code(seed, overlapping):
    counts = [[3, 0, 5], [1], [12, 2], [0, 0, 1, 4]][seed % 4]
    num_queries = 8 if seed % 2 else 40
    leaves, boxes, _ = make_case(counts, num_queries, seed, overlapping)
    outputs = ConceptOutputs(
        QueryOutputs(leaves["one_logits"], leaves["one_boxes"]),
        QueryOutputs(leaves["many_logits"], leaves["many_boxes"]),
        leaves["presence"],
    )
    one_to_one_matches, one_to_many_matches = start_matching(
        outputs, PairTargets(boxes, counts, [True] * len(counts)), HungarianMatcher(), OneToManyMatcher()
    )()
    targets = official.targets_for(boxes, counts)
    hungarian, one_to_many = official.hungarian_matcher(), official.one_to_many_matcher()
    for layer in range(LAYERS):
        for matches, name in ((one_to_one_matches, "one"), (one_to_many_matches, "many")):
            out = {
                "pred_logits": leaves[f"{name}_logits"][layer][..., None],
                "pred_boxes": leaves[f"{name}_boxes"][layer],
            }
            last = name == "many" and layer == LAYERS - 1
            pair, query, target = (one_to_many if last else hungarian)(out, targets)[:3]
            target = torch.arange(len(query)) if target is None else target
            expected = sorted(zip(pair.tolist(), query.tolist(), target.tolist(), strict=True))
            of_layer = matches.layer == layer
            columns = (matches.pair[of_layer], matches.query[of_layer], matches.target[of_layer])
            assert sorted(zip(*(column.tolist() for column in columns), strict=True)) == expected
