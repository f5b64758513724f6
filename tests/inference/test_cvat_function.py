"""Auto-annotation function of CVAT, run by the SDK on a task without a server."""

import logging
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from sam_ft import PredictOptions, Sam3Predictor
from sam_ft.inference import cvat_function
from sam_ft.inference.cvat_function import CvatFunction, create
from sam_ft.inference.cvat_output import encode_cvat_mask
from sam_ft.ops.masks import decode_mask, encode_mask
from sam_ft.options.model_names import TINY


PHRASES = ["red square", "circle"]


@pytest.fixture(scope="module")
def predictor():
    return Sam3Predictor.from_pretrained(TINY, options=PredictOptions(score_threshold=0.3), device="cpu")


@pytest.fixture
def image(shapes):
    return Image.open(sorted((shapes / "train").glob("*.png"))[0]).convert("RGB")


@pytest.fixture
def annotate(image, monkeypatch):
    """Run a function on a task of one image; return the shapes that the SDK uploads."""
    sdk = pytest.importorskip("cvat_sdk.auto_annotation")
    driver, models = pytest.importorskip("cvat_sdk.auto_annotation.driver"), pytest.importorskip("cvat_sdk.models")

    def run(function, labels=("circle", "red square"), **arguments):
        media = SimpleNamespace(load_image=lambda: image)
        sample = SimpleNamespace(frame_name="street.png", frame_index=7, media=media)
        ids = {name: 100 + number for number, name in enumerate(labels)}
        kinds = [
            models.Label(name=name, id=number, type="any", attributes=[], sublabels=[]) for name, number in ids.items()
        ]
        dataset = SimpleNamespace(labels=kinds, samples=[sample])
        monkeypatch.setattr(driver, "TaskDataset", lambda client, task_id, load_annotations: dataset)
        uploads = []
        api = SimpleNamespace(
            partial_update_annotations=lambda *_, patched_labeled_data_request: uploads.append(
                patched_labeled_data_request
            )
        )
        client = SimpleNamespace(logger=logging.getLogger(), tasks=SimpleNamespace(api=api))
        sdk.annotate_task(client, 1, function, **arguments)
        (upload,) = uploads
        names = {number: name for name, number in ids.items()}
        assert {shape.frame for shape in upload.shapes} <= {7}
        return [(names[shape.label_id], shape) for shape in upload.shapes]

    return run


def encode_by_sdk(mask: np.ndarray) -> list[int]:
    ys, xs = mask.nonzero()
    corners = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    return pytest.importorskip("cvat_sdk.masks").encode_mask(mask, [int(value) for value in corners])


def test_masks_are_encoded_as_the_sdk_encodes_them():
    whole, (ring, corners) = np.ones((9, 12), bool), np.zeros((2, 9, 12), bool)
    ring[2:7, 3:9] = True
    ring[4, 5:7] = False
    corners[0, 0] = corners[8, 10:] = True
    for mask in [whole, ring, corners, *(np.random.default_rng(0).random((20, 9, 12)) < 0.3)]:
        runs, (left, top, width, height) = encode_cvat_mask(encode_mask(mask), 9, 12)
        assert [*runs, left, top, left + width - 1, top + height - 1] == encode_by_sdk(mask)


def test_masks_equal_those_of_the_predictor(predictor, image, annotate):
    shapes = annotate(CvatFunction(predictor, PHRASES))
    expected = [(phrase, d) for phrase, found in predictor(image, PHRASES).detections.items() for d in found]
    assert len(shapes) == len(expected) >= 2
    for (name, shape), (phrase, detection) in zip(shapes, expected, strict=True):
        assert (name, shape.type.value, shape.source) == (phrase, "mask", "auto")
        mask = decode_mask(detection["segmentation"]["counts"], image.height, image.width)
        assert shape.points == encode_by_sdk(mask)


def test_the_confidence_threshold_of_the_task_replaces_that_of_the_model(predictor, annotate):
    function = CvatFunction(predictor, PHRASES)
    number = len(annotate(function))
    assert len(annotate(function, conf_threshold=0.0)) > number
    assert len(annotate(function, conf_threshold=0.9)) < number
    assert len(annotate(function)) == number


