"""Tests of the reader of finished rows: the same checks as for other sources."""

import io

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from sam_ft.data.loading import load_phrase_dataset
from sam_ft.data.row_schema import FEATURES
from sam_ft.ops.masks import encode_mask
from sam_ft.options.data import DatasetOptions, HubSource, ReadOptions


SIDE = 96


@pytest.fixture(autouse=True)
def _isolated_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def encoded(seed: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    values = np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(values).save(buffer, kind)
    return buffer.getvalue()


def counts(side: int = SIDE) -> str:
    mask = np.zeros((side, side), dtype=bool)
    mask[10:20, 10:20] = True
    return encode_mask(mask)


def finished_row(number: int, **changes) -> dict:
    """Return a valid row; `changes` replace fields of the row, its instance (`bbox`, …) or its phrase (`indices`)."""
    instance = {"bbox": [10, 10, 10, 10], "segmentation": counts(), "area": 100, "is_crowd": False}
    instance |= {key: changes.pop(key) for key in list(changes) if key in instance}
    phrase = {"text": "cat", "instances": changes.pop("indices", [0]), "exhaustive": True}
    row = {
        "example_id": f"e{number}",
        "image": {"bytes": encoded(number), "path": None},
        "width": SIDE,
        "height": SIDE,
    }
    return row | {"instances": [instance], "phrases": [phrase]} | changes


def write(folder, rows: list[dict]) -> str:
    (folder / "data").mkdir(parents=True)
    Dataset.from_list(rows, features=FEATURES).to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    return str(folder)


def load(folder: str, streaming: bool = False, **reading):
    options = DatasetOptions(folder, validation_fraction=0.25, hub=HubSource(streaming=streaming), streaming=streaming)
    return load_phrase_dataset(options, ReadOptions(**reading))


DAMAGES = {
    "an image of another size": ({"width": 48, "height": 48, "segmentation": counts(48)}, "is 48×48, but the upright "
    "image is 96×96"),
    "bytes that are no image": ({"image": {"bytes": b"no image", "path": None}}, "cannot be read"),
    "an image that ends early": ({"image": {"bytes": encoded(9, "JPEG")[:-2000], "path": None}}, "cannot be read"),
    "no image": ({"image": None}, "the row has no image"),
    "an RLE of another size": ({"segmentation": counts(48)}, r"`instances\[0\].segmentation` cannot be decoded: the "
    "RLE's runs add up to 2304"),
    "no RLE": ({"segmentation": "no RLE\x10"}, r"`instances\[0\].segmentation` cannot be decoded"),
    "a box outside the image": ({"bbox": [90, 10, 20, 10]}, r"`instances\[0\].bbox` is .* 14 px outside the 96×96 "
    "image"),
    "no box": ({"bbox": None}, r"`instances\[0\].bbox` is None"),
    "an index listed twice": ({"indices": [0, 0, 0]}, "lists instance 0 more than once"),
    "an index out of range": ({"indices": [3]}, "refers to instance 3, the row has 1"),
    "no area": ({"area": None}, r"`instances\[0\].area` is None"),
    "no crowd flag": ({"is_crowd": None}, r"`instances\[0\].is_crowd` is None"),
    "no phrases": ({"phrases": None}, "`phrases` is None"),
    "no width": ({"width": None}, "`width`×`height` is None×96"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_invalid_row_is_reported_or_left_out(tmp_path, damage):
    changes, message = DAMAGES[damage]
    rows = [finished_row(i) for i in range(5)]
    rows[2] = finished_row(2, **changes)
    folder = write(tmp_path / "rows", rows)
    with pytest.raises(ValueError, match=rf"row 2 \(example 'e2'\).*{message}"):
        load(folder)
    data = load(folder, on_bad_rows="skip")
    names = {*data.train["example_id"], *data.validation["example_id"]}
    assert names == {"e0", "e1", "e3", "e4"}
    (report,) = data.reports
    assert len(report.skipped) == 1
    assert report.num_images == 4


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "an image that ends early"])
def test_an_invalid_row_of_a_stream_is_reported(tmp_path, damage):
    changes, message = DAMAGES[damage]
    rows = [finished_row(i) for i in range(5)]
    rows[2] = finished_row(2, **changes)
    folder = write(tmp_path / "rows", rows)
    with pytest.raises(ValueError, match=rf"row 2 \(example 'e2'\).*{message}"):
        list(load(folder, streaming=True).train)


def test_a_truncated_image_of_a_stream_is_reported(tmp_path):
    rows = [finished_row(i) for i in range(5)]
    rows[2] = finished_row(2, **DAMAGES["an image that ends early"][0])
    with pytest.raises(ValueError, match="example 'e2': the image inside the row cannot be read"):
        list(load(write(tmp_path / "rows", rows), streaming=True).train)


def test_boxes_may_cross_the_edge_by_rounding(tmp_path):
    rows = [finished_row(i, bbox=[-0.6, 10, 97.5, 86.7]) for i in range(4)]
    data = load(write(tmp_path / "rows", rows))
    assert len(data.train) + len(data.validation) == 4


def test_images_can_be_checked_by_their_header(tmp_path):
    rows = [finished_row(i) for i in range(4)]
    rows[1] = finished_row(1, **DAMAGES["an image that ends early"][0])
    data = load(write(tmp_path / "rows", rows), verify_images=False)
    assert len(data.train) + len(data.validation) == 4
    rows[1] = finished_row(1, **DAMAGES["an image of another size"][0])
    with pytest.raises(ValueError, match="upright image is 96×96"):
        load(write(tmp_path / "other", rows), verify_images=False)


def test_rows_of_one_picture_that_contradict_each_other_are_refused(tmp_path):
    rows = [finished_row(i) for i in range(4)]
    absent = {"text": "cat", "instances": [], "exhaustive": True}
    rows[3] = finished_row(3, image=rows[1]["image"], instances=[], phrases=[absent])
    folder = write(tmp_path / "rows", rows)
    with pytest.raises(ValueError, match=r"row 3: the same picture is listed by row 1.*'cat' is present in row 1"):
        load(folder)
    assert len(load(folder, on_bad_rows="skip").reports[0].skipped) == 1


def test_image_files_outside_the_data_set_are_refused(tmp_path):
    (tmp_path / "secret.png").write_bytes(encoded(7))
    rows = [finished_row(i) for i in range(4)]
    rows[1] = finished_row(1, image={"bytes": None, "path": str(tmp_path / "secret.png")})
    folder = write(tmp_path / "rows", rows)
    for streaming in (False, True):
        with pytest.raises(
            ValueError, match=r"row 1 .*secret.png' lies outside the data set.*`allow_outside_images: true`"
        ):
            list(load(folder, streaming).train)
        data = load(folder, streaming, allow_outside_images=True)
        assert len(data.train) + len(data.validation) == 4
