"""Predictor of SAM 3: parity with stored evaluation results and with Transformers, tiles, exemplars and errors."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Sam3Model, Sam3Processor

from sam_ft import Exemplars, PredictOptions, Sam3Predictor
from sam_ft.inference.tiling import cut_views
from sam_ft.metrics.thresholds import read_thresholds
from sam_ft.models.families import PACKAGED_MODELS
from sam_ft.ops.masks import decode_mask
from sam_ft.options.model_names import TINY


PHRASES = ["circle", "red square", "triangle", "star"]


@pytest.fixture(scope="module")
def predictor():
    return Sam3Predictor.from_pretrained(TINY, device="cpu")


@pytest.fixture
def with_options(predictor, monkeypatch):
    return lambda **options: monkeypatch.setattr(predictor, "options", PredictOptions(**options))


@pytest.fixture
def images(shapes):
    return [Image.open(file).convert("RGB") for file in sorted((shapes / "train").glob("*.png"))]


def assert_same(first, second):
    """Compare detections with a tolerance, because batch sizes change the order of float sums."""
    assert first.detections.keys() == second.detections.keys()
    for phrase, detections in first.detections.items():
        others = second.detections[phrase]
        assert len(detections) == len(others), phrase
        for detection, other in zip(detections, others, strict=True):
            assert detection["score"] == pytest.approx(other["score"], abs=1e-5)
            assert detection["bbox"] == pytest.approx(other["bbox"], abs=1e-2)
            a, b = (decode_mask(d["segmentation"]["counts"], first.height, first.width) for d in (detection, other))
            assert (a != b).sum() <= 1  # a pixel on the threshold


def test_predictions_equal_stored_evaluation_results(tuned, new_shapes):
    predictor = Sam3Predictor.from_pretrained(str(tuned.folder), device="cpu")
    truth = json.loads((tuned.folder / "eval" / "ground_truth.json").read_text())
    stored = json.loads((tuned.folder / "eval" / "results.json").read_text())
    names = {c["id"]: c["name"] for c in truth["categories"]}
    rows = {row["example_id"]: row for row in tuned.trainer.eval_dataset.rows.select(range(6))}
    thresholds, compared = read_thresholds(tuned.folder), 0
    for image in truth["images"]:
        if image["example_id"] not in rows:
            continue
        phrases = [names[p["category_id"]] for p in truth["pairs"] if p["image_id"] == image["id"]]
        prediction = predictor(rows[image["example_id"]]["image"], phrases)
        for phrase in phrases:
            presence = prediction.presence[phrase]
            for detection in prediction.detections[phrase]:
                assert detection["score"] >= thresholds.of(phrase)
                # results are stored without the presence temperature
                uncalibrated = 1 / (1 + np.exp(-np.log(presence / (1 - presence)) * thresholds.presence_temperature))
                expected = detection["score"] / presence * uncalibrated
                equal = [
                    r for r in stored
                    if r["image_id"] == image["id"]
                    and names[r["category_id"]] == phrase
                    and abs(r["score"] - expected) < 1e-4
                ]  # fmt: skip
                same_box = [r for r in equal if r["bbox"] == pytest.approx(detection["bbox"], abs=1e-2)]
                assert same_box, (phrase, detection["score"])
                compared += 1
    assert compared >= 5


def test_predictions_equal_those_of_transformers(predictor, images, with_options):
    folder = PACKAGED_MODELS[TINY]
    model, processor = Sam3Model.from_pretrained(folder).eval(), Sam3Processor.from_pretrained(folder)
    with_options(score_threshold=0.3)
    compared = 0
    for image in images:
        prediction = predictor(image, PHRASES)
        pixels = cut_views(image, "", 96).views[0].canvas[None].float() / 127.5 - 1
        for phrase in PHRASES:
            inputs = processor(images=image, text=phrase, return_tensors="pt")
            with torch.no_grad():
                reference = model(**inputs)
                outputs = model(pixels, input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
            processed = processor.post_process_instance_segmentation(
                reference, threshold=0.3, target_sizes=[image.size[::-1]]
            )
            scores = processed[0]["scores"].sort(descending=True).values
            assert [d["score"] for d in prediction.detections[phrase]] == pytest.approx(scores.tolist(), abs=1e-4)
            # with equal pixels, the outputs are equal
            scores = (outputs.pred_logits.sigmoid() * outputs.presence_logits.sigmoid())[0].sort(descending=True)
            masks = torch.nn.functional.interpolate(outputs.pred_masks, image.size[::-1], mode="bilinear")[0] > 0
            detections = prediction.detections[phrase]
            for detection, score, query in zip(detections, scores.values, scores.indices, strict=False):
                assert detection["score"] == pytest.approx(float(score), abs=1e-5)
                mask = decode_mask(detection["segmentation"]["counts"], prediction.height, prediction.width)
                assert (mask != masks[query].numpy()).sum() <= 1  # a pixel on the threshold
                compared += 1
    assert compared >= 4


def test_batches_and_single_images_have_equal_predictions(predictor, images, with_options):
    single = [predictor(image, PHRASES) for image in images]
    with_options(views_per_batch=3)
    for first, second in zip(single, predictor(images, PHRASES), strict=True):
        assert_same(first, second)


def test_one_vision_pass_for_all_phrases(predictor, images, monkeypatch):
    batch_sizes = []
    encode = predictor.model.encode_images
    monkeypatch.setattr(
        predictor.model, "encode_images", lambda pixels: batch_sizes.append(len(pixels)) or encode(pixels)
    )
    predictor(images[:2], [*PHRASES, "blue", "thing"])
    assert batch_sizes == [1, 1]


def test_tiles_find_small_objects(predictor, with_options):
    """A shape of 40 px in an image of 960 px has 4 px on the model's canvas, and 24 px in a tile."""
    from PIL import ImageDraw

    image = Image.new("RGB", (960, 960), "white")
    draw = ImageDraw.Draw(image)
    for x, y in ((100, 120), (700, 500), (460, 800)):
        draw.ellipse((x, y, x + 44, y + 44), fill=(220, 30, 30))
    whole = predictor(image, ["red circle"]).detections["red circle"]
    with_options(tile_size=160)
    tiled = predictor(image, ["red circle"]).detections["red circle"]
    centres = {(round((b[0] + b[2] / 2) / 20), round((b[1] + b[3] / 2) / 20)) for b in (d["bbox"] for d in tiled)}
    assert len(tiled) > len(whole)
    assert {(6, 7), (36, 26), (24, 41)} <= centres


