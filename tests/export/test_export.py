"""Exports loaded by their target: the loader of the official package, Sam3Model and Sam3VideoModel."""

import dataclasses
import json
import pickle
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Sam3Model, Sam3VideoModel

from sam_ft.arguments import ExportArguments
from sam_ft.export import checked_export
from sam_ft.export.checked_export import Export
from sam_ft.export.formats import FORMATS
from sam_ft.export.output_paths import check_output
from sam_ft.export.source_model import load_source, verify
from sam_ft.export.weight_files import read_weights
from sam_ft.models.adapter_loading import adapt
from sam_ft.models.loading import load_model
from sam_ft.models.processors import fit_processor, load_processor
from sam_ft.models.sam3.config import build_tiny_config, build_tiny_processor
from sam_ft.models.sam3.random_model import build_random_model
from sam_ft.options.model import LoraOptions, ModelOptions
from sam_ft.options.model_names import RANDOM_TINY, TINY
from sam_ft.testing import random_batch
from sam_ft.utils.owned_files import OwnedFiles

from .. import official, official_model


def test_every_format_is_a_choice_of_the_key():
    key = next(field for field in dataclasses.fields(ExportArguments) if field.name == "format")
    assert key.metadata["choices"] == tuple(FORMATS)


@pytest.fixture(scope="module")
def source():
    """Perturb the packaged model, so that no fallback could load equal weights."""
    model = load_model(ModelOptions(TINY))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1e-3 * torch.randn(parameter.shape, generator=generator)
    return Export(model, load_processor(TINY), TINY)


@pytest.fixture(scope="module")
def official_file(source, tmp_path_factory):
    file = tmp_path_factory.mktemp("official") / "sam3.pt"
    FORMATS["official"](source, file)
    return file


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    """Save a base that provides config and processor."""
    folder = tmp_path_factory.mktemp("base")
    load_model(ModelOptions(RANDOM_TINY)).save_pretrained(folder)
    load_processor(RANDOM_TINY).save_pretrained(folder)
    return folder


def package_model(config):
    """Build the official model from its modules, with all weights NaN."""

    def tokenize(texts):
        tokens = build_tiny_processor().tokenizer(texts, padding="max_length", max_length=32, return_tensors="pt")
        return tokens.input_ids * tokens.attention_mask

    model = official_model.build(config, tokenize)
    model.inst_interactive_predictor = None
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    return model


