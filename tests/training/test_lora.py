"""Training of LoRA adapters: gain, retention, saved files and resumption."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import Sam3Model

from sam_ft.models.unwrapping import unwrap_sam

from .common import build


LORA = {"lora": "attention", "lora_r": 4, "lora_dropout": 0.1}
RATES = {"learning_rate": 1e-2, "vision_learning_rate": 1e-2, "text_learning_rate": 1e-2, "lr_scale": 1.0}


@pytest.mark.slow
def test_adapters_learn_nearly_as_much_and_forget_less(tuned, tuned_adapter):
    """The gain on new shapes is at least 0.9 of full fine-tuning, with better retention."""
    gains = [
        run.after["eval_mask_AP50_trained"] - run.before["before_mask_AP50_trained"] for run in (tuned, tuned_adapter)
    ]
    assert gains[1] >= 0.9 * gains[0]
    assert tuned_adapter.after["eval_mask_AP50_untrained"] > tuned.after["eval_mask_AP50_untrained"]


@pytest.mark.slow
def test_saved_adapter_gives_the_same_outputs_in_transformers(tuned_adapter):
    """`Sam3Model.from_pretrained(folder)` predicts the masks of the trained model."""
    strangers, ours = (
        Sam3Model.from_pretrained(tuned_adapter.folder).eval(),
        unwrap_sam(tuned_adapter.trainer.model).eval(),
    )
    sample = tuned_adapter.trainer.eval_dataset[0]
    batch = tuned_adapter.trainer.data_collator([sample])
    options = {
        "pixel_values": batch["pixel_values"].float() / 127.5 - 1,
        "input_ids": batch["input_ids"][:1],
        "attention_mask": batch["attention_mask"][:1],
    }
    with torch.no_grad():
        one, other = strangers(**options), ours(**options)
    assert torch.allclose(one.pred_masks, other.pred_masks, atol=1e-4)  # logits of some ten units
    assert torch.allclose(one.pred_boxes, other.pred_boxes, atol=1e-5)


def test_only_adapters_are_saved_and_a_resumed_run_is_the_same_run(shapes, tmp_path):
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "gradient_accumulation_steps": 1, **RATES}
    whole = build(shapes, tmp_path / "whole", model=LORA, **options)
    whole.train()
    whole.save_model()
    checkpoint = tmp_path / "whole" / "checkpoint-2"
    for folder in (checkpoint, tmp_path / "whole"):
        assert not (folder / "model.safetensors").exists()
        assert all(".lora_" in name for name in load_file(folder / "adapter_model.safetensors"))
    again = build(shapes, tmp_path / "again", model=LORA, **options)
    again.train(resume_from_checkpoint=str(checkpoint))
    again.save_model()
    first, second = (load_file(tmp_path / run / "adapter_model.safetensors") for run in ("whole", "again"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    start = load_file(checkpoint / "adapter_model.safetensors")
    assert any(not torch.equal(first[name], start[name]) for name in first)


def test_run_from_an_adapter_continues_it_or_merges_it(shapes, tmp_path):
    options = {"max_steps": 1, "gradient_accumulation_steps": 1, **RATES}
    first = build(shapes, tmp_path / "first", model=LORA, **options)
    first.train()
    first.save_model()
    more = build(shapes, tmp_path / "more", tmp_path / "first", model=LORA, **options)
    more.train()
    more.save_model()
    before, after = (load_file(tmp_path / run / "adapter_model.safetensors") for run in ("first", "more"))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    whole = build(shapes, tmp_path / "whole", tmp_path / "first", **options)
    assert whole.evaluate()["eval_loss"] == pytest.approx(first.evaluate()["eval_loss"], rel=1e-4)
    assert not any("lora" in name for name, _ in whole.model.named_parameters())


def test_the_best_adapter_is_loaded_at_the_end(shapes, tmp_path):
    trainer = build(
        shapes, tmp_path, model=LORA, max_steps=2, save_strategy="steps", save_steps=1, eval_strategy="steps", eval_steps=1,
        gradient_accumulation_steps=1, load_best_model_at_end=True, metric_for_best_model="eval_loss", **RATES,
    )  # fmt: skip
    trainer.train()
    best = load_file(f"{trainer.state.best_model_checkpoint}/adapter_model.safetensors")
    held = {n.replace(".default", ""): p for n, p in trainer.model.named_parameters() if ".lora_" in n}
    assert all(torch.equal(best[name], value) for name, value in held.items())