def test_exemplar_boxes_change_the_prediction_and_need_no_phrase(predictor, images, with_options):
    box = Exemplars([[20, 20, 40, 40], [90, 60, 30, 30]], [1, 0])
    with_options(score_threshold=0.0, max_detections=5)
    with_box, without = predictor(images[0], ["circle"], box), predictor(images[0], ["circle"])
    alone = predictor(images[0], [], box)
    mixed = predictor([images[0], images[0]], ["circle"], [None, box])
    assert list(alone.detections) == ["visual"]
    assert with_box.detections["circle"] != without.detections["circle"]
    assert_same(mixed[0], without)
    assert_same(mixed[1], with_box)


def test_nms_suppresses_duplicates(predictor, images, with_options):
    with_options(score_threshold=0.0)
    many = predictor(images[0], ["circle"]).detections["circle"]
    with_options(score_threshold=0.0, nms_iom=0.5)
    few = predictor(images[0], ["circle"]).detections["circle"]
    assert 0 < len(few) < len(many)
    assert few[0] == many[0]


@pytest.mark.parametrize(
    "phrases, exemplars, message",
    [
        ("circle", None, "give a list"),
        (["circle", " "], None, "contains an empty phrase"),
        ([], None, "has no prompt"),
        (["circle"], Exemplars([[500, 5, 5, 5]], [1]), "does not lie in the image of 160×120"),
        (["circle"], Exemplars([[5, 5, 0, 5]], [1]), "has no area"),
        (["circle"], Exemplars([[5, 5, 5, 5]], [3]), "neither 1"),
        (["circle"], Exemplars([], []), "at least one box"),
        (["circle"], [None, None], "2 entries for 1 images"),
    ],
)
def test_invalid_prompts_are_refused(predictor, images, phrases, exemplars, message):
    with pytest.raises(ValueError, match=message):
        predictor(images[0], phrases, exemplars)


def test_invalid_device_is_refused():
    with pytest.raises(ValueError, match="`device`"):
        Sam3Predictor.from_pretrained(TINY, device="cuda:7" if not torch.cuda.is_available() else "nonsense")