def test_official_file_in_the_official_loader(source, official_file, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sam3.model_builder import _load_checkpoint

    config = source.model.config
    official_net = package_model(config)
    _load_checkpoint(official_net, str(official_file))
    assert "missing" not in capsys.readouterr().out, "the loader prints missing names"
    # the loader ignores names without "detector" and tensors that do not fit
    written = {
        name.replace("detector.", ""): t for name, t in read_weights(official_file).items() if "detector" in name
    }
    assert written.keys() == official_net.state_dict().keys()

    batch = random_batch([(0, "red circle", 1), (0, "blue", 1), (1, "square", 1)], seed=3)
    data, _ = official_model.datapoint(batch, batch["labels"][0]["phrases"])
    official_net.eval()
    with official.on_cpu(), torch.no_grad():
        expected = official_net(data)[-1]
    model = Sam3Model(config).eval()
    model.detr_decoder.clamp_presence_logit_max_val = float("inf")
    model.load_state_dict(source.model.state_dict())
    images = torch.tensor(batch["pair_image"])
    with torch.no_grad():
        outputs = model(
            (batch["pixel_values"].float() / 127.5 - 1)[images],
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            # a padded box adds the geometry token, which the official package always adds
            input_boxes=batch["input_boxes"],
            input_boxes_labels=batch["input_boxes_labels"],
        )
    tolerance = {"rtol": 0, "atol": 1e-4}
    torch.testing.assert_close(outputs.pred_logits, expected["pred_logits"][..., 0], **tolerance)
    torch.testing.assert_close(outputs.presence_logits, expected["presence_logit_dec"], **tolerance)
    torch.testing.assert_close(outputs.pred_boxes, expected["pred_boxes_xyxy"], **tolerance)
    # mask logits reach 40, so that probabilities are compared
    torch.testing.assert_close(outputs.pred_masks.sigmoid(), expected["pred_masks"].sigmoid(), **tolerance)


@pytest.mark.parametrize("form", ["sam3.pt", "safetensors", "trainer checkpoint", "video layout"])
def test_official_weights_are_bitwise_equal_in_transformers(source, official_file, tiny_folder, tmp_path, form):
    weights = read_weights(official_file)
    if form == "sam3.pt":
        file = official_file
    elif form == "safetensors":
        file = tmp_path / "sam3.safetensors"
        FORMATS["official"](source, file)
    elif form == "trainer checkpoint":
        file = tmp_path / "checkpoint.pt"
        bare = {name.removeprefix("detector."): tensor for name, tensor in weights.items()}
        torch.save({"model": bare, "optimizer": {"state": {}}, "epoch": 3, "steps": {"train": 7}}, file)
    else:
        file = tmp_path / "model.safetensors"
        save_file({f"detector_model.{name}": tensor for name, tensor in source.model.state_dict().items()}, file)
    model, _ = load_source(ModelOptions(str(file)), str(tiny_folder))
    loaded = model.state_dict()
    for name, tensor in source.model.state_dict().items():
        assert torch.equal(loaded[name], tensor), name


def test_trainer_checkpoint_as_base_gets_the_names_of_the_official_loader(source, official_file, tmp_path):
    bare = {
        n.removeprefix("detector."): t for n, t in read_weights(official_file).items() if not n.endswith("freqs_cis")
    }
    torch.save({"model": bare}, tmp_path / "checkpoint.pt")
    FORMATS["official"](
        Export(source.model, source.processor, TINY, str(tmp_path / "checkpoint.pt")), tmp_path / "sam3.pt"
    )
    assert read_weights(tmp_path / "sam3.pt").keys() == read_weights(official_file).keys()


def test_export_of_an_adapter_keeps_its_resolution(tmp_path):
    """The adapter has no config; its processor contains the resolution of the training run."""
    adapted = adapt(ModelOptions(TINY, resolution=64), LoraOptions("attention", r=2))
    adapted.save_pretrained(tmp_path / "adapter")
    fit_processor(load_processor(TINY), 64).save_pretrained(tmp_path / "adapter")
    model, processor = load_source(ModelOptions(str(tmp_path / "adapter")), None)
    assert model.config.image_size == 64
    FORMATS["transformers"](Export(model, processor, "adapter"), tmp_path / "merged")
    assert Sam3Model.from_pretrained(tmp_path / "merged").config.image_size == 64
    assert load_processor(str(tmp_path / "merged")).image_processor.size["height"] == 64


def test_export_copies_the_tensors_outside_the_detector_from_the_base(source, official_file, tmp_path):
    base, config = read_weights(official_file), source.model.config
    base = {name: torch.randn_like(t) if t.is_floating_point() else t for name, t in base.items()}
    base |= {"tracker.memory": torch.randn(3), "detector.backbone.vision_backbone.sam2_convs.0.x": torch.randn(2)}
    file, output = tmp_path / "base.pt", tmp_path / "tuned.pt"
    torch.save(base, file)
    FORMATS["official"](Export(source.model, source.processor, TINY, str(file)), output)
    written = read_weights(output)
    assert written.keys() == base.keys()
    copied = [n for n in base if n.startswith("tracker") or "sam2_convs" in n or "points_" in n or "freqs_cis" in n]
    assert len(copied) == 14
    assert all(torch.equal(written[name], base[name]) for name in copied)
    positions = "detector.backbone.vision_backbone.trunk.pos_embed"
    assert torch.equal(written[positions][:, :1], base[positions][:, :1])
    assert torch.equal(written[positions][:, 1:], source.model.vision_encoder.backbone.embeddings.position_embeddings)
    assert not any(torch.equal(written[n], base[n]) for n in base if n not in copied)
    assert config.image_size == 96


def test_merged_adapter_loads_in_plain_transformers(tuned_adapter, tmp_path):
    name = str(tuned_adapter.folder)
    model, processor = load_source(ModelOptions(name), None)
    difference = FORMATS["transformers"](Export(model, processor, name), tmp_path / "merged")
    assert difference == 0
    merged, base = (
        Sam3Model.from_pretrained(tmp_path / "merged").state_dict(),
        load_model(ModelOptions(TINY)).state_dict(),
    )
    changed = [name for name, tensor in base.items() if not torch.equal(merged[name], tensor)]
    assert len(changed) > 50
    assert all(name.endswith("_proj.weight") for name in changed)
    assert (tmp_path / "merged" / "thresholds.json").read_text() == (
        tuned_adapter.folder / "thresholds.json"
    ).read_text()
    assert json.loads((tmp_path / "merged" / "export.json").read_text())["source"] == name


def test_video_layout(source, video_base, tmp_path):
    output = tmp_path / "video"
    FORMATS["video"](Export(source.model, source.processor, TINY, str(video_base)), output)
    loaded, report = Sam3VideoModel.from_pretrained(output, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    base, exported = Sam3VideoModel.from_pretrained(video_base).state_dict(), loaded.state_dict()
    assert load_file(output / "model.safetensors").keys() == exported.keys(), "the names of the file on the Hub"
    tracker = [name for name in base if not name.startswith("detector_model.")]
    assert len(tracker) > 100
    assert all(torch.equal(exported[name], base[name]) for name in tracker)
    for name, tensor in source.model.state_dict().items():
        assert torch.equal(exported[f"detector_model.{name}"], tensor), name
    assert verify(str(output), None).fits
    # the image model within it loads as from facebook/sam3
    again, _ = load_source(ModelOptions(str(output)), None)
    assert torch.equal(
        again.state_dict()["detr_decoder.query_embed.weight"], source.model.detr_decoder.query_embed.weight
    )


@pytest.mark.parametrize("base", [None, "image"], ids=["no base", "an image model"])
def test_video_needs_a_video_base(source, tiny_folder, tmp_path, base):
    with pytest.raises(ValueError, match="`base`.*facebook/sam3"):
        FORMATS["video"](Export(source.model, source.processor, TINY, base and str(tiny_folder)), tmp_path / "video")
    assert not any(tmp_path.iterdir())


class Bomb:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize(
    "damage, message",
    [
        ("code", "could run code when it is loaded"),
        ("raw pickle", "or contains code"),
        ("cut", "damaged"),
        ("empty", "damaged"),
        ("text", "damaged"),
        ("list", "contains a list"),
        ("other tensors", "no weights of SAM 3"),
        ("an adapter", "give the adapter's folder"),
        ("key", "unexpected       1"),
        ("missing", "missing          1"),
        ("shape", "misshapen        1"),
        ("no tensor", "is no tensor"),
        ("numbers for names", "is no name"),
        ("absent", "there is no file"),
    ],
)
def test_invalid_files_are_refused(official_file, tiny_folder, tmp_path, capsys, damage, message):
    file, weights = tmp_path / "bad.pt", read_weights(official_file)
    some = "detector.transformer.decoder.query_embed.weight"
    match damage:
        case "code":
            torch.save({"model": Bomb()}, file)
        case "raw pickle":
            file.write_bytes(pickle.dumps({"model": Bomb()}))
        case "cut":
            file.write_bytes(official_file.read_bytes()[:100_000])
        case "empty":
            file.touch()
        case "text":
            file.write_text("no weights")
        case "list":
            torch.save([1, 2], file)
        case "other tensors":
            torch.save({"layer1.weight": torch.zeros(2)}, file)
        case "an adapter":
            torch.save({"base_model.model.x.lora_A.weight": torch.zeros(2)}, file)
        case "key":
            torch.save(weights | {"detector.transformer.decoder.nothing": torch.zeros(1)}, file)
        case "missing":
            torch.save({name: t for name, t in weights.items() if name != some}, file)
        case "shape":
            torch.save(weights | {some: torch.zeros(1, 2)}, file)
        case "numbers for names":
            torch.save({1: torch.zeros(2)}, file)
        case "no tensor":
            torch.save(weights | {"epoch": 3}, file)
    with pytest.raises(ValueError, match=message):
        load_source(ModelOptions(str(file)), str(tiny_folder))
    assert "code ran" not in capsys.readouterr().out


def test_pickle_with_a_safetensors_suffix(tmp_path, capsys):
    torch.save({"a": Bomb()}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="no safetensors file"):
        read_weights(tmp_path / "model.safetensors")
    assert "code ran" not in capsys.readouterr().out


def test_wrong_architecture(official_file, source, tmp_path):
    config = build_tiny_config()
    config.detr_decoder_config.num_layers = 2
    build_random_model(config, 0).save_pretrained(tmp_path / "other")
    build_tiny_processor().save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="does not fit the architecture of .*other"):
        load_source(ModelOptions(str(official_file)), str(tmp_path / "other"))
    with pytest.raises(ValueError, match="`base`: .* no official checkpoint of this architecture"):
        FORMATS["official"](
            Export(load_model(ModelOptions(str(tmp_path / "other"))), source.processor, "other", str(official_file)),
            tmp_path / "x.pt",
        )


def test_nothing_is_overwritten_or_partly_written(source, official_file, tmp_path, monkeypatch):
    output = tmp_path / "sam3.pt"
    output.write_text("mine")
    with pytest.raises(ValueError, match="--overwrite true"):
        check_output(output, [], overwrite=False, is_file=True)
    with pytest.raises(ValueError, match="contains sam3.pt, which this command did not write"):
        check_output(output, [], overwrite=True, is_file=True)
    with pytest.raises(ValueError, match="overlaps the source"):
        check_output(official_file, [str(official_file)], overwrite=True, is_file=True)
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "holiday.jpg").touch()
    with pytest.raises(ValueError, match="contains holiday.jpg, which this command did not write"):
        check_output(folder, [], overwrite=True, is_file=False)
    with pytest.raises(ValueError, match="a folder. Give a file"):
        check_output(folder, [], overwrite=True, is_file=True)
    # an export whose outputs differ keeps the earlier file
    OwnedFiles(tmp_path, "export").add(["sam3.pt"])
    monkeypatch.setattr(checked_export, "compute_max_difference", lambda *_: 0.5)
    with pytest.raises(ValueError, match=r"outputs differ from those of its source \(max \|Δ\| 0.5"):
        FORMATS["official"](source, output)
    assert output.read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".sam-ft-files.json", "pictures", "sam3.pt"]
