"""export.py as a person starts it."""

import pytest
import torch

from sam_ft.export.weight_files import read_weights
from sam_ft.models.families import TINY_FOLDER

from ..training.common import ROOT


def test_exports_and_verifies(script, tmp_path):
    demo = ROOT / "recipes" / "configs" / "demo.yaml"  # a run's YAML serves here, too
    status, _, said = script("export.py", "--config", demo, "--format", "official", "--output_path", "sam3.pt")
    assert status == 0, said
    assert "sam3.pt: its outputs differ from sam-ft/tiny's by" in said
    status, _, said = script("export.py", "--format", "official", "--output_path", "sam3.pt")
    assert status == 1
    assert "--overwrite true" in said

    weights = read_weights(tmp_path / "sam3.pt")
    torch.save({"model": {n.removeprefix("detector."): t for n, t in weights.items()}}, "bare.pt")
    status, _, said = script("export.py", "--verify", "bare.pt", "--base", TINY_FOLDER)
    assert status == 0, said
    assert "Meta's own loader finds nothing in it" in said
    status, _, said = script("export.py", "--verify", "sam3.pt")  # against the released architecture
    assert status == 1
    assert "misshapen" in said
    assert script("export.py", "--verify", TINY_FOLDER)[0] == 0
    status, _, said = script("export.py", "--verify", "nowhere.pt")
    assert status == 1
    assert "there is no file or folder" in said
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
def test_bad_keys(script, arguments, message):
    status, _, said = script("export.py", *arguments)
    assert status == 1
    assert message in said
