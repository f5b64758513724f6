"""Cells of the GPU report about one model: each builds one with random weights on the GPU and measures one thing."""

import collections
import contextlib
import time
import traceback
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks.gpu_setup import (
    DENSE_BF16_TFLOPS,
    GIB,
    IS_FAKE,
    PREDICTED_GIB,
    RECIPES,
    autocast,
    batch_for,
    build,
    device,
    make_step,
    median_seconds,
    optimizer_of,
    peaks,
    reset_peak,
    synchronize,
)  # fmt: skip


def versions() -> dict:
    """Versions and card."""
    import accelerate
    import peft
    import transformers

    name = torch.cuda.get_device_name() if device() == "cuda" else "cpu"
    return {"card": name, "torch": torch.__version__, "transformers": transformers.__version__,
            "accelerate": accelerate.__version__, "peft": peft.__version__,
            "cudnn": torch.backends.cudnn.version()}  # fmt: skip


ATTENTION = {  # name -> (batch, heads, queries, keys, channels, mask: none | frozen | trained)
    "ViT window": (9, 16, 576, 576, 64, "none"),
    "ViT global": (1, 16, 5184, 5184, 64, "none"),
    "fusion self": (8, 8, 5184, 5184, 32, "none"),
    "decoder self": (8, 8, 401, 401, 32, "none"),
    "decoder vision, frozen bias": (8, 8, 401, 5184, 32, "frozen"),
    "decoder vision, trained bias": (8, 8, 401, 5184, 32, "trained"),
}


def attention(shape: str) -> dict:
    """Kernel, time and finiteness of an attention shape in bf16."""
    b, h, q, k, c, mask = ATTENTION[shape]
    if IS_FAKE[0]:
        b, q, k = 1, -(-q // 16), -(-k // 16)
    generator = torch.Generator(device()).manual_seed(0)

    def rand(*size, scale=1.0):
        return (scale * torch.randn(*size, generator=generator, device=device())).to(torch.bfloat16).requires_grad_()

    query, key, value = rand(b, h, q, c), rand(b, h, k, c), rand(b, h, k, c)
    bias = None if mask == "none" else rand(b, h, q, k, scale=2.0).detach()
    if mask == "trained":
        bias.requires_grad_()

    def call(bias=bias):
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        out.float().square().sum().backward()

    call()
    result = {"milliseconds": round(1000 * median_seconds(call), 3)}
    if device() == "cuda":
        activities = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=activities) as profile:
            call()
            synchronize()
        names = [e.key for e in profile.key_averages() if "attention" in e.key and e.key.startswith("aten::_")]
        result["kernels"] = sorted(set(names))
    return result


