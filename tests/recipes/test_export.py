"""End-to-end tests of export.py."""

import pytest
import torch

from sam_ft.export.weight_files import read_weights
from sam_ft.models.families import PACKAGED_MODELS
from sam_ft.options.model_names import TINY

from ..training.common import ROOT


def test_export_and_verify(script, tmp_path):
    demo = ROOT / "recipes" / "configs" / "demo.yaml"  # the YAML file of a training run is accepted
    status, _, stderr = script("export.py", "--config", demo, "--format", "official", "--output_path", "sam3.pt")
    assert status == 0, stderr
    assert "sam3.pt: outputs differ from those of sam-ft/tiny by at most" in stderr
    status, _, stderr = script("export.py", "--format", "official", "--output_path", "sam3.pt")
    assert status == 1
    assert "--overwrite true" in stderr

    weights = read_weights(tmp_path / "sam3.pt")
    torch.save({"model": {n.removeprefix("detector."): t for n, t in weights.items()}}, "bare.pt")
    status, _, stderr = script("export.py", "--verify", "bare.pt", "--base", PACKAGED_MODELS[TINY])
    assert status == 0, stderr
    assert "Meta's own loader loads no tensor of it" in stderr
    # without `--base`, the released architecture is expected
    status, _, stderr = script("export.py", "--verify", "sam3.pt")
    assert status == 1
    assert "misshapen" in stderr
    assert script("export.py", "--verify", PACKAGED_MODELS[TINY])[0] == 0
    status, _, stderr = script("export.py", "--verify", "nowhere.pt")
    assert status == 1
    assert "there is no file or folder" in stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == [".sam-ft-files.json", "bare.pt", "sam3.pt"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--format", "official", "--output_path", "out/folder"], "a file that ends in .pt"),
        (["--format", "onnx", "--output_path", "x.pt"], "writes a folder"),
        (["--formt", "onnx"], "Did you mean `--format`"),
        (["--model_name_or_path", "nowhere"], "there is no folder 'nowhere'"),
    ],
)
def test_invalid_arguments_are_refused(script, arguments, message):
    status, _, stderr = script("export.py", *arguments)
    assert status == 1
    assert message in stderr
