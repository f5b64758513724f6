"""End-to-end tests of sam3_predict.py."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from sam_ft.data.loading import load_phrase_dataset
from sam_ft.models.adapter_loading import adapt
from sam_ft.models.base_fingerprint import BASE_FINGERPRINT
from sam_ft.models.families import PACKAGED_MODELS
from sam_ft.models.loading import load_model
from sam_ft.models.processors import load_processor
from sam_ft.ops.masks import decode_mask
from sam_ft.options.data import DatasetOptions, ReadOptions
from sam_ft.options.model import LoraOptions, ModelOptions
from sam_ft.options.model_names import RANDOM_TINY, RANDOM_TINY_SAM2, TINY


PHRASES = ["--phrases", "circle", "triangle", "rectangle", "--score_threshold", "0.2", "--workers", "0"]


def read_dataset(folder, allow_outside_images=False, **options):
    return load_phrase_dataset(
        DatasetOptions(str(folder) if folder else None, **options),
        ReadOptions(allow_outside_images=allow_outside_images),
        with_train=True,
    )


def read_masks(data, names=None):
    """Collect the masks of a data set by image name and phrase."""
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


def test_written_formats_are_read_back(script, shapes, tmp_path):
    outputs = ["coco", "cvat", "labelme", "x_anylabeling", "yolo", "overlays", "masks"]
    status, _, stderr = script("sam3_predict.py", "--images", shapes / "train", *PHRASES, "--outputs", *outputs)
    assert status == 0, stderr
    folder = tmp_path / "out" / "predictions"
    results = json.loads((folder / "results.json").read_text())
    coco = json.loads((folder / "coco.json").read_text())
    assert len(results) == len(coco["annotations"]) >= 6
    expected = {}
    for result in results:
        image = coco["images"][result["image_id"] - 1]
        key = image["file_name"].removesuffix(".png"), coco["categories"][result["category_id"] - 1]["name"]
        mask = decode_mask(result["segmentation"]["counts"], image["height"], image["width"])
        expected.setdefault(key, []).append(mask)

    (folder / "cvat" / "images").symlink_to(shapes / "train")
    for data, exact in (
        (read_dataset(None, annotation_file=str(folder / "coco.json"), image_folder=str(shapes / "train")), True),
        (read_dataset(folder / "cvat", allow_outside_images=True), True),
        (read_dataset(folder / "labelme", allow_outside_images=True), False),
        (read_dataset(folder / "x_anylabeling", allow_outside_images=True), False),
        (read_dataset(folder / "yolo"), False),
    ):
        ids = {
            str(image[key]): image["file_name"].removesuffix(".png")
            for image in coco["images"]
            for key in ("id", "file_name")
        }
        again = read_masks(data, ids if exact else None)
        assert again.keys() == expected.keys()
        for key, masks in expected.items():
            assert len(again[key]) == len(masks)
            for mask in masks:
                best = max((mask & other).sum() / (mask | other).sum() for other in again[key])
                # polygon outlines may be off by a pixel; the objects are about 20 px wide
                assert best == 1 if exact else best > 0.75, key
    for (name, phrase), masks in expected.items():
        with Image.open(folder / "masks" / name / f"{phrase}.png") as picture:
            assert ((np.asarray(picture) > 0) == np.any(masks, axis=0)).all()
    assert len(list((folder / "overlays").glob("*.jpg"))) == 4
    assert (folder / "yolo" / "data.yaml").read_text().count("circle") == 1


def test_stopped_prediction_is_resumed(script, shapes, tmp_path):
    call = ["sam3_predict.py", "--images", shapes / "train", *PHRASES, "--predictions_dir", "p"]
    assert script(*call)[0] == 0
    results = (tmp_path / "p" / "results.json").read_text()
    done = sorted((tmp_path / "p" / "predictions").glob("*.json"))
    unchanged = done[0].stat().st_mtime_ns
    done[1].unlink()  # the state after a kill between the files of one image and its record
    (tmp_path / "p" / "results.json").unlink()
    status, _, stderr = script(*call)
    assert status == 0
    assert "3 of 4 images predicted before" in stderr
    assert (tmp_path / "p" / "results.json").read_text() == results
    assert done[0].stat().st_mtime_ns == unchanged
    status, _, stderr = script(*call, "--max_detections", "3")
    assert status == 1
    assert "`max_detections` was 100, is 3" in stderr


def test_another_image_of_the_same_name_is_predicted_again(script, shapes, tmp_path):
    """Two folders with equal file names are predicted into one folder, one after the other."""
    files = sorted((shapes / "train").glob("*.png"))[:2]
    for day, file in zip(("monday", "tuesday"), files, strict=True):
        (tmp_path / day).mkdir()
        shutil.copyfile(file, tmp_path / day / "img_1.png")
    results = {}
    for day in ("monday", "tuesday"):
        status, _, stderr = script("sam3_predict.py", "--images", day, *PHRASES, "--outputs", "coco", "yolo")
        assert status == 0, stderr
        assert "predicted before" not in stderr
        folder = tmp_path / "out" / "predictions"
        results[day] = (folder / "results.json").read_text()
        assert (folder / "yolo" / "images" / "img_1.png").read_bytes() == (tmp_path / day / "img_1.png").read_bytes()
    assert results["monday"] != results["tuesday"]


def test_trained_phrases_are_the_default(script, tuned, new_shapes, tmp_path):
    image = sorted((new_shapes / "val").glob("*.png"))[0]
    status, _, stderr = script(
        "sam3_predict.py", "--model_name_or_path", tuned.folder, "--images", image, "--workers", "0"
    )
    assert status == 0, stderr
    assert "prompts: cross, heart, star" in stderr
    assert "thresholds: best F1 at IoU 0.5" in stderr


def test_exemplars_without_phrases(script, shapes, tmp_path):
    (tmp_path / "boxes.json").write_text(json.dumps({"00001.png": [[20, 20, 40, 40], [5, 5, 10, 10, 0]]}))
    status, _, stderr = script(
        "sam3_predict.py", "--images", shapes / "train", "--exemplar_file", "boxes.json", "--score_threshold", "0",
        "--workers", "0",
    )  # fmt: skip
    assert status == 0, stderr
    assert "visual: 25 detections in 1 of 1 image" in stderr


def test_exemplars_in_reference_images(script, shapes, tmp_path):
    """A COCO file gives the same prediction, other boxes and another method do not."""
    shutil.copyfile(shapes / "train" / "00001.png", tmp_path / "reference.png")
    box = [20, 20, 40, 40]
    coco = {
        "images": [{"id": 7, "file_name": "reference.png"}],
        "categories": [{"id": 3, "name": "circle"}],
        "annotations": [{"image_id": 7, "category_id": 3, "bbox": box}],
    }
    named = {"circle": {"reference.png": [box]}}
    other = {"circle": {"reference.png": [box, [5, 5, 10, 10, 0]]}}
    for name, content in {"named": named, "coco": coco, "other": other}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    image = sorted((shapes / "train").glob("*.png"))[1]
    call = ["sam3_predict.py", "--images", image, "--score_threshold", "0", "--outputs", "coco", "--workers", "0"]

    def predict(name, *options):
        return script(*call, "--exemplar_images", f"{name}.json", *options)

    status, _, stderr = predict("named")
    assert status == 0, stderr
    assert "prompts: circle" in stderr
    assert "circle: " in stderr
    status, _, stderr = predict("coco")
    assert status == 0, stderr
    assert "1 of 1 image predicted before" in stderr
    status, _, stderr = predict("other", "--exemplar_method", "tokens")
    assert status == 1
    assert "`exemplar_images` was" in stderr
    assert "`exemplar_method` was 'canvas', is 'tokens'" in stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--images", "nowhere"], "'nowhere': there is no such file"),
        (["--images", "empty"], "'empty': the folder contains no image"),
        ([], "give files, folders or globs"),
        (["--images", "some", "--phrases", ""], "contains an empty phrase"),
        (["--images", "some"], "there is no prompt"),
        (["--images", "some", "--phrases", "x", "--outputs", "cocoo"], "invalid choice"),
        (["--images", "some", "--phrases", "x", "--nms_iom", "3"], "`nms_iom` must be between 0.01 and 1, got 3.0"),
        (["--images", "some", "--phrases", "x", "--predictions_dir", "some"], "contains a.png and no predict.yaml"),
        (["--images", "bad", "--phrases", "x"], "cannot be read"),
        (["--images", "some", "--exemplar_file", "no.json"], "no.json cannot be read as JSON"),
        (["--images", "some", "--exemplar_file", "list.json"], "contains a list"),
        (["--images", "some", "--exemplar_file", "unmatched.json"], "name the image 'b', which is not among `images`"),
        (["--images", "some", "--exemplar_file", "nan.json"], "expected \\[\\[x, y, w, h"),
        (["--images", "some", "--exemplar_images", "list.json"], "`exemplar_images`: list.json contains a list"),
        (["--images", "some", "--exemplar_images", "nothing.json"], "nothing.json has no reference image"),
        (["--images", "some", "--exemplar_images", "no_image.json"], "'circle' has no reference image"),
        (["--images", "some", "--exemplar_images", "unmatched.json"], "unmatched.json: .*b.* cannot be read"),
        (["--images", "some", "--exemplar_images", "text.json"], "text.json: .*list.json.* cannot be read"),
        (["--images", "some", "--exemplar_images", "target.json"], "'some/a.png' is also among `images`"),
        (["--images", "bad", "--exemplar_images", "outside.json"], "does not lie in the image of 160×120 px"),
        (["--images", "bad", "--exemplar_images", "no_area.json"], "\\[1, 2, 0, 4\\] has no area"),
        (["--images", "bad", "--exemplar_images", "negative.json"], "'some/a.png': all boxes are negative"),
        (["--images", "bad", "--exemplar_images", "no_box.json"], "'some/a.png' is \\[\\]; expected"),
    ],
)
def test_invalid_input_is_refused(script, shapes, tmp_path, arguments, message):
    import re

    for name in ("empty", "some", "bad"):
        (tmp_path / name).mkdir()
    shutil.copyfile(shapes / "train" / "00001.png", tmp_path / "some" / "a.png")
    (tmp_path / "bad" / "b.png").write_bytes((shapes / "train" / "00001.png").read_bytes()[:300])
    references = {
        "nothing": "{}", "no_image": '{"circle": {}}', "text": '{"list.json": [[1, 2, 3, 4]]}',
        "target": '{"some/a.png": [[1, 2, 3, 4]]}', "outside": '{"some/a.png": [[500, 2, 3, 4]]}',
        "no_area": '{"some/a.png": [[1, 2, 0, 4]]}', "negative": '{"some/a.png": [[1, 2, 3, 4, 0]]}',
        "no_box": '{"some/a.png": []}',
    }  # fmt: skip
    exemplars = {"list": "[1]", "unmatched": '{"b": [[1, 2, 3, 4]]}', "nan": '{"a": [[1, 2, NaN, 4]]}'}
    for name, content in (exemplars | references).items():
        (tmp_path / f"{name}.json").write_text(content)
    status, _, stderr = script("sam3_predict.py", *arguments, "--workers", "0")
    assert status == 1
    assert re.search(message, stderr), stderr


def test_unreadable_images_can_be_skipped(script, shapes, tmp_path):
    shutil.copytree(shapes / "train", tmp_path / "some")
    (tmp_path / "some" / "zz.png").write_text("no image")
    call = ["sam3_predict.py", "--images", "some", *PHRASES, "--on_bad_images", "skip"]
    status, _, stderr = script(*call)
    assert status == 0, stderr
    assert "skipped: some/zz.png: the image some/zz.png cannot be read" in stderr
    assert len(json.loads((tmp_path / "out" / "predictions" / "coco.json").read_text())["images"]) == 4


def save_model(folder, name=RANDOM_TINY, seed=0):
    load_model(ModelOptions(name, seed=seed)).save_pretrained(folder)
    load_processor(name).save_pretrained(folder)


def save_adapter(folder, base, name=RANDOM_TINY):
    adapt(ModelOptions(str(base)), LoraOptions("attention", r=2)).save_pretrained(folder)
    load_processor(name).save_pretrained(folder)


def test_a_phrase_in_another_spelling_has_the_threshold_of_its_normalized_form(script, shapes, tmp_path):
    shutil.copytree(PACKAGED_MODELS[TINY], tmp_path / "model")
    content = {"default": 0.99, "phrases": {"circle": 0.2, "red square": 0.2}}
    (tmp_path / "model" / "thresholds.json").write_text(json.dumps(content))
    counts = []
    for number, phrases in enumerate((["circle", "red square"], ["Circle", "Red_Square"], ["unknown", "thing"])):
        status, _, stderr = script(
            "sam3_predict.py", "--model_name_or_path", "model", "--images", shapes / "train", "--phrases", *phrases,
            "--predictions_dir", f"p{number}", "--outputs", "coco", "--workers", "0",
        )  # fmt: skip
        assert status == 0, stderr
        coco = json.loads((tmp_path / f"p{number}" / "coco.json").read_text())
        assert [category["name"] for category in coco["categories"]] == phrases
        counts.append(len(coco["annotations"]))
    assert counts[0] == counts[1] > counts[2]


@pytest.mark.parametrize("recipe, name", [("sam3_predict.py", RANDOM_TINY), ("sam2_predict.py", RANDOM_TINY_SAM2)])
def test_a_folder_contains_predictions_of_one_base(script, shapes, tmp_path, recipe, name):
    """The weights of the base are replaced between two calls; the adapter has no fingerprint of its base."""
    save_model(tmp_path / "base", name)
    save_adapter(tmp_path / "adapter", tmp_path / "base", name)
    (tmp_path / "adapter" / BASE_FINGERPRINT).unlink()
    (tmp_path / "prompts.json").write_text(json.dumps({"00001": [{"box": [5, 5, 30, 20]}]}))
    prompted = ["--prompt_file", "prompts.json"] if "sam2" in recipe else ["--phrases", "circle"]
    call = [recipe, "--model_name_or_path", "adapter", "--images", shapes / "train", *prompted, "--workers", "0"]
    for _ in range(2):
        status, _, stderr = script(*call, "--outputs", "coco")
        assert status == 0, stderr
    save_model(tmp_path / "base", name, seed=1)
    status, _, stderr = script(*call, "--outputs", "coco")
    assert status == 1
    assert "`weights` was" in stderr


def test_an_adapter_on_another_base_needs_a_flag(script, shapes, tmp_path):
    save_model(tmp_path / "base")
    save_adapter(tmp_path / "adapter", tmp_path / "base")
    save_model(tmp_path / "base", seed=1)
    call = ["sam3_predict.py", "--model_name_or_path", "adapter", "--images", shapes / "train", *PHRASES]
    status, _, stderr = script(*call)
    assert status == 1
    assert "was trained on another base" in stderr
    assert "Traceback" not in stderr
    status, _, stderr = script(*call, "--allow_other_base", "true")
    assert status == 0, stderr


def test_yolo_output_of_symlinked_pictures_is_files(script, shapes, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "linked").mkdir()
    source = sorted((shapes / "train").glob("*.png"))[0]
    shutil.copyfile(source, tmp_path / "pictures" / "a.png")
    (tmp_path / "linked" / "a.png").symlink_to(os.path.join("..", "pictures", "a.png"))
    status, _, stderr = script("sam3_predict.py", "--images", "linked", *PHRASES, "--outputs", "yolo")
    assert status == 0, stderr
    picture = tmp_path / "out" / "predictions" / "yolo" / "images" / "a.png"
    assert not picture.is_symlink()
    assert picture.read_bytes() == source.read_bytes()


def test_predictions_below_the_images_are_not_predicted_again(script, shapes, tmp_path):
    shutil.copytree(shapes / "train", tmp_path / "photos")
    call = ["sam3_predict.py", "--images", "photos", *PHRASES, "--outputs", "overlays", "yolo", "masks"]
    for first in (True, False, False):
        status, _, stderr = script(*call, "--predictions_dir", "photos/predictions")
        assert status == 0, stderr
        assert "4 images, prompts:" in stderr
        assert ("images below `predictions_dir` (photos/predictions) are skipped" in stderr) != first
    status, _, stderr = script(*call[:2], "photos/predictions", *PHRASES, "--predictions_dir", "photos/predictions")
    assert status == 1
    assert "lie below `predictions_dir`" in stderr


@pytest.mark.parametrize("recipe, name", [("sam3_predict.py", RANDOM_TINY), ("sam2_predict.py", RANDOM_TINY_SAM2)])
def test_non_finite_weights_are_one_error_line(script, shapes, tmp_path, recipe, name):
    save_model(tmp_path / "model", name)
    file = tmp_path / "model" / "model.safetensors"
    weights = load_file(file)
    tensor = next(key for key in sorted(weights) if key.startswith("mask_decoder"))
    weights[tensor].view(-1)[0] = float("nan")
    save_file(weights, file, metadata={"format": "pt"})
    (tmp_path / "prompts.json").write_text(json.dumps({"00001": [{"box": [5, 5, 30, 20]}]}))
    prompted = ["--prompt_file", "prompts.json"] if "sam2" in recipe else ["--phrases", "circle"]
    status, _, stderr = script(
        recipe, "--model_name_or_path", "model", "--images", shapes / "train", *prompted, "--workers", "0"
    )
    assert status == 1
    assert f"the tensor `{tensor}` of 'model' contains NaN or infinity" in stderr
    assert "Traceback" not in stderr
    assert not list(tmp_path.glob("out/**/*.json"))
