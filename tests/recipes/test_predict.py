"""sam3_predict.py as a person starts it."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.load import DatasetOptions, load_phrase_dataset
from sam_ft.data.readers.records import ReadOptions
from sam_ft.ops.masks import decode_mask


ASKED = ["--phrases", "circle", "triangle", "rectangle", "--score_threshold", "0.2", "--workers", "0"]


def read(folder, **options):
    return load_phrase_dataset(
        DatasetOptions(str(folder) if folder else None, **options), ReadOptions(), with_train=True
    )


def found_in(data, names=None):
    """Masks by the image's name and phrase."""
    rows = [row for rows in (data.train, data.validation) for row in rows.remove_columns("image")]
    masks = {}
    for row in rows:
        for phrase in row["phrases"]:
            for i in phrase["instances"]:
                name = row["example_id"].rpartition("/")[2]
                key = (names or {}).get(name, name), phrase["text"]
                mask = decode_mask(row["instances"][i]["segmentation"], row["height"], row["width"])
                masks.setdefault(key, []).append(mask)
    return masks


def test_everything_that_is_written_reads_back(script, shapes, tmp_path):
    outputs = ["coco", "labelme", "yolo", "overlays", "masks"]
    status, _, said = script("sam3_predict.py", "--images", shapes / "train", *ASKED, "--outputs", *outputs)
    assert status == 0, said
    folder = tmp_path / "out" / "predictions"
    results = json.loads((folder / "results.json").read_text())
    coco = json.loads((folder / "coco.json").read_text())
    assert len(results) == len(coco["annotations"]) >= 6
    wanted = {}
    for result in results:
        image = coco["images"][result["image_id"] - 1]
        key = image["file_name"].removesuffix(".png"), coco["categories"][result["category_id"] - 1]["name"]
        mask = decode_mask(result["segmentation"]["counts"], image["height"], image["width"])
        wanted.setdefault(key, []).append(mask)

    for data, exact in (
        (read(None, annotation_file=str(folder / "coco.json"), image_folder=str(shapes / "train")), True),
        (read(folder / "labelme"), False),
        (read(folder / "yolo"), False),
    ):
        ids = {str(image["id"]): image["file_name"].removesuffix(".png") for image in coco["images"]}
        again = found_in(data, ids if exact else None)
        assert again.keys() == wanted.keys()
        for key, masks in wanted.items():
            assert len(again[key]) == len(masks)
            for mask in masks:
                best = max((mask & other).sum() / (mask | other).sum() for other in again[key])
                # outlines may be a pixel off: of things 20 px wide
                assert best == 1 if exact else best > 0.75, key
    for (name, phrase), masks in wanted.items():
        with Image.open(folder / "masks" / name / f"{phrase}.png") as picture:
            assert ((np.asarray(picture) > 0) == np.any(masks, axis=0)).all()
    assert len(list((folder / "overlays").glob("*.jpg"))) == 4
    assert (folder / "yolo" / "data.yaml").read_text().count("circle") == 1


def test_goes_on_where_it_stopped(script, shapes, tmp_path):
    call = ["sam3_predict.py", "--images", shapes / "train", *ASKED, "--predictions_dir", "p"]
    assert script(*call)[0] == 0
    results = (tmp_path / "p" / "results.json").read_text()
    done = sorted((tmp_path / "p" / "predictions").glob("*.json"))
    kept = done[0].stat().st_mtime_ns
    done[1].unlink()
    (tmp_path / "p" / "results.json").unlink()
    status, _, said = script(*call)
    assert status == 0
    assert "3 of 4 images were answered before" in said
    assert (tmp_path / "p" / "results.json").read_text() == results
    assert done[0].stat().st_mtime_ns == kept
    status, _, said = script(*call, "--max_detections", "3")
    assert status == 1
    assert "`max_detections` was 100, is 3" in said


