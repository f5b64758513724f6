"""Concepts in plain Transformers, the official package and ONNX Runtime, by the code of docs/concepts.md."""

import dataclasses
import functools
import re
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image

from sam_ft import Sam3Predictor
from sam_ft.export.checked_export import Export
from sam_ft.export.formats import FORMATS
from sam_ft.export.output_parity import build_pixels
from sam_ft.export.source_model import load_source
from sam_ft.models.families import PACKAGED_MODELS
from sam_ft.models.loading import load_model
from sam_ft.models.sam3.concept_files import write_concepts
from sam_ft.models.sam3.steps import ConceptPredictionStep
from sam_ft.ops.prompts import padding_exemplars
from sam_ft.options.evaluation import DetectionLimits
from sam_ft.options.model import ModelOptions
from sam_ft.options.model_names import TINY

from .. import official, official_model
from .common import add_concepts


DOCS = Path(__file__).parents[2] / "docs" / "concepts.md"
SIDE = 96


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two folders of concepts of the packaged model: of pothole and bump, and of crack."""
    folders = []
    for phrases in (["pothole", "bump"], ["crack"]):
        folders.append(tmp_path_factory.mktemp(phrases[0]))
        write_concepts(folders[-1], add_concepts(load_model(ModelOptions(TINY)), phrases))
    return [str(folder) for folder in folders]


@pytest.fixture(scope="module")
def pixels():
    """Normalised pixels of an image of 96 px."""
    return ((build_pixels(SIDE) + 1) * 127.5).round() / 127.5 - 1


@pytest.fixture(scope="module")
def image(pixels):
    return Image.fromarray(((pixels[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())


@pytest.fixture(scope="module")
def source(folders):
    """Source of an export: the packaged model with the concepts of both folders."""
    return Export(*load_source(ModelOptions(TINY, concepts=folders), None), TINY)


def read_code(word, **replacements):
    """Return the Python code of the guide that contains a word, with other names of files."""
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL) if word in block]
    for old, new in replacements.items():
        assert f'"{old}' in code
        code = code.replace(f'"{old}', f'"{new}')
    return code


def predict(model, pixels, phrase, *, geometry_token):
    """Return the prediction of all queries of a concept."""
    found = []
    boxes, labels = padding_exemplars(1)
    with torch.no_grad():
        model.eval()(
            pixel_values=pixels,
            input_ids=torch.zeros(1, 32, dtype=torch.long),
            attention_mask=torch.ones(1, 32, dtype=torch.long),
            concept_index=[model.concepts.index.index_of(phrase)],
            pair_image=[0],
            pair_phrase=[0],
            input_boxes=boxes,
            input_boxes_labels=labels,
            geometry_token=torch.tensor([geometry_token]),
            step=ConceptPredictionStep(DetectionLimits(0.0, 100), found.append),
        )
    return found[0]


def test_two_files_together_give_what_each_gives_alone(folders, image):
    together = Sam3Predictor.from_pretrained(TINY, concepts=folders, device="cpu")
    phrases = ["pothole", "crack", "circle"]
    expected = together(image, phrases)
    for folder, phrase in zip(folders, ("pothole", "crack"), strict=True):
        alone = Sam3Predictor.from_pretrained(folder, device="cpu")(image, phrases)
        for name in (phrase, "circle"):
            assert alone.presence[name] == expected.presence[name]
            assert alone.detections[name] == expected.detections[name]
    assert len({expected.presence[phrase] for phrase in phrases}) == 3


def run_transformers_code(folder, pixels):
    """Run the code for plain Transformers; return its variables."""
    names = {"pixel_values": pixels}
    code = read_code("Sam3Model.from", **{"out/potholes": folder, "facebook/sam3": PACKAGED_MODELS[TINY]})
    with torch.no_grad():
        exec(code, names)
    return names


def test_plain_transformers_by_the_code_of_the_guide(folders, source, pixels):
    outputs = run_transformers_code(folders[0], pixels)["outputs"]
    expected = predict(source.model, pixels, "Pothole", geometry_token=False)
    presence = outputs.presence_logits[0].sigmoid()
    scores, order = (outputs.pred_logits[0].sigmoid() * presence).sort(descending=True)
    tolerance = {"rtol": 0, "atol": 1e-5}
    torch.testing.assert_close(scores, expected.scores, **tolerance)
    torch.testing.assert_close(outputs.pred_boxes[0, order].clamp(0, 1), expected.boxes_xyxy.clamp(0, 1), **tolerance)
    torch.testing.assert_close(outputs.pred_masks[0, order].sigmoid(), expected.masks.sigmoid(), **tolerance)


def test_video_session_by_the_code_of_the_guide(folders, pixels, video_base):
    """Only the detection uses the prompt."""
    names = run_transformers_code(folders[0], pixels) | {"frames": [Image.new("RGB", (96, 96))]}
    code, propagation, _ = read_code("add_prompt", **{"facebook/sam3": video_base}).partition("outputs = list(")
    assert propagation
    exec(code, names)
    model, session, text = names["model"].eval(), names["session"], names["text"]
    with torch.no_grad():
        vision = model.detector_model.get_vision_features(pixels)
        model.score_threshold_detection, model.det_nms_thresh = 0.0, 0.0
        detections = model.run_detection(session, vision)[names["prompt"]]
        mask = torch.ones(text.pooler_output.shape[:2], dtype=torch.long)
        expected = model.detector_model(vision_embeds=vision, text_embeds=text, attention_mask=mask)
    assert session.prompts == {0: "pothole"}
    torch.testing.assert_close(detections["bbox"], expected.pred_boxes[0], rtol=0, atol=1e-6)


def test_official_package_by_the_code_of_the_guide(source, pixels, image, tmp_path, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sam3 import model_builder
        from sam3.model import sam3_image_processor
    file, model = tmp_path / "potholes.pt", source.model
    assert FORMATS["official"](source, file) <= 1e-5
    assert file.stat().st_size < 8 * 1024

    def tokenize(texts):
        tokens = source.processor.tokenizer(texts, padding="max_length", max_length=32, return_tensors="pt")
        return tokens.input_ids * tokens.attention_mask

    net = official_model.build(model.config, tokenize).eval()
    net.inst_interactive_predictor = None
    official_model.copy_weights(load_model(ModelOptions(TINY)), net)
    monkeypatch.setattr(model_builder, "build_sam3_image_model", lambda **_: net)
    small = functools.partial(sam3_image_processor.Sam3Processor, resolution=SIDE, confidence_threshold=0.0)
    monkeypatch.setattr(sam3_image_processor, "Sam3Processor", small)
    names = {"image": image}
    with official.on_cpu():
        exec(read_code("sam3.model_builder", **{"out/potholes.pt": file, "cuda": "cpu"}), names)
        outputs = {name: names["state"][name] for name in ("scores", "boxes", "masks_logits")}
        circle = names["processor"].set_text_prompt("circle", names["processor"].set_image(image))
    expected = predict(model, pixels, "pothole", geometry_token=True)
    order = outputs["scores"].argsort(descending=True)
    tolerance = {"rtol": 0, "atol": 1e-4}
    torch.testing.assert_close(outputs["scores"][order], expected.scores, **tolerance)
    boxes = (outputs["boxes"][order] / SIDE).clamp(0, 1)
    torch.testing.assert_close(boxes, expected.boxes_xyxy.clamp(0, 1), **tolerance)
    masks = torch.nn.functional.interpolate(expected.masks[:, None], (SIDE, SIDE), mode="bilinear").sigmoid()
    torch.testing.assert_close(outputs["masks_logits"][order], masks, **tolerance)
    assert not torch.equal(circle["scores"], outputs["scores"]), "a phrase without a concept has its text features"


def test_invalid_concept_exports_are_refused(script, folders, source, tmp_path):
    with pytest.raises(ValueError, match=r"`output_path` is '.*x.safetensors'; the `sam3` package reads concepts"):
        FORMATS["official"](source, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"`base` is 'sam3.pt', but a file of concepts contains no weights"):
        FORMATS["official"](dataclasses.replace(source, base="sam3.pt"), tmp_path / "x.pt")
    for arguments, message in (
        (["--format", "video"], "`format` is 'video', but"),
        (["--format", "transformers", "--model_name_or_path", TINY, "--concepts", folders[1]], "contains concepts"),
        (
            ["--format", "onnx", "--model_name_or_path", "sam-ft/random-tiny", "--concepts", folders[1]],
            "other weights",
        ),
        (["--format", "official", "--with_text_encoder", "true"], "`with_text_encoder` is for `format: onnx`"),
        (["--format", "onnx", "--model_name_or_path", TINY, "--with_text_encoder", "true"], "has no concepts"),
    ):
        status, _, stderr = script("export.py", "--model_name_or_path", folders[0], *arguments)
        assert status == 1
        assert message in stderr
        assert "Traceback" not in stderr
    assert not list(tmp_path.iterdir())


def test_the_command_exports_concepts_of_several_folders(script, folders, tmp_path):
    words = ["--model_name_or_path", TINY, "--concepts", *folders, "--format", "official"]
    status, _, stderr = script("export.py", *words)
    assert status == 0, stderr
    assert "concepts: pothole, bump, crack" in stderr
    assert torch.load(tmp_path / "out" / "export" / "concepts.pt").keys() == {"pothole", "bump", "crack"}
    status, _, stderr = script("export.py", "--verify", Path(folders[0]) / "concepts.safetensors")
    assert status == 1
    assert "these tensors are concepts" in stderr
