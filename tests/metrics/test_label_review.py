"""Label review: hand-made label errors, and ranking of planted errors among noisy predictions."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scipy.stats import mannwhitneyu

from sam_ft.metrics.label_overlap import Calibration, ReviewedImage, measure_overlaps
from sam_ft.metrics.label_phrases import measure_supports
from sam_ft.metrics.label_review import (
    BAD_BOUNDARY,
    DUPLICATE,
    KINDS,
    LABEL_KINDS,
    MERGED_OR_SPLIT,
    MISSING,
    SPURIOUS,
    WRONG_PHRASE,
    calibrate,
    review_image,
)


SIZE = 480, 640
BOX, OTHER = [100, 100, 80, 60], [400, 300, 60, 80]


def label(box, phrase="nut", **fields):
    return {"phrase": phrase, "bbox": list(box), **fields}


def detection(box, phrase="nut", score=0.9):
    return {"phrase": phrase, "bbox": list(box), "score": score}


def review(labels, detections, **fields):
    return review_image(ReviewedImage(SIZE, labels, detections, **fields))


def as_mask(box):
    mask = np.zeros(SIZE, dtype=np.uint8, order="F")
    x, y, w, h = box
    mask[y : y + h, x : x + w] = 1
    return coco_mask.encode(mask)


def test_correct_labels_have_low_scores():
    found = review([label(BOX), label(OTHER, "bolt")], [detection(BOX), detection(OTHER, "bolt")])
    assert set(found.labels) == set(LABEL_KINDS)
    assert all(scores.max() <= 0.1 + 1e-9 for scores in found.labels.values())
    assert not found.missing
    assert found.detections.tolist() == [0, 1]


def test_low_scores_of_a_phrase_that_is_hardly_found_are_no_certain_missing_objects():
    image = ReviewedImage(SIZE, [], [detection(OTHER, score=0.3)])
    for confidence, score in ((0.1, 0.6), (0.5, 0.6), (0.6, 0.5)):
        (missing,) = review_image(image, Calibration({"nut": confidence})).missing
        assert missing.score == pytest.approx(score)


def test_labels_of_a_phrase_that_is_hardly_found_are_no_certain_spurious_objects():
    image = ReviewedImage(SIZE, [label(BOX)], [])
    for confidence, score in ((0.05, 0.1), (0.5, 1.0), (0.9, 1.0)):
        found = review_image(image, Calibration({"nut": confidence}))
        assert found.labels[SPURIOUS].tolist() == [pytest.approx(score)]


def test_missing_object_is_an_unmatched_detection():
    found = review([label(BOX)], [detection(BOX), detection(OTHER, score=0.8), detection(OTHER, "bolt", 0.6)])
    (missing,) = found.missing  # one finding for one object, whatever the number of phrases
    assert (missing.phrase, missing.detection, missing.score) == ("nut", 1, pytest.approx(0.8))
    assert found.scores()[MISSING] == pytest.approx(0.8)


def test_instances_of_incompletely_labelled_phrases_and_of_crowds_are_not_missing():
    assert not review([label(BOX)], [detection(OTHER)], incomplete={"nut"}).missing
    crowd = label([300, 200, 300, 250], iscrowd=1)
    found = review([crowd], [detection(OTHER)])
    assert not found.missing
    assert found.scores() == dict.fromkeys(KINDS, 0.0)


def test_presence_alone_is_a_missing_object_without_a_location():
    found = review([label(BOX)], [detection(BOX)], presence={"nut": 0.9, "bolt": 0.8, "screw": 0.1})
    assert [(m.phrase, m.detection, m.score) for m in found.missing] == [("bolt", None, 0.8)]


def test_spurious_label_has_no_detection_of_any_phrase():
    found = review([label(BOX), label(OTHER)], [detection(BOX), detection([0, 0, 20, 20], "bolt", 0.1)])
    assert found.labels[SPURIOUS].tolist() == pytest.approx([0.01, 1.0])
    assert found.detections.tolist() == [0, -1]


def test_wrong_phrase_proposes_the_predicted_one():
    found = review([label(BOX)], [detection(BOX, "bolt"), detection(BOX, "nut", 0.1)])
    assert found.labels[WRONG_PHRASE][0] == pytest.approx(0.9 * 0.9**2)
    assert found.phrases == ["bolt"]
    assert found.labels[SPURIOUS][0] == pytest.approx(0.01)
    assert not found.missing


def test_phrases_of_one_annotation_do_not_contradict_each_other():
    labels = [label(BOX, "nut", instance=0), label(BOX, "steel nut", instance=0)]
    found = review(labels, [detection(BOX, "nut"), detection(BOX, "steel nut", 0.1)])
    assert found.labels[WRONG_PHRASE].max() == 0
    assert found.labels[DUPLICATE].max() == 0


def test_phrases_of_two_annotations_of_one_object_do_not_contradict_each_other():
    labels = [label(BOX, "nut", instance=0), label([101, 100, 80, 60], "steel nut", instance=1)]
    detections = [detection(BOX, "nut"), detection(BOX, "steel nut", 0.1), detection(BOX, "bolt", 0.3)]
    found = review(labels, detections)
    assert found.labels[WRONG_PHRASE].tolist() == pytest.approx([0.3 * 0.1**2, 0.3 * 0.9**2], abs=0.02)
    assert found.phrases == ["bolt", "bolt"]


def test_a_crop_confirms_or_contradicts_a_wrong_phrase():
    labels, detections = [label(BOX)], [detection(BOX, "bolt", 0.8)]
    alone = review(labels, detections).labels[WRONG_PHRASE][0]
    confirmed, contradicted = (
        review(labels, detections, crops={0: {phrase: 0.8}}).labels[WRONG_PHRASE][0] for phrase in ("bolt", "nut")
    )
    assert (alone, confirmed, contradicted) == pytest.approx((0.8, 0.8, 0.4 * 0.6**2))
    assert measure_supports(ReviewedImage(SIZE, labels, detections)) == [{"bolt": pytest.approx(0.8)}]


def test_overlapping_object_of_another_phrase_is_no_wrong_phrase():
    bolt = [120, 100, 80, 60]
    found = review([label(BOX), label(bolt, "bolt")], [detection(bolt, "bolt", 0.95), detection(BOX, score=0.2)])
    assert found.labels[WRONG_PHRASE].max() == 0


def test_shifted_boundary_scores_higher_than_expected_deviation():
    shifted, tight = [116, 100, 80, 60], [402, 300, 60, 80]
    image = ReviewedImage(SIZE, [label(BOX), label(OTHER)], [detection(shifted), detection(tight)])
    for calibration in (None, Calibration(deviation=0.3)):
        first, second = review_image(image, calibration).labels[BAD_BOUNDARY]
        assert first > 3 * second


def test_masks_are_compared_where_both_have_one():
    half = [100, 100, 40, 60]
    labels = [label(BOX, segmentation=as_mask(half)), label(OTHER)]
    detections = [detection(BOX) | {"segmentation": as_mask(BOX)}, detection(OTHER) | {"segmentation": as_mask(OTHER)}]
    assert measure_overlaps(detections, labels).round(6).tolist() == [[0.5, 0], [0, 1]]
    assert measure_overlaps(labels, detections, share=True).round(6).tolist() == [[1, 0], [0, 1]]
    scores = review(labels, detections).labels[BAD_BOUNDARY]
    assert scores[0] > 0.4
    assert scores[1] == 0


def test_merged_label_covers_two_detections():
    parts = [[100, 100, 40, 60], [142, 100, 38, 60]]
    found = review([label(BOX)], [detection(part) for part in parts])
    assert found.labels[MERGED_OR_SPLIT][0] == pytest.approx(0.9 * 78 / 80)
    assert found.labels[MERGED_OR_SPLIT][0] == max(scores[0] for scores in found.labels.values())
    assert not found.missing
    # A detection of the whole contradicts the parts.
    whole = review([label(BOX)], [*map(detection, parts), detection(BOX, score=1.0)])
    assert whole.labels[MERGED_OR_SPLIT][0] == 0


def test_split_labels_are_inside_one_detection():
    parts = [[100, 100, 40, 60], [140, 100, 40, 60], [400, 300, 30, 30]]
    found = review([label(part) for part in parts], [detection(BOX), detection(parts[2])])
    assert found.labels[MERGED_OR_SPLIT].tolist() == pytest.approx([0.9, 0.9, 0])
    # A second detection of the whole supports neither half, but detections of the parts contradict the whole.
    again = review([label(part) for part in parts], [detection(BOX), detection(BOX, score=0.5)])
    assert again.labels[MERGED_OR_SPLIT].tolist() == pytest.approx([0.9, 0.9, 0])
    whole = review([label(part) for part in parts], [detection(box, score=1.0) for box in [BOX, *parts]])
    assert whole.labels[MERGED_OR_SPLIT].tolist() == [0, 0, 0]


def test_of_two_labels_on_one_object_the_worse_one_is_a_near_duplicate():
    found = review([label([103, 102, 80, 60]), label(BOX), label(BOX, "bolt")], [detection(BOX)])
    assert found.labels[DUPLICATE][0] > 0.8
    assert found.labels[DUPLICATE][1:].tolist() == [0, 0]


def test_empty_images():
    assert review([], []).scores() == dict.fromkeys(KINDS, 0.0)
    assert review([label(BOX)], []).scores()[SPURIOUS] == 1
    assert review([], [detection(BOX)]).scores()[MISSING] == pytest.approx(0.9)
    assert calibrate([]) == Calibration()
    assert calibrate([ReviewedImage(SIZE, [label(BOX)], [])]) == Calibration({"nut": 0.05}, None)


def test_calibration_measures_confidence_by_phrase():
    images = [
        ReviewedImage(SIZE, [label(BOX), label(OTHER, "bolt")], [detection(BOX), detection(OTHER, "bolt", 0.3)])
    ] * 3
    calibration = calibrate(images)
    assert calibration.confidence == pytest.approx({"nut": 0.9, "bolt": 0.3})
    assert review_image(images[0], calibration).labels[SPURIOUS].max() == pytest.approx(0)


def draw_image(rng):
    """Return labels on a grid with noisy predictions, some errors, and whether an object was removed."""
    labels, detections, removed = [], [], False
    for x, y in [(20, 20), (240, 20), (440, 20), (20, 250), (240, 250), (440, 250)]:
        box = np.array([x, y, *rng.uniform(30, 150, 2)])
        phrase, other = rng.permutation(["nut", "bolt", "screw"])[:2].tolist()
        draw, score = rng.random(), rng.beta(6, 2)
        noise = rng.normal(0, 0.02, 4) * np.tile(box[2:], 2)
        if rng.random() < 0.15:  # a confusion of the model
            detections.append(detection(box + noise, other, score * 0.7))
        if draw < 0.05:
            labels.append(label(box, phrase, planted=SPURIOUS))
            continue
        detections.append(detection(box + noise, phrase, score))
        if draw < 0.1:
            removed = True
        elif draw < 0.15:
            labels.append(label(box, other, planted=WRONG_PHRASE))
        elif draw < 0.2:
            shift = np.array([0.2 * box[2], 0.2 * box[3] * rng.choice([-1, 1]), 0, 0])
            labels.append(label(box + shift, phrase, planted=BAD_BOUNDARY))
        else:
            labels.append(label(box, phrase))
    return ReviewedImage(SIZE, labels, detections), removed


def auroc(scores, positive):
    scores, positive = np.asarray(scores), np.asarray(positive)
    return mannwhitneyu(scores[positive], scores[~positive]).statistic / (positive.sum() * (~positive).sum())


def test_planted_errors_rank_first_among_noisy_predictions():
    rng = np.random.default_rng(0)
    images, removed = zip(*(draw_image(rng) for _ in range(150)), strict=True)
    calibration = calibrate(images)
    reviews = [review_image(image, calibration) for image in images]
    planted = np.array([entry.get("planted", "") for image in images for entry in image.labels])
    for kind in (SPURIOUS, WRONG_PHRASE, BAD_BOUNDARY):
        scores = np.concatenate([found.labels[kind] for found in reviews])
        first = np.argsort(-scores)[: (planted == kind).sum()]
        assert auroc(scores, planted == kind) > 0.95, kind
        assert (planted[first] == kind).mean() > 0.8, kind
    assert auroc([found.scores()[MISSING] for found in reviews], removed) > 0.95
