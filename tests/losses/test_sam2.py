"""
SAM 2's criterion, compared with stored values of the official `training/loss_fns.py`.

The values are from facebookresearch/sam2 at 2b90b9f, torch 2.15, float32. The inputs are closed forms, so that the
official code is not required.
"""

import pytest
import torch

from sam_ft.losses.functional import resize_logits
from sam_ft.losses.sam2 import RoundOutputs, Sam2Criterion, suppress_absent
from sam_ft.options.loss import PromptLossWeights


NAMES = ("loss_mask", "loss_dice", "loss_iou", "loss_class")
ALL = (0, 1, 2)
# case: objects, side of the logits, side of the targets, candidates of each round, present objects
A, B, C = (2, 16, 16, (3,), ALL), (3, 8, 32, (3, 1, 1), (0, 1)), (3, 8, 32, (3, 1, 1), ALL)
# the four terms, their weighted sum, and its gradient norms for logits, IoUs and object logits of each round
CASES = {
    "one round": (
        A, {}, {}, (0.31473052501678467, 0.723051905632019, 0.2195506989955902, 0.3005025088787079, 7.537715435028076),
        [0.3028713957971242, 0.4082483026306102, 0.1979559858177823],
    ),
    "IoU of the best mask only": (
        A, {"all_ious": False}, {},
        (0.31473052501678467, 0.723051905632019, 0.14273956418037415, 0.3005025088787079, 7.460904598236084),
        [0.3028713957971242, 0.7071067811865476, 0.1979559858177823],
    ),
    "squared IoU": (
        A, {"iou_l1": False}, {},
        (0.31473052501678467, 0.723051905632019, 0.06436686962842941, 0.3005025088787079, 7.382531642913818),
        [0.3028713957971242, 0.20715030515567676, 0.1979559858177823],
    ),
    "no object score": (
        A, {"weights": PromptLossWeights(object=0)}, {},
        (0.31473052501678467, 0.723051905632019, 0.2195506989955902, 0.3005025088787079, 7.237213134765625),
        [0.3028713957971242, 0.4082483026306102, 0.0],
    ),
    "average of 2.5 objects per process": (
        A, {}, {"number": 2.5},
        (0.25178444385528564, 0.5784415602684021, 0.1756405532360077, 0.2404020130634308, 6.030173301696777),
        [0.2422971156586025, 0.3265986494045364, 0.1583647947867605],
    ),
    "three rounds, one absent": (
        B, {}, {}, (0.7039400935173035, 1.3678241968154907, 0.6333144307136536, 0.8848146200180054, 16.964756012),
        [0.26166206404131537, 0.2721655290036999, 0.15953954840165113, 0.5067613597666593,
         0.4714045348399812, 0.15454022799701933,
         0.4687931624377981, 0.4714045348399812, 0.15656766685097415],
    ),
    "all present": (
        C, {}, {}, (1.0142347812652588, 1.995129108428955, 1.0838335752487183, 1.6348146200180054, 24.998472213745117),
        [0.39517974071172296, 0.3333333358168602, 0.2771267232466969, 0.5953864756068237, 0.5773502863960046,
         0.25238893680821156,
         0.5462235871464142, 0.5773502863960046, 0.22743485870951138],
    ),
    "gated masks of absent objects": (
        C, {}, {"gated": True},
        (56.703941345214844, 2.363379955291748, 1.2816530466079712, 1.6348146200180054, 1139.358642578125),
        [0.26166206404131537, 0.3333333358168602, 0.2771267232466969, 0.5067613597666593, 0.5773502863960046,
         0.25238893680821156,
         0.4687931624377981, 0.5773502863960046, 0.22743485870951138],
    ),
}  # fmt: skip


