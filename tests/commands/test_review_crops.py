"""Crops of a label review: windows, phrases, and continuation from stored predictions."""

from types import SimpleNamespace

import pytest
from PIL import Image

from sam_ft.commands import review_crops
from sam_ft.commands.review_crops import predict_crops
from sam_ft.data.row_schema import to_dataset
from sam_ft.inference.predictor import ImagePrediction
from sam_ft.metrics.label_overlap import ReviewedImage
from sam_ft.metrics.label_review import WRONG_PHRASE, review_image
from sam_ft.utils.owned_files import OwnedFiles


SIZE, BOX, WHOLE = (80, 100), [90.0, 10.0, 8.0, 10.0], [0.0, 0.0, 100.0, 80.0]


class Predictor:
    """Predictor that finds a nut in every crop."""

    resolution, thresholds = 96, None

    def __init__(self):
        self.calls = []

    def predict(self, images, phrases):
        (views,) = images
        (view,) = views.views
        self.calls.append((view.window, tuple(view.canvas.shape), phrases))
        return [ImagePrediction(views.name, *views.size, {"nut": [{"bbox": BOX, "score": 0.9}]})]


def make_image(box) -> ReviewedImage:
    """Return an image with a label "nut" at which a bolt is predicted, and a nut with high scores elsewhere."""
    labels = [{"phrase": "nut", "bbox": box}, {"phrase": "nut", "bbox": [2.0, 40.0, 20.0, 20.0]}]
    detections = [
        {"phrase": "bolt", "bbox": box, "score": 0.8},
        {"phrase": "nut", "bbox": [2.0, 40.0, 20.0, 20.0], "score": 0.9},
    ]
    return ReviewedImage(SIZE, labels, detections, {"nut": 0.9, "bolt": 0.9, "nail": 0.1})


@pytest.fixture
def predict(monkeypatch, tmp_path):
    """Return a function that predicts the crops of images, and the calls of the predictor."""
    predictor = Predictor()
    member = SimpleNamespace(name="untrained", load=lambda: predictor)
    monkeypatch.setattr(review_crops, "list_committee", lambda runs, data: [member])

    def call(images):
        row = {"image": Image.new("RGB", (100, 80)), "width": 100, "height": 80, "instances": [], "phrases": []}
        data = SimpleNamespace(rows=to_dataset([row | {"example_id": name} for name in images]), folds=None)
        predict_crops(None, data, images, dict.fromkeys(images), OwnedFiles(tmp_path, "review"))
        return predictor.calls

    return call


def test_uncertain_labels_are_predicted_in_a_window_inside_the_image(predict):
    images = {"a": make_image(BOX), "b": make_image(WHOLE)}  # the second label is as large as its image
    before = review_image(images["a"]).labels[WRONG_PHRASE][0]
    ((window, shape, phrases),) = predict(images)
    assert (window, shape) == ((76, 3, 24, 24), (3, 96, 96))  # enlarged four times
    assert phrases == ["nut", "bolt", "nail"]
    assert images["a"].crops == {0: {"nut": pytest.approx(0.9)}}
    assert not images["b"].crops
    assert review_image(images["a"]).labels[WRONG_PHRASE][0] < before / 2


def test_a_second_call_predicts_nothing(predict):
    predict({"a": make_image(BOX)})
    again = {"a": make_image(BOX)}
    assert len(predict(again)) == 1
    assert again["a"].crops == {0: {"nut": pytest.approx(0.9)}}
