"""The notebooks: as they are committed, and executed in a copy on the packaged models."""

import base64
import json
import re
import runpy
import shutil
from pathlib import Path

import nbformat
import pytest

from sam_ft.reporting.notebook_pictures import MAX_BYTES


FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
FILES = sorted(FOLDER.glob("*.ipynb"))
MACHINE_PATH = re.compile(r"(?<![\w.<])/(home|root|tmp|work|Users|usr|opt|mnt|content|builds)\b|[A-Z]:\\")
MAX_NOTEBOOK = 500_000  # bytes


def texts_of(notebook):
    """Return the text of each output of a notebook."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs]


def pictures_of(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    images = [output.data for output in outputs if "data" in output]
    return [base64.b64decode(data[kind]) for data in images for kind in data if kind.startswith("image/")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_committed_notebook_has_outputs_without_private_data(file):
    text = file.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all(output.output_type != "error" for cell in code for output in cell.outputs)
    assert set(notebook.metadata) == {"kernelspec"}
    pictures = pictures_of(notebook)
    assert len(pictures) >= 2
    assert max(map(len, pictures)) <= MAX_BYTES
    assert len(text.encode()) <= MAX_NOTEBOOK
    assert not MACHINE_PATH.search("\n".join(texts_of(notebook)))
    assert not re.search(r"warning|deprecated|traceback|✗", "\n".join(texts_of(notebook)), re.IGNORECASE)


def test_all_notebooks_are_tested():
    assert [file.stem for file in FILES] == ["01_teach_a_concept", "02_finetune_lora", "03_sam2_clicks"]


@pytest.fixture
def execute(tmp_path):
    """Return a function that executes a copy of a notebook in `tmp_path` and returns the text of its outputs."""
    run = runpy.run_path(str(FOLDER / "execute.py"))["execute"]

    def execute_copy(name):
        file = Path(shutil.copy(FOLDER / f"{name}.ipynb", tmp_path))
        notebook = run(file, tmp_path)
        text = "\n".join(texts_of(notebook))
        assert "✗" not in text
        return notebook, text

    return execute_copy


def change_of(metric, text):
    """Return a metric before and after, from the last lines of a run."""
    before, after = re.search(rf"{metric} (\d\.\d+) → (\d\.\d+)", text).groups()
    return float(before), float(after)


@pytest.mark.notebooks
def test_concepts_are_trained_and_predicted(execute, tmp_path):
    notebook, text = execute("01_teach_a_concept")
    before, after = change_of("mask AP50", text)
    assert after > before + 0.2
    assert "unchanged: bit-identical" in text
    assert (tmp_path / "out/01/check/index.html").is_file()
    shapes = json.loads((tmp_path / "out/01/predictions/labelme/00015.json").read_text())["shapes"]
    assert {shape["label"] for shape in shapes} == {"heart", "cross"}
    assert len(pictures_of(notebook)) == 3


@pytest.mark.notebooks
def test_an_adapter_is_trained_merged_and_loaded(execute):
    notebook, text = execute("02_finetune_lora")
    before, after = change_of("mask AP50", text)
    assert after > before + 0.2
    assert "loaded back and compared" in text
    masks = dict(re.findall(r"^(star|heart|cross): (\d+) masks", text, re.MULTILINE))
    assert {"heart", "cross"} <= {phrase for phrase, number in masks.items() if number != "0"}
    assert len(pictures_of(notebook)) == 2


@pytest.mark.notebooks
def test_masks_of_clicks_and_boxes_improve(execute, tmp_path):
    notebook, text = execute("03_sam2_clicks")
    before, after = change_of("objects +IoU", text)
    assert after > before + 0.1
    results = json.loads((tmp_path / "out/03/predictions/results.json").read_text())
    boxes = json.loads((tmp_path / "out/03/scenes/annotations/val_coco.json").read_text())["annotations"]
    assert len(results) == len(boxes)
    assert len(pictures_of(notebook)) == 4
