"""Folders with other models, invalid configs and damaged files."""

import json

import pytest
from transformers import BertConfig, BertModel

from sam_ft.models.loading import load_model
from sam_ft.models.model_files import read_trained_phrases
from sam_ft.models.processors import load_processor
from sam_ft.options.model import ModelOptions
from sam_ft.options.model_names import RANDOM_TINY, RANDOM_TINY_SAM2


@pytest.fixture
def folder(tmp_path):
    load_model(ModelOptions(RANDOM_TINY)).save_pretrained(tmp_path)
    load_processor(RANDOM_TINY).save_pretrained(tmp_path)
    return tmp_path


def edit_config(folder, change):
    file = folder / "config.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_a_foreign_model_is_refused_before_its_weights_are_read(tmp_path, capfd):
    config = BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=16,
        architectures=["BertModel"],
    )  # fmt: skip
    BertModel(config).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"never read")
    capfd.readouterr()
    with pytest.raises(
        ValueError, match=r"is a model of the type 'bert' \('BertModel'\), which is neither SAM 3"
    ) as caught:
        load_model(ModelOptions(str(tmp_path)))
    assert len(str(caught.value).splitlines()) == 1
    assert not "".join(capfd.readouterr())


@pytest.mark.parametrize("value", [["sam3"], 3, None, {"a": 1}, "sam3_tracker"])
def test_an_invalid_model_type_is_refused(folder, value):
    edit_config(folder, lambda content: content.update(model_type=value))
    with pytest.raises(ValueError, match=r"is a model of the type .*, which is neither SAM 3"):
        load_model(ModelOptions(str(folder)))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\xff"])
def test_a_damaged_config_is_refused(folder, text):
    (folder / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(
        ValueError, match=rf"`model_name_or_path`: {folder}/config.json cannot be read as JSON"
    ) as caught:
        load_model(ModelOptions(str(folder)))
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_model_type_is_refused(folder):
    edit_config(folder, lambda content: content.pop("model_type"))
    with pytest.raises(ValueError, match=r"has no `model_type` in .*config.json"):
        load_model(ModelOptions(str(folder)))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a": 1}', "[1]", '"circle"', "\xff"])
def test_malformed_trained_phrases_are_refused(folder, text):
    (folder / "trained_phrases.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=rf"`model_name_or_path`: {folder}/trained_phrases.json"):
        read_trained_phrases(str(folder))
    (folder / "trained_phrases.json").write_text('["circle"]')
    assert read_trained_phrases(str(folder)) == {"circle"}


@pytest.mark.parametrize("name", [RANDOM_TINY, RANDOM_TINY_SAM2, "sam-ft/tiny", "sam-ft/tiny-sam2"])
def test_a_missing_attention_package_is_refused_with_one_line(name):
    with pytest.raises(ValueError, match="`attn_implementation` is 'flash_attention_2'") as caught:
        load_model(ModelOptions(name, attn_implementation="flash_attention_2"))
    assert "`attn_implementation: sdpa`" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
