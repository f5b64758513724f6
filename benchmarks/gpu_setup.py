"""Model, batch and step of the GPU report, with random weights and the keys of a recipe."""

import statistics
import time

import torch


GIB = 2**30
PHRASES, PRESENT, INSTANCES = 8, 4, 2
ENCODERS = ["vision_encoder", "text_encoder"]
# Recipe -> keys that set memory, as in recipes/configs; `cap` is the card of its goal in GiB.
RECIPES = {
    "sam3_lora_8gb": {"lora": 8, "freeze": ["text_encoder"], "cache_text": True, "vit_checkpoints": True,
                      "pair_checkpoints": True, "chunk": 1, "masks": 2, "window": 2, "cap": 8},
    "sam3_lora_24gb": {"lora": 16, "vit_checkpoints": True, "chunk": 2, "window": 2, "cap": 24},
    "sam3_cached_heads": {"freeze": ENCODERS, "cache_text": True, "cache_images": True, "pair_checkpoints": True,
                          "chunk": 1, "masks": 2, "window": 2, "cap": 4},
    "sam3_full_24gb": {"vit_checkpoints": True, "chunk": 1, "masks": 4, "window": 2, "optim": "adamw_8bit", "cap": 24},
    "sam3_full": {"chunk": 8, "window": 2, "cap": 80},
    "sam3_heads": {"freeze": ENCODERS, "chunk": 2, "window": 2, "cap": 24},
    "sam3_qlora": {"lora": 8, "freeze": ["text_encoder"], "cache_text": True, "vit_checkpoints": True,
                   "quantize": True, "pair_checkpoints": True, "chunk": 1, "masks": 2, "window": 2,
                   "optim": "paged_adamw_8bit", "cap": 8},
}  # fmt: skip
# Allocated memory that a simulation of the full-size step predicts; of `sam3_full` without accumulation.
PREDICTED_GIB = {"sam3_lora_8gb": 2.50, "sam3_lora_24gb": 5.41, "sam3_cached_heads": 1.44, "sam3_full_24gb": 12.06,
                 "sam3_full": 24.5}  # fmt: skip
DENSE_BF16_TFLOPS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "4090": 165, "3090": 71, "L4": 121}


FAKE_LIMIT_FACTOR = 4  # of the time limits of cells, because CPUs differ more than GPUs
IS_FAKE = [False]  # whether cells run on the CPU with a tiny model and one repetition, to test their code


def device() -> str:
    """Return the device of the report."""
    return "cuda" if torch.cuda.is_available() and not IS_FAKE[0] else "cpu"


def synchronize():
    """Wait for the GPU."""
    if device() == "cuda":
        torch.cuda.synchronize()


def build(recipe: dict):
    """Build a model with random weights and the keys of a recipe, in training mode.

    Args:
        recipe (`dict`): Value of `RECIPES`.

    Returns:
        `tuple`: The model to call, and its `Sam3ForConceptSegmentation`.
    """
    from transformers import Sam3Config

    from sam_ft.models.activation_checkpointing import enable_activation_checkpointing
    from sam_ft.models.freezing import freeze
    from sam_ft.models.lora import add_adapters
    from sam_ft.models.sam3.config import build_tiny_config
    from sam_ft.models.sam3.model import Sam3ForConceptSegmentation
    from sam_ft.models.unwrapping import unwrap_sam
    from sam_ft.options.model import LoraOptions

    torch.manual_seed(0)
    with torch.device(device()):
        model = Sam3ForConceptSegmentation(build_tiny_config() if IS_FAKE[0] else Sam3Config())
    frozen = recipe.get("freeze", [])
    if recipe.get("lora") or frozen == ENCODERS:
        for encoder in (model.vision_encoder, model.text_encoder):
            for parameter in encoder.parameters():
                parameter.data = parameter.data.to(torch.bfloat16)
    if recipe.get("quantize"):
        _quantize(model)
    if recipe.get("lora"):
        rank = recipe["lora"]
        model = add_adapters(model, LoraOptions("attention", r=rank, alpha=2 * rank), frozen=frozen)
    else:
        freeze(model, frozen)
    sam3 = unwrap_sam(model)
    sam3.configure(pairs_per_chunk=recipe["chunk"], pair_checkpointing=recipe.get("pair_checkpoints", False))
    if recipe.get("vit_checkpoints"):
        enable_activation_checkpointing(sam3)
    return model.to(device()).train(), sam3


