"""Non-finite predictions: errors that name image and tensor."""

import numpy as np
import pytest
from PIL import Image

from sam_ft import Sam3Predictor
from sam_ft.data.image_entries import ImageEntry
from sam_ft.inference.batch_prediction import run_job
from sam_ft.inference.image_list import ImageList
from sam_ft.inference.output_writers import encode_overlay
from sam_ft.inference.prediction_job import PredictionJob
from sam_ft.inference.predictor import ImagePrediction
from sam_ft.inference.prompt_files import ObjectPrompt
from sam_ft.inference.sam2_predictor import Sam2Predictor
from sam_ft.models.finite import NonFiniteError
from sam_ft.options.model_names import TINY, TINY_SAM2


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)) for _ in range(2)]


def damage(model, module):
    calls = []

    def hook(_, __, output):
        calls.append(1)
        if isinstance(output, tuple):
            return tuple(tensor * float("nan") for tensor in output)
        return output * float("nan")

    model.get_submodule(module).register_forward_hook(hook)
    return calls


@pytest.mark.parametrize(
    "module, tensor",
    [
        ("dot_product_scoring", "scores"),
        ("detr_decoder.box_head", "boxes"),
        ("detr_decoder.presence_head", "presence"),
        ("mask_decoder.mask_embedder", "masks"),
    ],
)
def test_sam3_names_image_phrase_and_tensor(images, module, tensor):
    predictor = Sam3Predictor.from_pretrained(TINY, device="cpu")
    predictor.options.score_threshold = 0.0
    damage(predictor.model, module)
    with pytest.raises(NonFiniteError, match=rf"image '0', phrase 'circle': .* NaN or infinity in `{tensor}`"):
        predictor(images, ["circle"])


def test_sam2_names_image_object_and_tensor(images):
    predictor = Sam2Predictor.from_pretrained(TINY_SAM2, device="cpu")
    box = ObjectPrompt(box=[5, 5, 20, 20])
    predictor(images, [[box], [box, box]])
    damage(predictor.model, "mask_decoder")
    with pytest.raises(NonFiniteError, match=r"image '0', object 0: .* NaN or infinity in `candidates`"):
        predictor(images, [[box], [box, box]])


def test_a_job_writes_nothing_for_an_image_without_finite_predictions(images, tmp_path):
    images[0].save(tmp_path / "a.png")
    predictor = Sam3Predictor.from_pretrained(TINY, device="cpu")
    damage(predictor.model, "dot_product_scoring")
    job = PredictionJob(
        ImageList([ImageEntry("a", str(tmp_path / "a.png"))]), ["circle"], tmp_path / "out", ["coco", "overlays"]
    )
    with pytest.raises(NonFiniteError, match="image 'a', phrase 'circle'"):
        run_job(predictor, job)
    assert not [*(tmp_path / "out").rglob("*.json"), *(tmp_path / "out").rglob("*.jpg")]


def test_control_characters_of_a_phrase_are_escaped_in_overlays(images, tmp_path, monkeypatch):
    images[0].save(tmp_path / "a.png")
    drawn = []

    def draw(image, instances, colors, title):
        drawn.append((instances[0][0], *colors))
        return image

    def append(picture, counts, colors):
        drawn.append(counts)
        return picture

    monkeypatch.setattr("sam_ft.inference.output_writers.draw_instances", draw)
    monkeypatch.setattr("sam_ft.inference.output_writers.append_legend", append)
    prediction = ImagePrediction("a", 40, 60, {"a\x1b[31m\nb": [{"score": 0.5, "bbox": [1, 1, 5, 5]}]})
    assert encode_overlay(prediction, ImageEntry("a", str(tmp_path / "a.png")), tmp_path)
    assert drawn == [("a\\x1b[31m b", "a\\x1b[31m b"), {"a\\x1b[31m b": 1}]
