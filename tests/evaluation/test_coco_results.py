"""COCO results files of other programs: invalid records are rejected with file and record."""

import json

import pytest

from sam_ft.evaluation.coco_results import read_results


TRUTH = {
    "images": [{"id": 1, "height": 30, "width": 40}],
    "categories": [{"id": 1}, {"id": 2}],
    "pairs": [{"image_id": 1, "category_id": 1}],
}
VALID = {"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [1, 2, 3, 4]}


def write(tmp_path, *results) -> str:
    file = tmp_path / "results.json"
    file.write_text(json.dumps([VALID, *results]))
    return str(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": 7.5}, "`score` is 7.5; a score must lie between 0 and 1"),
        ({"score": -0.1}, "`score` is -0.1; a score must lie between 0 and 1"),
        ({"score": float("nan")}, "`score` is nan"),
        ({"score": float("inf")}, "`score` is inf"),
        ({"score": True}, "`score` is True"),
        ({"score": None}, "`score` is None"),
        ({"bbox": [1, 2, -3, 4]}, r"`bbox` is \[1, 2, -3, 4\], with a negative width or height"),
        ({"bbox": [1, 2, 3, -4]}, "with a negative width or height"),
        ({"bbox": [1, 2, float("nan"), 4]}, "`bbox` is "),
        ({"bbox": [float("-inf"), 2, 3, 4]}, "`bbox` is "),
        ({"bbox": [1, 2, 3]}, "`bbox` is "),
        ({"image_id": [1]}, r"`image_id` is \[1\]; the evaluation has 1"),
        ({"category_id": {}}, "`category_id` is {}; the evaluation has 1, 2"),
        ({"segmentation": {"size": [30, 40], "counts": "1\x1b[31m"}}, "`segmentation` cannot be read"),
    ],
)
def test_error_of_an_invalid_result_contains_file_and_record(tmp_path, change, message):
    with pytest.raises(ValueError, match=f"`compare`: .*results.json, result 1: .*{message}") as caught:
        read_results(write(tmp_path, VALID | change), TRUTH)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("score", [0, 1, 1.0, 1e-9])
def test_valid_results_are_read(tmp_path, score):
    other = VALID | {"category_id": 2}
    result = VALID | {"score": score, "bbox": [0, 0, 0, 4]}
    assert read_results(write(tmp_path, result, other), TRUTH) == [VALID, result]


def test_error_of_an_invalid_file_contains_its_path(tmp_path):
    for text, message in (("{}", "expected a list"), ("[" * 100_000, "is not JSON"), ("[3]", "result 0: .*got 3")):
        (tmp_path / "results.json").write_text(text)
        with pytest.raises(ValueError, match=f"`compare`: .*results.json.*{message}"):
            read_results(str(tmp_path / "results.json"), TRUTH)
