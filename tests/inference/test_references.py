"""Exemplars in other images: tokens and canvas, their equality with exemplars of the same image, and errors."""

from dataclasses import replace

import pytest
import torch
from PIL import Image, ImageDraw

from sam_ft import Exemplars, PredictOptions, ReferenceImage, Sam3Predictor
from sam_ft.inference.reference_canvas import ReferenceCanvas
from sam_ft.inference.tiling import cut_views
from sam_ft.models.outputs import PairPrediction
from sam_ft.models.sam3.concepts import ConceptEntry, ConceptInfo, ConceptTokens
from sam_ft.ops.masks import decode_mask
from sam_ft.options.model_names import TINY

from .test_predictor import assert_same


BOX = [20, 20, 40, 40]


@pytest.fixture(scope="module")
def predictor():
    return Sam3Predictor.from_pretrained(TINY, device="cpu")


@pytest.fixture
def with_options(predictor, monkeypatch):
    return lambda **options: monkeypatch.setattr(predictor, "options", PredictOptions(**options))


@pytest.fixture
def images(shapes):
    return [Image.open(file).convert("RGB") for file in sorted((shapes / "train").glob("*.png"))]


def draw_circles(*corners, size=(160, 120), side=40):
    image = Image.new("RGB", size, (235, 235, 235))
    for x, y in corners:
        ImageDraw.Draw(image).ellipse((x, y, x + side, y + side), fill=(220, 30, 30))
    return image


@pytest.mark.parametrize("phrases", [["circle"], []])
def test_tokens_of_the_same_image_equal_its_exemplars(predictor, images, with_options, phrases):
    """The order of the tokens in the prompt differs, and with it the order of float sums."""
    with_options(score_threshold=0.0, max_detections=5, exemplar_method="tokens")
    exemplars = Exemplars([BOX, [90, 60, 30, 30]], [1, 0])
    expected = predictor(images[0], phrases, exemplars)
    assert_same(predictor(images[0], phrases, exemplar_images=[ReferenceImage(images[0], exemplars)]), expected)
    other = predictor(images[0], phrases, exemplar_images=[ReferenceImage(images[1], exemplars)])
    scores, others = ([d["score"] for d in next(iter(p.detections.values()))] for p in (expected, other))
    assert scores != pytest.approx(others, abs=1e-4)


def test_one_call_equals_separate_calls(images, with_options, predictor):
    """A concept, an ordinary phrase and a phrase with references, beside exemplar boxes, in one call."""
    model = predictor.model
    concepts = ConceptTokens(ConceptInfo(TINY, None, 96, 64, {}))
    concepts.add(ConceptEntry("star"), torch.randn(4, 64))
    model.concepts = concepts
    try:
        both = Sam3Predictor(model, predictor.processor, options=PredictOptions(score_threshold=0.0, max_detections=5))
        exemplars = Exemplars([[5, 5, 30, 30]], [1])
        references = [ReferenceImage(images[1], Exemplars([BOX], [1]), "triangle")]
        for method in ("tokens", "canvas"):
            both.options.exemplar_method = method
            together = both(images[0], ["star", "circle", "triangle"], exemplars, references)
            assert set(together.detections) == {"star", "circle", "triangle"}
            for phrase in ("star", "circle", "triangle"):
                alone = both(images[0], [phrase], exemplars, references if phrase == "triangle" else None)
                assert_same(replace(together, detections={phrase: together.detections[phrase]}), alone)
                assert together.presence[phrase] == pytest.approx(alone.presence[phrase], abs=1e-5)
    finally:
        model.concepts = None


@pytest.mark.parametrize("resolution, patch", [(96, 8), (1008, 14), (560, 14)])
def test_a_canvas_and_back(resolution, patch):
    layout = ReferenceCanvas(resolution, patch)
    image = draw_circles((100, 30))
    view = cut_views(image, "", resolution).views[0]
    reference = ReferenceImage(draw_circles((10, 60), size=(90, 200)), Exemplars([[10, 60, 40, 40]], [1]))
    pixels, exemplars = layout.compose(view, [reference] * 5)
    assert len(exemplars) == 5
    for (cx, cy, w, h), _ in exemplars:  # the circle stays in its box, a circle in px of the target
        x, y = int(cx * resolution), int(cy * resolution)
        assert pixels[:, y, x].tolist() == pytest.approx([220, 30, 30], abs=6)
        assert max(x, y) >= layout.target
        assert w * 160 == pytest.approx(h * 120, rel=0.1)
    box = ([0.75, 0.4, 0.25, 1 / 3], 1)
    (((cx, cy, w, h), _),) = layout.convert_exemplars([box])
    side = resolution // patch * 4
    target_side = layout.target // patch * 4
    masks = torch.arange(side * side, dtype=torch.float32).reshape(1, side, side).repeat(2, 1, 1)
    (rx, ry, rw, rh), _ = exemplars[0]
    corners = [[cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], [rx - rw / 2, ry - rh / 2, rx + rw / 2, ry + rh / 2]]
    prediction = PairPrediction(0, torch.tensor(0.9), torch.tensor([0.8, 0.7]), torch.tensor(corners), masks)
    back = layout.cut_out_target(prediction)
    assert back.scores.tolist() == pytest.approx([0.8])  # the detection of the reference is dropped
    assert back.boxes_xyxy[0].tolist() == pytest.approx([0.625, 0.4 - 1 / 6, 0.875, 0.4 + 1 / 6], abs=1e-6)
    assert torch.equal(back.masks, masks[:1, :target_side, :target_side])


def test_detections_of_a_canvas_lie_on_the_objects(predictor, with_options):
    reference = ReferenceImage(draw_circles((60, 40)), Exemplars([[60, 40, 40, 40]], [1]), "red circle")
    target = draw_circles((10, 160), (160, 90), size=(240, 240), side=60)
    for tile_size in (None, 200):
        with_options(exemplar_method="canvas", nms_iom=0.5, tile_size=tile_size)
        detections = predictor(target, [], exemplar_images=[reference]).detections["red circle"]
        boxes = sorted(detection["bbox"] for detection in detections)
        assert len(boxes) == 2
        assert boxes[0] == pytest.approx([10, 160, 60, 60], abs=8)
        assert boxes[1] == pytest.approx([160, 90, 60, 60], abs=8)
        for detection in detections:
            mask = decode_mask(detection["segmentation"]["counts"], 240, 240)
            assert mask.sum() == pytest.approx(0.785 * 60**2, rel=0.15)


@pytest.mark.parametrize(
    "phrases, references, message",
    [
        ([], [], "`exemplar_images` is empty"),
        (["a", "b"], [None], "'reference' has no phrase, but there are 2 phrases"),
        (["a"], ["b"], "the phrase 'b', which is not among `phrases`, a"),
        (["a"], ["a"] * 6, "'a' has 6 reference images, but a canvas takes 5"),
    ],
)
def test_invalid_references_are_refused(predictor, images, phrases, references, message):
    references = [ReferenceImage(images[1], Exemplars([BOX], [1]), phrase) for phrase in references]
    with pytest.raises(ValueError, match=message):
        predictor(images[0], phrases, exemplar_images=references)