def nan_probe(backend: str) -> dict:
    """NaN gradients of an attention with 5184 keys (5184 % 128 = 64) and a frozen bias below -88.7."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    generator = torch.Generator(device()).manual_seed(0)
    queries, keys = (26, 324) if IS_FAKE[0] else (401, 5184)

    def rand(*size):
        return torch.randn(*size, generator=generator, device=device()).to(torch.bfloat16).requires_grad_()

    result = {}
    for offset in (0.0, -100.0):
        query, key, value = rand(8, 8, queries, 32), rand(8, 8, keys, 32), rand(8, 8, keys, 32)
        bias = (rand(8, 8, queries, keys).detach() + offset).contiguous()
        is_default = backend == "default" or device() == "cpu"  # a CPU has neither of the other kernels
        context = contextlib.nullcontext() if is_default else sdpa_kernel(getattr(SDPBackend, backend))
        with context:
            F.scaled_dot_product_attention(query, key, value, attn_mask=bias).float().sum().backward()
        tensors = {"query": query.grad, "key": key.grad, "value": value.grad}
        result[f"bias {offset:g}: entries without a finite gradient"] = {
            name: int((~grad.isfinite()).sum()) for name, grad in tensors.items()
        }
    return result


def tiny_equivalence() -> dict:
    """Loss and gradients of the tiny model: CPU against GPU, chunk 1 against 8, bf16."""
    from accelerate.utils import send_to_device

    from sam_ft.testing import random_batch, tiny_sam3

    pairs = [(i, f"phrase {p}", 2 if p % 2 else 0) for i in range(2) for p in range(4)]
    batch = random_batch(pairs, exemplars=True)

    def run(place, chunk, half=False):
        torch.manual_seed(0)
        model = tiny_sam3().to(place).train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            elif isinstance(getattr(module, "dropout", None), float):
                module.dropout = 0.0
        model.configure(pairs_per_chunk=chunk)
        with torch.autocast("cuda", torch.bfloat16) if half else contextlib.nullcontext():
            loss = model(**send_to_device(batch, place)).loss
        loss.backward()
        return float(loss.detach()), {
            n: p.grad.cpu().double() for n, p in model.named_parameters() if p.grad is not None
        }

    def difference(a, b):
        """Norm of the difference of all gradients relative to their norm."""
        total = sum(float(g.square().sum()) for g in a[1].values()) ** 0.5
        return {"loss": abs(a[0] - b[0]) / abs(a[0]),
                "gradients": sum(float((a[1][n] - b[1][n]).square().sum()) for n in a[1]) ** 0.5 / total}  # fmt: skip

    cpu, gpu = run("cpu", 8), run(device(), 8)
    result = {
        "CPU against GPU, relative": difference(cpu, gpu),
        "chunk 1 against 8": difference(gpu, run(device(), 1)),
    }
    if device() == "cuda":
        half = run("cuda", 8, half=True)
        result["bf16 against float32"] = difference(gpu, half)
        result["bf16 gradients finite"] = all(bool(g.isfinite().all()) for g in half[1].values())
        result["chunk 1 against 8, bf16"] = difference(half, run("cuda", 1, half=True))
    return result


def memory(recipe: str) -> dict:
    """Peak memory and time of a recipe under the memory of its card."""
    keys = RECIPES[recipe]
    model, sam3 = build(keys)
    batch = batch_for(sam3, recipe=keys)
    optimizer, trained = optimizer_of(model, keys.get("optim"))
    reset_peak()
    if device() == "cuda":
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min((keys["cap"] - 0.7) * GIB / total, 1.0))
    step = make_step(model, batch, optimizer, trained, keys["window"])
    seconds = median_seconds(step, warm=2, timed=3) / keys["window"]
    return {
        "seconds an image": round(seconds, 4),
        **peaks(),
        "predicted": PREDICTED_GIB.get(recipe),
        "trained M": round(sum(p.numel() for p in trained) / 1e6, 2),
    }


def steps(images: int, chunk: int, phrases: int, variant: str) -> dict:
    """Time, FLOP utilisation and synchronisations of a full training step without checkpointing."""
    from torch.utils.flop_counter import FlopCounterMode

    if IS_FAKE[0]:
        images, phrases = min(images, 2), min(phrases, 3)
    model, sam3 = build({"chunk": chunk})
    batch = batch_for(sam3, images=images, phrases=phrases, present=max(phrases // 2, 1))
    optimizer, trained = optimizer_of(model, None)
    if "tf32" in variant:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    step = make_step(model, batch, optimizer, trained)
    step()
    with FlopCounterMode(display=False) as counter:
        step()
    if "compiled" in variant:
        begin = time.perf_counter()
        for layer in sam3.vision_encoder.backbone.layers:
            layer.compile(backend="eager" if IS_FAKE[0] else "inductor")
        step()
        synchronize()
        compiling = time.perf_counter() - begin
    reset_peak()
    seconds = median_seconds(step)
    tflop = counter.get_total_flops() / 1e12
    card = torch.cuda.get_device_name() if device() == "cuda" else ""
    rate = next((rate for name, rate in DENSE_BF16_TFLOPS.items() if name in card), None)
    result = {"seconds a step": round(seconds, 4), "milliseconds an image": round(1000 * seconds / images, 1),
              "TFLOP": round(tflop, 2), "MFU": rate and round(tflop / seconds / rate, 3), **peaks()}  # fmt: skip
    if "compiled" in variant:
        result["first compiled step s"] = round(compiling, 1)
    if "syncs" in variant:
        with warnings.catch_warnings(record=True) as caught, warn_of_synchronisations():
            warnings.simplefilter("always")
            step()
        result["synchronisations"] = len(caught)
    return result


def profile(out: str) -> dict:
    """Kernel table of one step of `sam3_full`, written beside the report."""
    model, sam3 = build({"chunk": 8})
    batch = batch_for(sam3)
    optimizer, trained = optimizer_of(model, None)
    step = make_step(model, batch, optimizer, trained)
    for _ in range(1 if IS_FAKE[0] else 3):
        step()
    synchronize()
    kinds = [torch.profiler.ProfilerActivity.CPU] + [torch.profiler.ProfilerActivity.CUDA] * (device() == "cuda")
    with torch.profiler.profile(activities=kinds) as profiled:
        begin = time.perf_counter()
        step()
        synchronize()
        wall = time.perf_counter() - begin
    events = profiled.key_averages()
    sort = "self_cuda_time_total" if device() == "cuda" else "self_cpu_time_total"
    Path(out).with_suffix(".profile.txt").write_text(
        events.table(sort_by=sort, row_limit=60, max_name_column_width=100)
    )
    kernels = [e for e in profiled.events() if "CUDA" in str(e.device_type)]
    busy = sum(e.self_device_time_total for e in kernels) / 1000
    return {"wall ms, profiled": round(1000 * wall, 1), "kernels": len(kernels), "kernel ms": round(busy, 1)}


def sync_sources(recipe: str) -> dict:
    """Host synchronisations of a micro-batch (forward and backward) by source line."""
    keys = RECIPES[recipe]
    model, sam3 = build(keys)
    batch = batch_for(sam3, recipe=keys)

    def run():
        with autocast():
            loss = model(**batch).loss
        loss.backward()

    run()
    synchronize()
    counts = collections.Counter()

    def show(message, category, filename, lineno, *args):
        frames = [f for f in traceback.extract_stack() if "sam_ft/" in f.filename or "/transformers/" in f.filename]
        frame = frames[-1] if frames else None
        counts[f"{'/'.join(Path(frame.filename).parts[-3:])}:{frame.lineno}" if frame else f"{filename}:{lineno}"] += 1

    with warnings.catch_warnings():
        warnings.showwarning = show
        warnings.simplefilter("always")
        with warn_of_synchronisations():
            run()
    return {"total": sum(counts.values()), "by line": dict(counts.most_common(20))}


@contextlib.contextmanager
def warn_of_synchronisations():
    """Warn of each host synchronisation within the context, on a GPU."""
    if device() == "cpu":
        yield
        return
    torch.cuda.set_sync_debug_mode("warn")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
