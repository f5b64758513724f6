"""Findings of an inspection, each for a data set with one defect."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.loading import find_phrase_splits
from sam_ft.data.validation.inspection import inspect_splits
from sam_ft.options.data import DatasetOptions, ReadOptions

from ..conftest import square
from .readers.trees import TREES


def inspect(file, **options):
    splits, _ = find_phrase_splits(DatasetOptions(str(file.parent.parent)))
    return inspect_splits(splits, ReadOptions(**options), 1008, lambda texts: [t for t in texts if len(t.split()) > 9])


def findings_by_kind(file) -> dict[str, list]:
    findings = {}
    for finding in inspect(file).findings:
        findings.setdefault(finding.kind, []).append(finding)
    return findings


def test_valid_data_have_no_findings(coco):
    assert findings_by_kind(coco([square()])) == {}


def test_duplicate_instances(coco):
    (finding,) = findings_by_kind(coco([square(), square(annotation_id=2), square(annotation_id=3, x=20)]))[
        "duplicate instance"
    ]
    assert (finding.record, finding.detail) == ("1, 'cat' 0 and 1", "identical")
    near = square(annotation_id=2, side=20)
    near["segmentation"] = [[5, 5, 25, 5, 25, 24, 5, 24]]
    (finding,) = findings_by_kind(coco([square(side=20), near]))["duplicate instance"]
    assert finding.detail == "IoU 0.95"


def test_a_copy_in_another_split_is_a_leak_and_not_usable(coco, tmp_path):
    file = coco([square()])
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "b.png").write_bytes((tmp_path / "train" / "a.png").read_bytes())
    content = json.loads(file.read_text())
    content["images"][0]["file_name"] = "b.png"
    (tmp_path / "annotations" / "instances_val.json").write_text(json.dumps(content))
    inspection = inspect(file)
    (finding,) = [f for f in inspection.findings if f.kind == "leak between splits"]
    assert finding.detail.startswith("the same file as 1 of train")
    assert not inspection.usable
    last = inspection.lines(5)[-1]
    assert last.startswith("not usable as it is: leak between splits: ")
    assert "b.png, 1: the same file as 1 of train" in last
    assert finding.other == ("train", "1")


def test_a_near_duplicate_image(coco, tmp_path):
    smooth = np.asarray(
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)).resize((40, 30))
    )
    (tmp_path / "train").mkdir()
    Image.fromarray(smooth).save(tmp_path / "train" / "a.png")
    Image.fromarray(smooth).save(tmp_path / "train" / "b.jpg", quality=80)
    images = [{"id": i, "file_name": name, "width": 40, "height": 30} for i, name in ((1, "a.png"), (2, "b.jpg"))]
    (finding,) = findings_by_kind(coco([square(), square(2, 2)], images, draw=False))["duplicate image"]
    assert finding.detail == "looks the same as 1"


def test_an_instance_too_small_for_the_mask_loss(coco, tmp_path):
    image = {"id": 1, "file_name": "large.png", "width": 2000, "height": 1500}
    speck = square(segmentation=[[1000, 700, 1002, 700, 1002, 702, 1000, 702]], bbox=[1000, 700, 2, 2])
    file = coco([speck, square(annotation_id=2, side=200)], [image])
    (finding,) = findings_by_kind(file)["too small for the mask loss"]  # the nearest columns there are 996 and 1003
    assert "4 px of 2000×1500 are no pixel at 288 px" in finding.detail


def test_texts_that_are_no_noun_phrases(coco):
    names = [
        "objects",
        "defects-Resz-FKix9ab",
        "loc",
        "cat",
        "cats",
        "a word that goes on and on and on without any end",
    ]
    categories = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
    findings = findings_by_kind(coco([square(category_id=4)], categories=categories))
    assert [f.record for f in findings["not a noun phrase"]] == ["'objects'", "'defects resz fkix9ab'", "'loc'"]
    details = [f.detail for f in findings["two phrases for one concept"]]
    assert details == ["'cat' and 'cats'"]
    assert len(findings["longer than 32 tokens"]) == 1


def test_rows_that_cannot_be_used_are_all_listed(coco):
    images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (1, 2, 3)]
    annotations = [square(), square(2, 2), square(3, 3)]
    coco(annotations, images)
    images[1]["width"], images[2]["height"] = 41, 31
    inspection = inspect(coco(annotations, images, draw=False))
    findings = [f for f in inspection.findings if f.kind == "rows that cannot be used"]
    assert [(f.record, f.example_id) for f in findings] == [("image id 2 (2.png)", "2"), ("image id 3 (3.png)", "3")]
    assert all(f.file.endswith("instances_train.json") for f in findings)
    assert findings[0].detail.startswith("`width`×`height` is 41×30, but the upright image")
    assert not inspection.usable
    assert inspection.plain()["splits"]["train"]["images"] == 1


def test_a_split_that_cannot_be_read_does_not_hide_the_others(coco, tmp_path):
    file = coco([square()])
    (tmp_path / "annotations" / "instances_val.json").write_text("{")
    inspection = inspect(file)
    assert inspection.usable
    (finding,) = [f for f in inspection.findings if f.kind == "a split cannot be read"]
    assert "this is not JSON" in finding.detail


def test_rotated_and_empty_images_are_reported(coco, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "train").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8)).save(
        tmp_path / "train" / "a.jpg", exif=exif
    )
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(
        tmp_path / "train" / "b.jpg"
    )
    images = [{"id": i, "file_name": name, "width": 40, "height": 30} for i, name in ((1, "a.jpg"), (2, "b.jpg"))]
    findings = findings_by_kind(coco([square()], images, draw=False))
    assert [f.record for f in findings["rotated by EXIF"]] == ["1"]
    assert [f.record for f in findings["images without an instance"]] == ["2"]


@pytest.mark.parametrize("split", ["train", "validation"])
def test_without_a_training_split_nothing_is_usable(coco, split):
    name = {"train": "instances_train.json", "validation": "instances_val.json"}[split]
    assert inspect(coco([square()], name=name)).usable == (split == "train")


def test_box_areas_and_images_without_annotations_are_reported(coco, tmp_path):
    triangle = square(segmentation=[[5, 5, 15, 5, 5, 15]])
    file = coco([triangle])
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "train" / "forgotten.png")
    findings = findings_by_kind(file)
    assert findings.keys() == {"images that no annotation lists", "listed area is the box's"}
    assert "such as forgotten.png" in findings["images that no annotation lists"][0].record
    (finding,) = findings["listed area is the box's"]
    assert finding.record == "image id 1 (a.png), annotation id 1"
    assert finding.detail == "100 px, its mask has 45, which is used"


def test_a_box_or_an_area_that_differs_from_the_mask_is_reported(coco):
    wide, heavy = square(annotation_id=2, bbox=[5, 5, 14, 10], x=20), square(annotation_id=3, y=18, area=150)
    wide["bbox"][0] = 20
    findings = findings_by_kind(coco([square(), wide, heavy]))
    assert findings.keys() == {"listed box is not the mask's", "listed area is not the mask's"}
    assert (
        findings["listed box is not the mask's"][0].detail == "IoU 0.71, an edge is 4 px off; the mask's box is used"
    )
    assert findings["listed area is not the mask's"][0].detail == "150 px, its mask has 100, which is used"


def test_a_mask_image_in_pieces_is_reported(tmp_path):
    options = TREES["mask_files"](tmp_path)
    findings = inspect(tmp_path / "_" / "_", **options).findings
    (pieces,) = [finding for finding in findings if finding.kind == "mask in pieces"]  # the second apple
    assert pieces.record.endswith("first.png, mask 1.png")
    assert pieces.detail.startswith("2 pieces of 100, ")


def test_channels_that_a_model_does_not_use_are_reported(coco, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    grey = np.repeat(noise[..., :1], 3, axis=-1)
    alpha = np.concatenate([noise, np.full_like(noise[..., :1], 200)], axis=-1)
    (tmp_path / "train").mkdir()
    for name, values in (("grey", grey), ("alpha", alpha), ("deep", noise[..., 0].astype(np.uint16) * 200)):
        Image.fromarray(values).save(tmp_path / "train" / f"{name}.png")
    names = ("grey", "alpha", "deep")
    images = [{"id": i, "file_name": f"{n}.png", "width": 40, "height": 30} for i, n in enumerate(names)]
    findings = findings_by_kind(coco([square(i, i + 1) for i in range(3)], images, draw=False))["channels of images"]
    assert [f.record for f in findings] == ["0", "1", "2"]
    assert [Path(f.file).name for f in findings] == ["grey.png", "alpha.png", "deep.png"]
    details = " ".join(f.detail for f in findings)
    for word in ("grey stored as colour", "partly transparent", "more than 8 bits"):
        assert word in details


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        (lambda v: np.rot90(v), "turned 90° counterclockwise"),
        (lambda v: np.rot90(v, 3), "turned 90° clockwise"),
        (lambda v: v[:, ::-1], "mirrored"),
    ],
)
def test_rotated_and_mirrored_copies_are_reported(coco, tmp_path, turn, expected):
    small = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(small).resize((64, 64)))
    (tmp_path / "train").mkdir()
    Image.fromarray(picture).save(tmp_path / "train" / "a.png")
    Image.fromarray(np.ascontiguousarray(turn(picture))).save(tmp_path / "train" / "b.png")
    images = [{"id": i, "file_name": f"{n}.png", "width": 64, "height": 64} for i, n in ((1, "a"), (2, "b"))]
    (finding,) = findings_by_kind(coco([square(), square(2, 2)], images, draw=False))["duplicate image"]
    assert expected in finding.detail


def test_images_of_a_split_that_lists_others(coco, tmp_path):
    """Exports of Roboflow can contain the annotations of another split."""
    file = coco([square()])
    (tmp_path / "val").mkdir()
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "val" / "other.png")
    content = json.loads(file.read_text())
    content["images"][0]["file_name"] = "gone.png"
    (tmp_path / "annotations" / "instances_val.json").write_text(json.dumps(content))
    (finding,) = findings_by_kind(file)["a split cannot be read"]
    assert "all 1 listed images are missing" in finding.detail


def test_unlabelled_images_of_a_split_that_cannot_be_read_are_reported(coco, tmp_path):
    content = json.loads(coco([square()]).read_text())
    (tmp_path / "valid").mkdir()
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "valid" / "other.png")
    file = tmp_path / "train" / "_annotations.coco.json"
    (tmp_path / "annotations" / "instances_train.json").rename(file)
    (tmp_path / "annotations").rmdir()
    content["images"][0]["file_name"] = "gone.png"
    (tmp_path / "valid" / "_annotations.coco.json").write_text(json.dumps(content))
    (finding,) = findings_by_kind(file)["images that no annotation lists"]
    assert "such as other.png" in finding.record


def test_augmented_copies_of_one_source(coco, tmp_path):
    names = ["x_jpg.rf.0a.png", "x_jpg.rf.1b.png", "y_jpg.rf.2c.png"]
    images = [{"id": i, "file_name": name, "width": 40, "height": 30} for i, name in enumerate(names)]
    (finding,) = findings_by_kind(coco([square(i, i + 1) for i in range(3)], images))["augmented copies"]
    assert (finding.record, finding.number, finding.detail) == ("x_jpg", 2, "2 files of one image")
    assert (finding.example_id, finding.other) == ("1", ("train", "0"))


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_a_labelme_file_with_the_image_data_of_another(tmp_path, prefix):
    TREES["labelme"](tmp_path)
    for name, image in (("first", "second"), ("second", "second")):
        file = tmp_path / f"{name}.json"
        data = base64.b64encode((tmp_path / f"{image}.png").read_bytes()).decode()
        file.write_text(json.dumps(json.loads(file.read_text()) | {"imageData": prefix + data}))
    findings = [f for f in inspect(tmp_path / "_" / "_").findings if "imageData" in f.kind]
    assert [Path(f.record).name for f in findings] == ["first.json"]


def test_a_labelme_file_with_its_own_image_encoded_again(tmp_path):
    TREES["labelme"](tmp_path)
    for name in ("first", "second"):
        content = io.BytesIO()
        Image.open(tmp_path / f"{name}.png").convert("RGB").save(content, "JPEG")
        file, data = tmp_path / f"{name}.json", base64.b64encode(content.getvalue()).decode()
        file.write_text(json.dumps(json.loads(file.read_text()) | {"imageData": data}))
    assert not [f for f in inspect(tmp_path / "_" / "_").findings if "imageData" in f.kind]


def test_an_image_that_cannot_be_used_is_one_finding(coco, tmp_path):
    images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (1, 2)]
    file = coco([square(1, 1), square(2, 2)], images)
    (tmp_path / "train" / "2.png").write_bytes(b"no image")
    found = findings_by_kind(file)
    assert list(found) == ["rows that cannot be used"]
    assert len(found["rows that cannot be used"]) == 1


def test_an_annotation_that_cannot_be_used_is_usable_only_if_it_may_be_left_out(coco):
    file = coco([square(), square(1, 2, segmentation=[[1, 1, 5, 5]])])
    assert "annotation id 2" in str(findings_by_kind(file)["annotations that cannot be used"])
    assert not inspect(file).usable
    assert inspect(file, on_bad_rows="skip").usable