def test_masks_become_polygons(predictor, image, annotate, monkeypatch):
    two_parts = np.zeros((image.height, image.width), bool)
    two_parts[10:20, 10:40] = two_parts[30:35, 5:9] = True
    prediction = predictor(image, ["circle"])
    rle = {"size": list(two_parts.shape), "counts": encode_mask(two_parts)}
    empty = {"size": list(two_parts.shape), "counts": encode_mask(two_parts & False)}
    prediction.detections["circle"] += [
        {"score": 0.9, "bbox": [5, 10, 35, 25], "segmentation": r} for r in (rle, empty)
    ]
    monkeypatch.setattr(Sam3Predictor, "__call__", lambda *_: prediction)
    function = CvatFunction(predictor, ["circle"])
    *whole, first, second = [shape for _, shape in annotate(function, conv_mask_to_poly=True)]
    assert {shape.type.value for shape in (*whole, first, second)} == {"polygon"}
    assert first.points == [10, 10, 40, 10, 40, 20, 10, 20]
    assert second.points == [5, 30, 9, 30, 9, 35, 5, 35]
    assert first.group == second.group == 1
    assert not any(hasattr(shape, "group") for shape in whole)
    assert len(annotate(function)) == len(whole) + 1, "the empty mask has no shape"


def test_boxes_of_a_model_without_masks(annotate):
    pytest.importorskip("cvat_sdk")
    function = create(TINY, "red square,circle", masks=False, device="cpu", score_threshold=0.3, bf16=False)
    shapes = annotate(function)
    assert {shape.type.value for _, shape in shapes} == {"rectangle"}
    assert all(len(shape.points) == 4 for _, shape in shapes)


def test_a_task_without_a_label(predictor, annotate):
    sdk = pytest.importorskip("cvat_sdk.auto_annotation")
    function = CvatFunction(predictor, PHRASES)
    with pytest.raises(sdk.BadFunctionError, match="label 'red square' is not in dataset"):
        annotate(function, labels=["circle"])
    shapes = annotate(function, labels=["circle"], allow_unmatched_labels=True)
    assert {name for name, _ in shapes} == {"circle"}


@pytest.mark.parametrize(
    "text, phrases",
    [
        ("pothole,manhole cover", ["pothole", "manhole cover"]),
        ("red, ripe apple; leaf", ["red, ripe apple", "leaf"]),
        ("red, ripe apple;", ["red, ripe apple"]),
        ("", []),
    ],
)
def test_separators_of_phrases(text, phrases, monkeypatch):
    loaded = SimpleNamespace(options=None)
    monkeypatch.setattr(cvat_function.Sam3Predictor, "load", lambda *_, **__: loaded)
    monkeypatch.setattr(cvat_function, "list_phrases", lambda source: ["the trained one"])
    monkeypatch.setattr(
        cvat_function,
        "_import_sdk",
        lambda: SimpleNamespace(DetectionFunctionSpec=dict, label_spec=lambda name, *_, **__: name),
    )
    assert create("out/mine", text).spec["labels"] == (phrases or ["the trained one"])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"phrases": "dog,,cat"}, "contains an empty phrase"),
        ({"phrases": ""}, "has no trained phrases. Give at least one phrase"),
        ({"phrases": "d" * 65}, "has 65 characters, more than the 64 of a label"),
        ({"phrases": "dog", "tile": 512}, "the parameter `tile` does not exist. Options of the prediction: score_thr"),
        ({"phrases": "dog", "tile_size": 3}, "`tile_size` must be"),
        ({"phrases": "dog", "model": "/no/folder"}, "there is no folder '/no/folder'"),
        ({"phrases": "dog", "model": "sam-ft/tiny-sam2"}, "is a SAM 2"),
    ],
)
def test_wrong_parameters(arguments, message, monkeypatch):
    monkeypatch.setattr(cvat_function, "_import_sdk", lambda: None)
    with pytest.raises(ValueError, match=message):
        create(**{"model": TINY} | arguments)


def test_without_the_sdk(monkeypatch):
    monkeypatch.setitem(sys.modules, "cvat_sdk", None)
    monkeypatch.setitem(sys.modules, "cvat_sdk.auto_annotation", None)
    with pytest.raises(ImportError, match=re.escape('pip install "sam-ft[cvat]"')):
        create(TINY, "dog")
