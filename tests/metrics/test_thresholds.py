"""Thresholds, compared with an exhaustive search, and temperatures, compared with a closed form."""

import numpy as np
import pytest

from sam_ft.export import onnx_script as onnx_predict
from sam_ft.metrics.pairs import Pair
from sam_ft.metrics.thresholds import Thresholds, choose_thresholds, read_thresholds


def box(i) -> list[float]:
    return [30.0 * i, 0.0, 20.0, 20.0]


def pairs_with(rng, phrase="thing", images=8, presence=None) -> list[Pair]:
    """Build pairs whose true positives have x < 90 and whose false positives have a larger x."""
    pairs = []
    for image in range(images):
        objects = [{"bbox": box(i), "iscrowd": 0} for i in range(int(rng.integers(0, 3)))]
        found = [{"bbox": o["bbox"], "score": float(rng.uniform(0.3, 1))} for o in objects if rng.random() < 0.8]
        found += [{"bbox": box(5 + i), "score": float(rng.uniform(0, 0.7))} for i in range(int(rng.integers(0, 3)))]
        found.sort(key=lambda detection: -detection["score"])
        pairs.append(Pair(image, phrase, (30, 300), objects, found, presence=presence))
    return pairs


def f1_at(pairs, threshold) -> float:
    hits = [detection["bbox"][0] < 90 for pair in pairs for detection in pair.detections_above(threshold)]
    objects = sum(len(pair.objects) for pair in pairs)
    return 2 * sum(hits) / (len(hits) + objects)


@pytest.mark.parametrize("seed", range(10))
def test_no_other_threshold_has_a_better_f1(seed):
    pairs = pairs_with(np.random.default_rng(seed))
    chosen = choose_thresholds(pairs, "box").of("thing")
    assert f1_at(pairs, chosen) == max(f1_at(pairs, t) for t in np.linspace(0, 1, 2001))


@pytest.mark.parametrize("allowed", [0.0, 0.25, 0.5, 2.0])
def test_threshold_is_the_lowest_within_the_allowed_false_positives(allowed):
    pairs = pairs_with(np.random.default_rng(1))
    chosen = choose_thresholds(pairs, "box", allowed).of("thing")

    def false_positives(threshold):
        detections = [detection for pair in pairs for detection in pair.detections_above(threshold)]
        return sum(detection["bbox"][0] >= 90 for detection in detections) / len(pairs)

    assert false_positives(chosen) <= allowed
    lower = [t for t in np.linspace(0, chosen, 500, endpoint=False) if false_positives(t) <= allowed]
    assert all(f1_at(pairs, t) == f1_at(pairs, chosen) for t in lower)


def test_rare_phrases_share_the_default_threshold():
    rng = np.random.default_rng(0)
    high, low = pairs_with(rng, "high"), pairs_with(rng, "low")
    for pair in low:
        for detection in pair.detections:
            detection["score"] *= 0.1
    rare = [Pair(0, "rare", (30, 300), [{"bbox": box(0), "iscrowd": 0}], [{"bbox": box(0), "score": 0.9}])]
    chosen = choose_thresholds([*high, *low, *rare], "box")
    assert chosen.of("low") < 0.1 < chosen.of("high")
    assert chosen.of("rare") == chosen.of("not in the data") == chosen.default


def test_temperature_of_an_overconfident_model():
    """A probability of 0.9 with an accuracy of 3/4 gives a temperature of log(9) / log(3) = 2."""
    pairs = [
        Pair(
            i, "a", (30, 30), [{"bbox": box(0), "iscrowd": 0}] if (i % 4 != 0) == (i < 40) else [],
            presence=0.9 if i < 40 else 0.1,
        )
        for i in range(80)
    ]  # fmt: skip
    chosen = choose_thresholds(pairs, "box")
    assert chosen.presence_temperature == pytest.approx(2.0, abs=0.01)
    assert chosen.presence(0.9) == pytest.approx(0.75, abs=1e-3)
    assert chosen.rescore(0.45, 0.9) == pytest.approx(0.375, abs=1e-3)


def test_thresholds_are_saved_and_invalid_files_rejected(tmp_path):
    assert read_thresholds(tmp_path) is None
    chosen = Thresholds(1.5, 0.4, {"café": 0.25}, "best F1 at IoU 0.5", 12)
    chosen.save(tmp_path)
    assert read_thresholds(tmp_path) == chosen
    for text in (
        "[]",
        "{",
        '{"default": 7}',
        '{"unknown": 1}',
        '{"phrases": {"a": "b"}}',
        '{"presence_temperature": 0}',
    ):
        (tmp_path / "thresholds.json").write_text(text)
        with pytest.raises(ValueError, match=r"thresholds.json does not contain valid thresholds"):
            read_thresholds(tmp_path)