def test_another_image_of_the_same_name_is_asked_anew(script, shapes, tmp_path):
    """As cameras name them: two folders, one after the other, into the same predictions."""
    files = sorted((shapes / "train").glob("*.png"))[:2]
    for day, file in zip(("monday", "tuesday"), files, strict=True):
        (tmp_path / day).mkdir()
        shutil.copyfile(file, tmp_path / day / "img_1.png")
    found = {}
    for day in ("monday", "tuesday"):
        status, _, said = script("sam3_predict.py", "--images", day, *ASKED, "--outputs", "coco", "yolo")
        assert status == 0, said
        assert "answered before" not in said
        folder = tmp_path / "out" / "predictions"
        found[day] = (folder / "results.json").read_text()
        assert (folder / "yolo" / "images" / "img_1.png").read_bytes() == (tmp_path / day / "img_1.png").read_bytes()
    assert found["monday"] != found["tuesday"]


def test_trained_phrases_are_the_default(script, tuned, new_shapes, tmp_path):
    image = sorted((new_shapes / "val").glob("*.png"))[0]
    status, _, said = script(
        "sam3_predict.py", "--model_name_or_path", tuned.folder, "--images", image, "--workers", "0"
    )
    assert status == 0, said
    assert "asked for cross, heart, star" in said
    assert "thresholds: best F1 at IoU 0.5" in said


def test_exemplars_alone(script, shapes, tmp_path):
    (tmp_path / "boxes.json").write_text(json.dumps({"00001.png": [[20, 20, 40, 40], [5, 5, 10, 10, 0]]}))
    status, _, said = script(
        "sam3_predict.py", "--images", shapes / "train", "--exemplar_file", "boxes.json", "--score_threshold", "0", "--workers", "0"
    )  # fmt: skip
    assert status == 0, said
    assert "visual: 25 in 1 of 1 images" in said


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--images", "nowhere"], "'nowhere': there is no such file"),
        (["--images", "empty"], "'empty': the folder holds no image"),
        ([], "give files, folders or globs"),
        (["--images", "some", "--phrases", ""], "holds an empty one"),
        (["--images", "some"], "there is nothing to ask"),
        (["--images", "some", "--phrases", "x", "--outputs", "cocoo"], "invalid choice"),
        (["--images", "some", "--phrases", "x", "--nms_iom", "3"], "`nms_iom` is 3.0"),
        (["--images", "some", "--phrases", "x", "--predictions_dir", "some"], "so it is no prediction"),
        (["--images", "bad", "--phrases", "x"], "cannot be read"),
        (["--images", "some", "--exemplar_file", "no.json"], "is no JSON file"),
        (["--images", "some", "--exemplar_file", "list.json"], "holds a list"),
        (["--images", "some", "--exemplar_file", "stray.json"], "given for the image 'b', which is not asked"),
        (["--images", "some", "--exemplar_file", "nan.json"], "expected \\[\\[x, y, w, h"),
    ],
)
def test_bad_input(script, shapes, tmp_path, arguments, message):
    import re

    for name in ("empty", "some", "bad"):
        (tmp_path / name).mkdir()
    shutil.copyfile(shapes / "train" / "00001.png", tmp_path / "some" / "a.png")
    (tmp_path / "bad" / "b.png").write_bytes((shapes / "train" / "00001.png").read_bytes()[:300])
    for name, content in (("list", "[1]"), ("stray", '{"b": [[1, 2, 3, 4]]}'), ("nan", '{"a": [[1, 2, NaN, 4]]}')):
        (tmp_path / f"{name}.json").write_text(content)
    status, _, said = script("sam3_predict.py", *arguments, "--workers", "0")
    assert status == 1
    assert re.search(message, said), said


def test_bad_images_can_be_left_out(script, shapes, tmp_path):
    shutil.copytree(shapes / "train", tmp_path / "some")
    (tmp_path / "some" / "zz.png").write_text("no image")
    call = ["sam3_predict.py", "--images", "some", *ASKED, "--on_bad_images", "skip"]
    status, _, said = script(*call)
    assert status == 0, said
    assert "left out: some/zz.png: the image some/zz.png cannot be read" in said
    assert len(json.loads((tmp_path / "out" / "predictions" / "coco.json").read_text())["images"]) == 4
