"""FSDP2 on one gloo process: Trainer runs DistributedDataParallel on CPUs, so `fully_shard` is called directly."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from sam_ft.models.freezing import freeze
from sam_ft.testing import random_batch, tiny_sam3

from ..models.test_official import no_dropout


PAIRS = [(0, "red circle", 2), (0, "square", 0), (1, "blue", 1)]


@pytest.fixture
def process_group(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def gradients(model, batch):
    output = model(**batch)
    output.loss.backward()
    grads = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    return output.loss.detach(), {n: g.full_tensor() if hasattr(g, "full_tensor") else g for n, g in grads.items()}


def test_sharded_gradients_equal_plain_ones(process_group):
    batch = random_batch(PAIRS, exemplars=True)
    plain = no_dropout(tiny_sam3()).train()
    freeze(plain, [])
    plain_result = gradients(plain, batch)
    sharded = no_dropout(tiny_sam3()).train()
    freeze(sharded, [])
    mesh = dist.device_mesh.init_device_mesh("cpu", (1,))
    # SamTrainer sets float32 weights under autocast and does not cast inputs.
    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    for module in sharded.modules():
        if type(module).__name__ in ("Sam3ViTLayer", "CLIPEncoderLayer"):
            fully_shard(module, mesh=mesh, mp_policy=policy)
    fully_shard(sharded, mesh=mesh, mp_policy=policy)
    sharded_result = gradients(sharded, batch)
    torch.testing.assert_close(sharded_result[0], plain_result[0], rtol=1e-6, atol=0)
    for name, grad in plain_result[1].items():
        torch.testing.assert_close(sharded_result[1][name], grad, rtol=1e-4, atol=1e-5, msg=name)


def test_model_cast_to_bfloat16_runs():
    """DeepSpeed's bf16 casts every parameter; boxes then lose precision, but nothing breaks."""
    model = tiny_sam3().to(torch.bfloat16).train()
    freeze(model, [])
    loss = model(**random_batch(PAIRS)).loss
    loss.backward()
    assert torch.isfinite(loss)
