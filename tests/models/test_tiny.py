"""The tiny model of this package: size, architecture, tokenizer, accuracy and model card."""

import shutil

import pytest
import torch
from transformers import Sam3Model, Sam3Processor

from sam_ft.models.families import PACKAGED_MODELS
from sam_ft.models.loading import load_model
from sam_ft.models.processors import load_processor
from sam_ft.options.model import ModelOptions
from sam_ft.options.model_names import TINY
from sam_ft.testing import random_batch


def test_it_is_small_and_loads_in_transformers(tmp_path):
    size = sum(file.stat().st_size for file in PACKAGED_MODELS[TINY].iterdir())
    assert size <= 8e6, f"{size / 1e6:.1f} MB"
    folder = tmp_path / "copied"
    shutil.copytree(PACKAGED_MODELS[TINY], folder)
    model, report = Sam3Model.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    parameters = sum(p.numel() for p in model.parameters())
    assert 1e6 <= parameters <= 3e6
    assert model.dtype == torch.float32
    processor = Sam3Processor.from_pretrained(folder)
    inputs = processor(images=torch.zeros(3, 50, 70, dtype=torch.uint8), text="a red circle", return_tensors="pt")
    assert inputs["pixel_values"].shape[-2:] == (model.config.image_size,) * 2
    assert model.eval()(**inputs).pred_masks.shape[1] == model.config.detr_decoder_config.num_queries


def test_it_has_every_module_of_the_architecture():
    config = Sam3Model.from_pretrained(PACKAGED_MODELS[TINY]).config
    trunk = config.vision_config.backbone_config
    assert set(trunk.global_attn_indexes) < set(range(trunk.num_hidden_layers)), (
        "some layers must have window attention"
    )
    assert (config.image_size // trunk.patch_size) % trunk.window_size == 0
    assert config.detr_encoder_config.num_layers >= 2
    assert config.detr_decoder_config.num_layers >= 2


@pytest.mark.parametrize(
    "phrase",
    [
        "small striped purple rectangle",
        "person wearing a yellow hard hat",
        "scratch on brushed aluminium housing",
        "hollow violet crescent moon",
        "大きな赤い円",
        "🍎 pomme à gauche",
    ],
)
def test_usual_phrases_have_at_most_32_tokens_and_decode_to_themselves(phrase):
    tokenizer = load_processor(TINY).tokenizer
    ids = tokenizer(phrase)["input_ids"]
    assert len(ids) <= 32
    assert tokenizer.decode(ids, skip_special_tokens=True).split() == phrase.split()


def test_the_random_model_has_the_same_architecture_and_tokens():
    tiny, random = load_model(ModelOptions(TINY)), load_model(ModelOptions("sam-ft/random-tiny"))
    assert {n: p.shape for n, p in tiny.named_parameters()} == {n: p.shape for n, p in random.named_parameters()}
    vocabularies = [load_processor(name).tokenizer.get_vocab() for name in (TINY, "sam-ft/random-tiny")]
    assert vocabularies[0] == vocabularies[1]


def test_the_dropout_option_changes_the_forward_in_training():
    model = load_model(ModelOptions(TINY, dropout=0.5)).train()
    batch = random_batch([(0, "circle", 1), (0, "square", 0)])
    first, second = (float(model(**batch).loss) for _ in range(2))
    assert first != second
    without_dropout = load_model(ModelOptions(TINY, dropout=0.0)).train()
    assert float(without_dropout(**batch).loss) == float(without_dropout(**batch).loss)


@pytest.mark.slow
def test_metrics_on_held_out_scenes_match_the_card(tmp_path):
    """Compare 60 held-out scenes with the card's metrics of 500; a tolerance of 0.1 covers the smaller sample."""
    from ..training.common import build_stream

    metrics = build_stream(tmp_path, scenes=60).evaluate()
    card = (PACKAGED_MODELS[TINY] / "README.md").read_text(encoding="utf-8")
    (overall,) = [line for line in card.splitlines() if line.startswith("| all |")]
    ap50, _, presence, near_miss_rejection = map(float, overall.strip("|").split("|")[2:])
    assert metrics["eval_mask_AP50"] >= ap50 - 0.1
    assert metrics["eval_presence_accuracy"] >= presence - 0.1
    assert metrics["eval_near_miss_rejection"] >= near_miss_rejection - 0.1


def test_the_card_contains_license_config_and_metrics():
    card = (PACKAGED_MODELS[TINY] / "README.md").read_text(encoding="utf-8")
    for text in ("license: apache-2.0", "recipes/configs/tiny_pretrain.yaml", "seed", "near miss", "| all |"):
        assert text in card