def test_allowed_false_positives_are_shared_by_all_phrases():
    rng = np.random.default_rng(2)
    pairs = [pair for i in range(6) for pair in pairs_with(rng, f"thing {i}")]
    chosen = choose_thresholds(pairs, "box", 0.5)
    detections = [detection for pair in pairs for detection in pair.detections_above(chosen.of(pair.phrase))]
    assert sum(detection["bbox"][0] >= 90 for detection in detections) / 8 <= 0.5


def test_no_threshold_is_below_the_lowest_observed_score():
    pairs = [
        Pair(i, "a", (30, 30), [{"bbox": box(0), "iscrowd": 0}], [{"bbox": box(0), "score": 0.3}]) for i in range(4)
    ]
    assert choose_thresholds(pairs, "box").of("a") == 0.3


def test_thresholds_use_normalised_phrases(tmp_path, monkeypatch):
    thresholds = Thresholds(
        default=0.9, phrases={"circle": 0.1, "traffic light": 0.2, "bat animal": 0.3, "Café": 0.4, "CAFÉ": 0.45}
    )
    spellings = {
        "circle": 0.1, "Circle": 0.1, " CIRCLE ": 0.1, "circle (shape)": 0.1, "traffic_light": 0.2,
        "Traffic-Light": 0.2, "bat_(animal)": 0.3, "bat": 0.9, "Café": 0.4, "CAFÉ": 0.45,
        "cafe\u0301": 0.4, "unknown": 0.9,
    }  # fmt: skip
    assert {text: thresholds.of(text) for text in spellings} == spellings
    thresholds.save(tmp_path)
    # The exported script has its own implementation, because it does not import this package.
    monkeypatch.setattr(onnx_predict, "HERE", tmp_path)
    assert {text: onnx_predict.find_threshold(text, None)[1] for text in spellings} == spellings


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "", '{"default": NaN}', '{"phrases": {"a": NaN}}', '{"phrases": [1]}', '{"rule": 3}']
)
def test_error_of_malformed_thresholds_contains_the_file(tmp_path, text):
    (tmp_path / "thresholds.json").write_text(text)
    with pytest.raises(ValueError, match=r"thresholds.json does not contain valid thresholds") as caught:
        read_thresholds(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_non_finite_thresholds_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="`default` is not a finite number"):
        Thresholds(default=float("nan")).save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_duplicates_are_false_positives_and_detections_of_crowds_do_not_count():
    def pairs_with_second(annotations, second):
        truth = [{"bbox": box(0), "iscrowd": 0}, *annotations]
        detections = [{"bbox": box(0), "score": 0.9}, {"bbox": second, "score": 0.6}, {"bbox": box(0), "score": 0.2}]
        return [Pair(i, "a", (30, 300), truth, detections) for i in range(4)]

    crowd = {"bbox": box(2), "iscrowd": 1}
    for annotations, second, middle in (([], box(0), 0.75), ([], box(2), 0.75), ([crowd], box(2), 0.55)):
        pairs = pairs_with_second(annotations, second)
        # Without the detection of the crowd, the next observed score below 0.9 is 0.2.
        assert choose_thresholds(pairs, "box").of("a") == pytest.approx(middle, abs=1e-5)


def test_temperature_needs_present_and_absent_phrases():
    objects = [{"bbox": box(0), "iscrowd": 0}]
    for truth in (objects, []):
        pairs = [Pair(i, "a", (30, 30), truth, presence=0.6) for i in range(10)]
        assert choose_thresholds(pairs, "box").presence_temperature == 1


def test_a_temperature_holds_for_every_spelling_of_its_phrase():
    thresholds = Thresholds(phrases={"traffic light": 0.3}, temperatures={"traffic light": 2.0})
    calibrated = thresholds.rescore(0.6, 0.8, "traffic light")
    assert calibrated != thresholds.rescore(0.6, 0.8)
    assert calibrated == thresholds.rescore(0.6, 0.8, "Traffic_light")
    for other in ("base:traffic light", "light"):
        assert thresholds.rescore(0.6, 0.8, other) == thresholds.rescore(0.6, 0.8)
        assert thresholds.of(other) == thresholds.default
