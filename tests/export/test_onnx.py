"""ONNX graphs and the script beside them: phrases and concepts, with and without a text encoder."""

import json
import runpy
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from sam_ft.data.samples.collators import tokenize_phrases
from sam_ft.export import onnx_graphs
from sam_ft.export.checked_export import Export
from sam_ft.export.formats import FORMATS
from sam_ft.export.output_parity import build_pixels, compute_prompt_outputs
from sam_ft.models.sam3.config import build_tiny_config, build_tiny_processor
from sam_ft.models.sam3.random_model import build_random_model
from sam_ft.options.model_names import RANDOM_TINY

from .common import add_concepts


def small_model():
    """Build a model with one layer of each kind, because the exporter's time grows with their number."""
    config = build_tiny_config()
    config.vision_config.backbone_config.num_hidden_layers = 2
    config.vision_config.backbone_config.global_attn_indexes = [1]
    config.detr_encoder_config.num_layers = config.detr_decoder_config.num_layers = 1
    config.text_config.num_hidden_layers = 1
    return build_random_model(config, 0)


@pytest.fixture(scope="module")
def onnx_export(tmp_path_factory):
    """Source and folder of a model with two concepts and its text encoder."""
    folder, model = tmp_path_factory.mktemp("onnx") / "onnx", small_model()
    add_concepts(model, ["pothole", "manhole cover"])
    source = Export(model.eval(), build_tiny_processor(), RANDOM_TINY, with_text_encoder=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sam_ft.export.onnx_graphs.MAX_INLINE_BYTES", 0)  # writes the weights beside the graphs
        # the export itself compares 1, 3 and 17 phrases in a process that cannot import torch
        assert FORMATS["onnx"](source, folder) < 1e-3
    return source, folder


@pytest.fixture
def noise(tmp_path):
    file = tmp_path / "noise.png"
    Image.fromarray(torch.rand(60, 80, 3).mul(255).byte().numpy()).save(file)
    return file


def test_onnx_graphs_without_torch(onnx_export, noise, tmp_path):
    _, output = onnx_export
    assert (output / "detector.onnx.data").is_file(), "the reference is valid after the folder is renamed"
    arguments = [
        "predict.py",
        str(noise),
        "red circle",
        "pothole",
        "--threshold",
        "0",
        "--output",
        str(tmp_path / "m"),
    ]
    script = f"import runpy, sys; sys.argv = {arguments!r}; "
    script += f"runpy.run_path({str(output / 'predict.py')!r}, run_name='__main__'); "
    script += "assert sys.modules['torch'] is None"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "red circle: 25 found" in done.stdout
    assert "pothole: 25 found" in done.stdout
    with Image.open(tmp_path / "m" / "red_circle.png") as mask:
        assert mask.size == (80, 60)


def test_onnx_concepts_give_the_outputs_of_transformers(onnx_export):
    source, folder = onnx_export
    pixels, model = build_pixels(source.side), source.model
    graphs = runpy.run_path(str(folder / "predict.py"))["Graphs"](folder)
    outputs = graphs(pixels.numpy(), ["Manhole_cover", "base:pothole", "pothole"])
    tokens = tokenize_phrases(source.processor.tokenizer, ["pothole"])
    with torch.no_grad():
        text = model.encode_texts(tokens.input_ids, tokens.attention_mask), tokens.attention_mask.bool()
        prompts = [(t[None], torch.ones(1, len(t))) for t in model.concepts.tokens]
        expected = compute_prompt_outputs(model, pixels, [prompts[1], text, prompts[0]])
    for row, prediction in enumerate(expected):
        presence = prediction["presence"][0].sigmoid()
        pairs = (
            (outputs["scores"][row], prediction["logits"][0].sigmoid() * presence),
            (outputs["presence"][row : row + 1], presence),
            (outputs["boxes_xyxy"][row], prediction["boxes"][0].clamp(0, 1)),
            (1 / (1 + np.exp(-outputs["masks"][row])), prediction["masks"][0].sigmoid()),
        )
        for output, tensor in pairs:
            torch.testing.assert_close(torch.from_numpy(output), tensor, rtol=0, atol=1e-3)


def test_onnx_concepts_without_a_text_encoder(onnx_export, noise, tmp_path, monkeypatch, capsys):
    source, folder = onnx_export
    written = []
    monkeypatch.setattr(onnx_graphs, "_export_graph", lambda _, __, file, *___: written.append(file.name))
    onnx_graphs.write_graphs(source.model, tmp_path, with_text_encoder=False)
    assert written == ["vision_encoder.onnx", "detector.onnx"]
    shutil.copytree(folder, tmp_path / "onnx", ignore=shutil.ignore_patterns("text_encoder.*", "tokenizer*"))
    words = ["--output", str(tmp_path / "masks")]
    for phrases, status in (([], None), (["Pothole", "zebra"], 1)):
        monkeypatch.setattr(sys, "argv", ["predict.py", str(noise), *phrases, *words])
        if status is None:
            runpy.run_path(str(tmp_path / "onnx" / "predict.py"), run_name="__main__")
            continue
        with pytest.raises(
            SystemExit, match="no concept for 'zebra' in .*, and no text encoder. Give one of: pothole, "
        ):
            runpy.run_path(str(tmp_path / "onnx" / "predict.py"), run_name="__main__")
    assert "manhole cover: " in capsys.readouterr().out
    module = runpy.run_path(str(tmp_path / "onnx" / "predict.py"))
    entry = {"threshold": 0.25, "temperature": 2.0}
    assert module["find_threshold"]("pothole", entry) == (2.0, 0.25)
    assert module["find_threshold"]("zebra", None) == (1.0, 0.5)
    (tmp_path / "onnx" / "thresholds.json").write_text(
        json.dumps({"presence_temperature": 3.0, "default": 0.4, "phrases": {"pothole": 0.1}})
    )
    assert module["find_threshold"]("Pothole", entry) == (3.0, 0.1)
    assert module["find_threshold"]("crack", entry) == (2.0, 0.25)
