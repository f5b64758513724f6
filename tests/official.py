"""
Reference losses and matchers of the installed official `sam3` package, on CPU. No code of it is copied.

Two functions are replaced without a GPU: the Triton focal loss by the formula in torch, and `pin_memory`, which the
geometry encoder always calls, by the identity.
"""

import contextlib
import warnings

import torch


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from sam3.train.loss import loss_fns, sam3_loss
    from sam3.train.matcher import BinaryHungarianMatcherV2, BinaryOneToManyMatcher


def plain_focal_loss(
    inputs, targets, num_boxes, alpha=0.25, gamma=2, loss_on_multimask=False, reduce=True, triton=True
):
    """Compute the focal loss of Lin et al. 2017, with the signature of the package's Triton kernel."""
    targets = targets.to(inputs.dtype)
    p = inputs.sigmoid()
    p_t = p * targets + (1 - p) * (1 - targets)
    ce = torch.nn.functional.binary_cross_entropy_with_logits(inputs, targets, reduction="none")
    loss = ce * (1 - p_t) ** gamma
    if alpha >= 0:
        loss = (alpha * targets + (1 - alpha) * (1 - targets)) * loss
    return loss.flatten(1).mean(1).sum() / num_boxes if reduce else loss


@contextlib.contextmanager
def on_cpu():
    """Replace the two functions within the context."""
    if torch.cuda.is_available():  # the package's kernels run on a GPU
        yield
        return
    focal, pin = loss_fns.sigmoid_focal_loss, torch.Tensor.pin_memory
    loss_fns.sigmoid_focal_loss = plain_focal_loss
    torch.Tensor.pin_memory = lambda self, *_: self
    try:
        yield
    finally:
        loss_fns.sigmoid_focal_loss, torch.Tensor.pin_memory = focal, pin


def hungarian_matcher():
    """Build the official one-to-one matcher."""
    return BinaryHungarianMatcherV2(
        focal=True, cost_class=2.0, cost_bbox=5.0, cost_giou=2.0, alpha=0.25, gamma=2, stable=False
    )


def one_to_many_matcher():
    """Build the official one-to-many matcher."""
    return BinaryOneToManyMatcher(alpha=0.3, threshold=0.4, topk=4)


def loss_wrapper(*, masks: bool, positive_weight: float):
    """Build the losses of the official Roboflow configuration, with masks and semantic map as in its comments."""
    find = [
        loss_fns.Boxes(weight_dict={"loss_bbox": 5.0, "loss_giou": 2.0}),
        loss_fns.IABCEMdetr(
            weak_loss=False,
            weight_dict={"loss_ce": 20.0, "presence_loss": 20.0},
            pos_weight=positive_weight,
            alpha=0.25,
            gamma=2,
            use_presence=True,
            pos_focal=False,
            pad_n_queries=200,
            pad_scale_pos=1.0,
        ),
    ]
    semantic = None
    if masks:
        find.append(
            loss_fns.Masks(
                focal_alpha=0.25,
                focal_gamma=2.0,
                weight_dict={"loss_mask": 200.0, "loss_dice": 10.0},
                compute_aux=False,
            )
        )
        semantic = loss_fns.SemanticSegCriterion(
            presence_head=True,
            presence_loss=False,
            focal=True,
            focal_alpha=0.6,
            focal_gamma=2.0,
            downsample=False,
            weight_dict={"loss_semantic_seg": 20.0, "loss_semantic_presence": 1.0, "loss_semantic_dice": 30.0},
        )
    return sam3_loss.Sam3LossWrapper(
        loss_fns_find=find,
        matcher=hungarian_matcher(),
        o2m_matcher=one_to_many_matcher(),
        o2m_weight=2.0,
        use_o2m_matcher_on_o2m_aux=False,
        normalization="local",
        normalize_by_valid_object_num=False,
        loss_fn_semantic_seg=semantic,
        scale_by_find_batch_size=True,
    )


def box_xyxy(boxes):
    """Convert boxes `(cx, cy, w, h)` to corners."""
    return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)


def targets_for(boxes, counts, masks=None, valid=None):
    """Build the package's targets from packed boxes `(N, 4)` cxcywh and the number of instances of each pair."""
    padded = torch.zeros(len(counts), max([*counts, 0]), 4)
    ids = torch.full(padded.shape[:2], -1)
    start = 0
    for pair, count in enumerate(counts):
        padded[pair, :count] = boxes[start : start + count]
        ids[pair, :count] = torch.arange(start, start + count)
        start += count
    return {
        "boxes": boxes,
        "boxes_xyxy": box_xyxy(boxes),
        "boxes_padded": padded,
        "positive_map": torch.ones(len(boxes), 1),
        "num_boxes": torch.tensor(counts),
        "masks": masks,
        "semantic_masks": None,
        "is_valid_mask": torch.ones(len(boxes), dtype=torch.bool) if valid is None else valid,
        "is_exhaustive": torch.ones(len(counts), dtype=torch.bool),
        "object_ids_packed": torch.arange(len(boxes)),
        "object_ids_padded": ids,
    }


def outputs_for(one_to_one, one_to_many, presence, masks=None, many_masks=None, semantic=None):
    """Build the package's outputs from `(logits (L, P, Q), boxes (L, P, Q, 4))` and presence logits `(L, P)`."""

    def layer(i):
        out = {"presence_logit_dec": presence[i][:, None]}
        for suffix, (logits, boxes) in (("", one_to_one), ("_o2m", one_to_many)):
            out[f"pred_logits{suffix}"] = logits[i][..., None]
            out[f"pred_boxes{suffix}"] = boxes[i]
            out[f"pred_boxes_xyxy{suffix}"] = box_xyxy(boxes[i])
        return out

    last = len(presence) - 1
    out = layer(last) | {"aux_outputs": [layer(i) for i in range(last)]}
    if masks is not None:
        out |= {"pred_masks": masks, "pred_masks_o2m": many_masks, "semantic_seg": semantic, "presence_logit": None}
    return out


def compute(wrapper, outputs, targets):
    """Match predictions and compute the package's loss: `(core_loss, parts)`."""
    with on_cpu():
        matcher = hungarian_matcher()
        for out in (outputs, *outputs["aux_outputs"]):
            out["indices"] = matcher(out, targets)
        losses = wrapper.compute_loss(outputs, targets)
        if wrapper.loss_fn_semantic_seg is not None:
            semantic = wrapper.loss_fn_semantic_seg(outputs, targets)
            losses[loss_fns.CORE_LOSS_KEY] = losses[loss_fns.CORE_LOSS_KEY] + semantic.pop(loss_fns.CORE_LOSS_KEY)
            losses |= semantic
    total = losses.pop(loss_fns.CORE_LOSS_KEY)
    return total * len(targets["num_boxes"]) ** 0.5, losses