def inputs(objects, side, canvas, candidates, present):
    n, m, y, x = (torch.arange(k, dtype=torch.float64) for k in (objects, 3, side, side))
    n, m, y, x = n[:, None, None, None], m[:, None, None], y[:, None], x
    rounds = []
    for s, number in enumerate(candidates):
        logits = 4 * torch.sin(0.37 * (x + 1) + 0.5 * n + 0.3 * s + 0.9 * m)
        logits = logits * torch.cos(0.23 * (y + 1) - 1.1 * m * (1 - n) + 0.2 * n) - 0.4 * m - 0.1 * s
        ious = torch.sigmoid(0.3 * n - 0.5 * m + 0.2 * s)[..., 0, 0]
        scores = 2 - 1.5 * n[:, 0, 0, 0] + 0.25 * s
        leaves = (logits[:, :number], ious[:, :number], scores)
        rounds.append([leaf.float().requires_grad_() for leaf in leaves])
    k = canvas // 16
    targets = torch.zeros(objects, canvas, canvas, dtype=torch.bool)
    for i in range(objects):
        if i in present:
            targets[i, (4 + i) * k : (12 + i) * k, (3 + 2 * i) * k : (10 + 2 * i) * k] = True
    return rounds, targets


@pytest.mark.parametrize("name", CASES)
def test_loss_equals_official_code(name):
    case, settings, more, parts, norms = CASES[name]
    leaves, targets = inputs(*case)
    side = targets.shape[-1]
    rounds = []
    for logits, ious, scores in leaves:
        gated = suppress_absent(logits, scores) if more.get("gated") else logits
        full = resize_logits(gated.flatten(0, 1), side, side).unflatten(0, gated.shape[:2])
        rounds.append(RoundOutputs(full, ious, scores))
    loss, terms = Sam2Criterion(**settings)(rounds, targets, more.get("number", len(targets)))
    # The float32 sums have a different order.
    assert [float(terms[n]) for n in NAMES] == pytest.approx(parts[:4], rel=1e-5)
    assert float(loss.detach()) == pytest.approx(parts[4], rel=1e-5)
    loss.backward()
    grads = [0.0 if leaf.grad is None else float(leaf.grad.norm()) for round_leaves in leaves for leaf in round_leaves]
    assert grads == pytest.approx(norms, rel=1e-5)


def test_best_mask_has_the_lowest_sum_of_focal_and_dice():
    leaves, targets = inputs(*A)
    logits, ious, scores = leaves[0]
    loss, _ = Sam2Criterion()([RoundOutputs(logits, ious, scores)], targets, 2)
    loss.backward()
    has_gradient = logits.grad.flatten(2).abs().sum(-1) > 0
    assert has_gradient.tolist() == [[False, False, True], [False, True, False]]  # dice only would select 0 and 1


def test_optional_cross_entropy_term():
    leaves, targets = inputs(*A)
    logits, ious, scores = (leaf.detach() for leaf in leaves[0])
    plain, parts = Sam2Criterion()([RoundOutputs(logits, ious, scores)], targets, 2)
    weighted, more = Sam2Criterion(PromptLossWeights(bce=5.0))([RoundOutputs(logits, ious, scores)], targets, 2)
    assert "loss_bce" not in parts
    chosen = more["loss_bce"] * 2
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, targets[:, None].expand_as(logits).float(), reduction="none"
    ).mean((2, 3))
    sums = [float(expected[0, i] + expected[1, j]) for i in range(3) for j in range(3)]
    assert min(abs(float(chosen) - s) for s in sums) < 1e-6
    rest = 20 * more["loss_mask"] + more["loss_dice"] + more["loss_iou"] + more["loss_class"]
    assert float(weighted) == pytest.approx(float(rest + 5 * more["loss_bce"]), rel=1e-6)


def test_absent_objects_supervise_only_the_object_score():
    leaves, targets = inputs(*A)
    loss, parts = Sam2Criterion()([RoundOutputs(*leaves[0])], torch.zeros_like(targets), 2)
    loss.backward()
    assert [float(parts[n]) for n in NAMES[:3]] == [0, 0, 0]
    assert leaves[0][0].grad.abs().max() == 0
    assert (leaves[0][2].grad > 0).all()
