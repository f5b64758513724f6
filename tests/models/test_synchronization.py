"""Host synchronisations of a SAM 3 step, counted on fake CUDA tensors, which need no GPU."""

import collections

import numpy as np
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sam_ft.losses import matcher
from sam_ft.models.sam3.config import build_tiny_config
from sam_ft.models.sam3.model import Sam3ForConceptSegmentation
from sam_ft.testing import random_batch


class SynchronizationCounter(TorchDispatchMode):
    """Counter of operations that make the host wait for the device."""

    def __init__(self):
        super().__init__()
        self.counts = collections.Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        name = func._schema.name.removeprefix("aten::")
        inputs = {t.device.type for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor) and t.dim()}
        outputs = {t.device.type for t in tree_leaves(output) if isinstance(t, torch.Tensor)}
        if name in ("_local_scalar_dense", "nonzero", "masked_select", "_unique2") and "cuda" in inputs | outputs:
            self.counts[name] += 1
        if name.startswith(("index", "_index_put")) and {"cpu", "cuda"} <= inputs:
            self.counts["index of the host"] += 1
        # A copy from the device always waits here; one to the device only if it is blocking.
        if name in ("_to_copy", "copy_") and len(inputs | outputs) > 1:
            is_blocking = not (kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
            if is_blocking or "cpu" in outputs:
                self.counts["copy"] += 1
        return output


def to_fake(value):
    if isinstance(value, torch.Tensor):
        return torch.empty(value.shape, dtype=value.dtype, device="cuda")
    if isinstance(value, dict):
        return {key: to_fake(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_fake(item) for item in value]
    return value


def test_a_step_waits_for_the_costs_of_each_chunk_with_instances_and_launches_the_mask_head_before(monkeypatch):
    events, generator = [], np.random.default_rng(0)

    def start_copy(cost):
        events.append("copy")
        return lambda: events.append("wait") or generator.random(tuple(cost.shape))

    monkeypatch.setattr(matcher, "_start_copy", start_copy)
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda query, *_, **__: torch.empty_like(query))
    # Transformers caches position encodings for the process, and these would be fake.
    monkeypatch.setattr(
        Sam3ForConceptSegmentation, "encode_positions", lambda _, coarse: torch.empty_like(coarse[:1]).float()
    )
    batch = random_batch([(0, "a", 2), (0, "b", 0), (1, "a", 1)], exemplars=True)
    config = build_tiny_config()
    config.vision_config.backbone_config.num_hidden_layers = config.text_config.num_hidden_layers = 1
    config.detr_encoder_config.num_layers, config.detr_decoder_config.num_layers = 1, 2
    counter = SynchronizationCounter()
    with FakeTensorMode(), torch.no_grad():
        with torch.device("cuda"):
            model = Sam3ForConceptSegmentation(config).train()
        model.mask_decoder.prompt_cross_attn_norm.register_forward_hook(lambda *_: events.append("masks"))
        inputs = to_fake(batch)
        with counter:
            model(**inputs)
            assert events == ["copy", "masks", "wait"], "one wait for all pairs of a micro-batch in one chunk"
            model.configure(pairs_per_chunk=2)
            model(**inputs)
            assert events == ["copy", "masks", "wait"] * 2, "one wait for all present pairs in one chunk"
            model.configure(pairs_per_chunk=1)
            model(**inputs)
    assert events == ["copy", "masks", "wait"] * 4
    assert counter.counts == {}


def test_the_counter_finds_synchronisations():
    counter = SynchronizationCounter()
    with FakeTensorMode(), counter:
        tensor = torch.empty(4, device="cuda")
        tensor[[0, 2]], tensor.cpu(), torch.tensor([1, 2]).to("cuda")
        torch.tensor([1, 2]).to("cuda", non_blocking=True)
    assert counter.counts == {"copy": 3}  # a list is copied to the device