def _quantize(model) -> None:
    """Replace the encoders' linear layers by 4-bit ones."""
    import bitsandbytes

    for encoder in (model.vision_encoder, model.text_encoder):
        for name, module in list(encoder.named_modules()):
            if type(module) is torch.nn.Linear and "patch" not in name:
                new = bitsandbytes.nn.Linear4bit(module.in_features, module.out_features, module.bias is not None,
                                                 compute_dtype=torch.bfloat16, quant_type="nf4")  # fmt: skip
                new.weight = bitsandbytes.nn.Params4bit(module.weight.data, requires_grad=False, quant_type="nf4")
                if module.bias is not None:
                    new.bias = torch.nn.Parameter(module.bias.data, requires_grad=False)
                owner, _, child = name.rpartition(".")
                setattr(encoder.get_submodule(owner), child, new.to(device()))


def batch_for(sam3, *, images: int = 1, phrases: int = PHRASES, present: int = PRESENT, recipe: dict | None = None):
    """Build a batch on the device with its training step; with cached encoders, from their outputs, and offload them.

    Args:
        sam3 (`Sam3ForConceptSegmentation`): The model.
        images (`int`): Number of images.
        phrases (`int`): Phrases per image.
        present (`int`): How many of them have instances.
        recipe (`dict`, *optional*): Recipe with `cache_images`, `cache_text`, `masks`.
    """
    from accelerate.utils import send_to_device

    from sam_ft.losses.sam3 import Sam3Criterion
    from sam_ft.models.sam3.steps import ConceptTrainingStep
    from sam_ft.testing import random_batch

    side = sam3.config.image_size
    pairs = [(i, f"phrase {p}", INSTANCES if p < present else 0) for i in range(images) for p in range(phrases)]
    batch = send_to_device(random_batch(pairs, resolution=side, instances_per_image=INSTANCES), device())
    batch["input_ids"] = batch["input_ids"].clamp(max=sam3.config.text_config.vocab_size - 1)
    recipe = recipe or {}
    batch["step"] = ConceptTrainingStep(Sam3Criterion(masks_per_block=recipe.get("masks", 8)))
    with torch.no_grad(), autocast():
        if recipe.get("cache_text"):
            batch["text_features"] = sam3.encode_texts(batch["input_ids"], batch["attention_mask"]).float()
            sam3.offload("text_encoder", "text_projection")
        if recipe.get("cache_images"):
            batch["vision_features"] = sam3.encode_images(batch.pop("pixel_values")).to(torch.bfloat16)
            sam3.offload("vision_encoder.backbone")
    return batch


def autocast():
    """Return bf16 autocast."""
    return torch.autocast(device(), torch.bfloat16)


def optimizer_of(model, name: str | None):
    """Build the optimizer of a recipe, fused AdamW by default."""
    trained = [p for p in model.parameters() if p.requires_grad]
    if name:
        import bitsandbytes

        kind = bitsandbytes.optim.PagedAdamW8bit if "paged" in name else bitsandbytes.optim.AdamW8bit
        return kind(trained, lr=1e-5), trained
    return torch.optim.AdamW(trained, lr=1e-5, fused=device() == "cuda"), trained


def make_step(model, batch, optimizer, trained, window: int = 1):
    """Return a function that runs a window of micro-batches and the update."""

    def step():
        for _ in range(window):
            with autocast():
                loss = model(**batch).loss
            loss.backward()
            del loss
        torch.nn.utils.clip_grad_norm_(trained, 0.1)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def median_seconds(call, warm: int = 3, timed: int = 5) -> float:
    """Return the median time of synchronized calls."""
    warm, timed = (0, 1) if IS_FAKE[0] else (warm, timed)
    times = []
    for number in range(warm + timed):
        synchronize()
        begin = time.perf_counter()
        call()
        synchronize()
        if number >= warm:
            times.append(time.perf_counter() - begin)
    return statistics.median(times)


def reset_peak() -> None:
    """Return cached memory to the driver and reset the peaks."""
    if device() == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peaks() -> dict:
    """Return peaks in GiB: allocated, reserved, and the driver's share of the process."""
    if device() == "cpu":
        return {}
    free, total = torch.cuda.mem_get_info()
    return {
        "allocated": round(torch.cuda.max_memory_allocated() / GIB, 3),
        "reserved": round(torch.cuda.max_memory_reserved() / GIB, 3),
        "context": round((total - free - torch.cuda.memory_reserved()) / GIB, 3),
    }
