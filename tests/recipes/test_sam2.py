"""Recipes of SAM 2 as a user runs them: training, evaluation beside SAM 3, prediction, resumption and bad input."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image
from transformers import Sam2Model, Sam2Processor

from ..conftest import square


QUICK = {
    **{
        "resolution": 64,
        "max_steps": 2,
        "eval_clicks": 2,
        "n_rounds": 2,
        "dataloader_num_workers": 0,
        "report_to": "none",
    },
    **{"use_cpu": True, "disable_tqdm": True, "num_pictures": 2, "eval_strategy": "no", "save_strategy": "no"},
}


def keys(**options):
    return [f"--{name}={value}" for name, value in options.items()]


@pytest.fixture
def run(script, shapes, tmp_path):
    def start(recipe="sam2_ft.py", **options):
        return script(recipe, *keys(**({"dataset_name": shapes, "output_dir": "out"} | QUICK | options)))

    return start


def test_run_writes_all_files(run, tmp_path):
    status, _, output = run()
    assert status == 0, output
    out = tmp_path / "out"
    for name in (
        "model.safetensors",
        "processor_config.json",
        "README.md",
        "report.html",
        "report.json",
        "run.yaml",
        "eval/pictures.png",
        "eval/objects.json",
    ):
        assert (
            (out / name).is_file() or name.startswith("processor") and (out / "preprocessor_config.json").is_file()
        ), name
    assert "objects          IoU " in output
    log = (out / "training.log").read_text()
    assert "objects prompted, 2 rounds" in log
    assert "IoU@box" in log
    Sam2Model.from_pretrained(out)
    assert Sam2Processor.from_pretrained(out).target_size == 64
    card = (out / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "- sam2" in card
    columns = json.loads((out / "report.json").read_text())["columns"]
    assert [column["name"] for column in columns] == ["before", "after"]
    assert "IoU@2" in columns[1]["intervals"]
    assert "object_IoU" in columns[1]["differences"]
    picture = np.asarray(Image.open(out / "eval" / "pictures.png").convert("RGB")).reshape(-1, 3)
    assert (picture == (43, 178, 76)).all(1).any(), "clicks in the object are drawn green"
    # The same command again restores the run and trains nothing.
    before = (out / "model.safetensors").read_bytes()
    status, _, output = run()
    assert status == 0, output
    assert (out / "model.safetensors").read_bytes() == before or "resuming" not in output


def test_sam_2_and_sam_3_in_one_table(run, script, shapes, tmp_path):
    options = {
        "dataset_name": shapes,
        "output_dir": "score",
        "use_cpu": True,
        "disable_tqdm": True,
        "num_pictures": 1,
        "probe_images": 0,
        "bootstrap_samples": 20,
    }
    compared = ["boxes=sam-ft/random-tiny-sam2#box", "clicks=sam-ft/random-tiny-sam2#point"]
    status, _, output = script(
        "sam3_eval.py", *keys(model_name_or_path="sam-ft/tiny", **options), "--compare", *compared
    )
    assert status == 0, output
    columns = {
        entry["name"]: entry["metrics"]
        for entry in json.loads((tmp_path / "score" / "report.json").read_text())["columns"]
    }
    assert list(columns) == ["boxes", "clicks", "tiny"]
    assert columns["boxes"]["object_IoU"] == columns["boxes"]["IoU@box"]
    assert columns["clicks"]["object_IoU"] == columns["clicks"]["IoU@1"]
    assert "object_IoU" not in columns["tiny"]
    for name in ("mask_AP", "mean_IoU", "dice", "boundary_F1"):
        assert all(name in metrics for metrics in columns.values()), name
    page = (tmp_path / "score" / "report.html").read_text()
    assert "IoU after a box" in page


@pytest.mark.parametrize("last", [False, True])
def test_an_image_without_objects_stays_in_every_column(script, coco, tmp_path, last):
    """The image ids do not depend on the order of the models."""
    images = [{"id": i, "file_name": f"image-{i}.png", "width": 40, "height": 30} for i in (1, 2, 3)]
    file = coco([square(2), square(3, 2, x=20)], images=images)
    options = {
        "annotation_file": file,
        "eval_annotation_file": file,
        "image_folder": tmp_path / "train",
        "output_dir": "score",
        "use_cpu": True,
    }
    options |= {"disable_tqdm": True, "num_pictures": 1, "bootstrap_samples": 5}
    sam2, sam3 = "sam2=sam-ft/random-tiny-sam2#box", "sam3=sam-ft/random-tiny"
    recipe, model = ("sam2_eval.py", "sam-ft/random-tiny-sam2") if last else ("sam3_eval.py", "sam-ft/random-tiny")
    compared = [sam3 if last else sam2]
    status, _, output = script(recipe, *keys(model_name_or_path=model, **options), "--compare", *compared)
    assert status == 0, output
    truths = [json.loads(f.read_text())["images"] for f in sorted((tmp_path / "score").rglob("ground_truth.json"))]
    assert len(truths) == 2
    assert truths[0] == truths[1]
    assert len(truths[0]) == 3
    page = (tmp_path / "score" / "report.html").read_text()
    assert "prompted with" in page
    assert "geometry token" in page, "each column describes its prompts"


def test_cached_yaml_files_compare_the_other_model_too(script, shapes, tmp_path):
    options = {
        "dataset_name": shapes,
        "output_dir": "score",
        "use_cpu": True,
        "disable_tqdm": True,
        "num_pictures": 0,
        "bootstrap_samples": 0,
    }
    options |= {
        "feature_cache": "cache",
        "cache_views": 3,
        "eval_clicks": 1,
        "model_name_or_path": "sam-ft/random-tiny-sam2",
    }
    status, _, output = script(
        "sam2_eval.py", *keys(**options), "--freeze", "vision_encoder", "--compare", "sam3=sam-ft/random-tiny"
    )
    assert status == 0, output


def test_sam2_eval_scores_one_model_and_others(run, script, shapes, tmp_path):
    options = {
        "dataset_name": shapes,
        "output_dir": "score",
        "use_cpu": True,
        "disable_tqdm": True,
        "num_pictures": 0,
        "bootstrap_samples": 0,
        "eval_clicks": 1,
    }
    model = keys(model_name_or_path="sam-ft/random-tiny-sam2", resolution=64, **options)
    status, _, output = script("sam2_eval.py", *model)
    assert status == 0, output
    alone = json.loads((tmp_path / "score" / "eval_results.json").read_text())
    status, _, output = script("sam2_eval.py", *model, "--compare", "sam3=sam-ft/random-tiny", "--overwrite", "true")
    assert status == 0, output
    again = json.loads((tmp_path / "score" / "eval_results.json").read_text())
    assert again["eval_object_IoU"] == alone["eval_object_IoU"]
    status, _, output = script("sam2_eval.py", *model, "--compare", "sam3=sam-ft/tiny#box", "--overwrite", "true")
    assert status == 1
    assert "is a SAM 3, which takes phrases. Leave out #box" in output
    status, _, output = script(
        "sam2_eval.py", *model, "--compare", "a=sam-ft/random-tiny-sam2#circle", "--overwrite", "true"
    )
    assert status == 1
    assert "The prompt of a SAM 2 is #point or #box" in output


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, size in (("a.png", (60, 40)), ("b.jpg", (30, 50))):
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)).save(
            folder / name
        )
    return folder


def predict(script, photos, prompts, *more):
    file = photos.parent / "prompts.json"
    file.write_text(prompts if isinstance(prompts, str) else json.dumps(prompts))
    return script(
        "sam2_predict.py", "--images", photos, "--prompt_file", file, "--workers", 0, "--device", "cpu", *more
    )


def test_predictions_of_clicks_and_boxes(script, photos, tmp_path):
    prompts = {
        "a": [{"points": [[20, 20, 1]], "label": "cat"}, {"box": [5, 5, 30, 20]}],
        "b.jpg": [{"box": [2, 3, 20, 30], "points": [[10, 10, 0]], "label": "cat"}],
    }
    outputs = ["--outputs", "coco", "overlays", "masks", "labelme", "yolo", "--predictions_dir", "found"]
    status, _, output = predict(script, photos, prompts, *outputs)
    assert status == 0, output
    results = json.loads((tmp_path / "found" / "results.json").read_text())
    assert len(results) == 3
    assert all(entry["score"] == pytest.approx((1 + entry["predicted_iou"]) / 2) for entry in results)
    coco = json.loads((tmp_path / "found" / "coco.json").read_text())
    assert {entry["name"] for entry in coco["categories"]} == {"cat", "object"}
    assert (tmp_path / "found" / "overlays" / "a.jpg").is_file()
    # All images have the same order of classes.
    names = yaml.safe_load((tmp_path / "found" / "yolo" / "data.yaml").read_text())["names"]
    lines = {
        f.stem: [line.split()[0] for line in f.read_text().splitlines()]
        for f in (tmp_path / "found" / "yolo" / "labels").iterdir()
    }
    assert names == {0: "cat", 1: "object"}
    assert set(lines["a"]) <= {"0", "1"}
    assert set(lines["b"]) <= {"0"}
    # The same command again predicts nothing again.
    times = {f: f.stat().st_mtime_ns for f in (tmp_path / "found" / "predictions").rglob("*.json")}
    status, _, output = predict(script, photos, prompts, *outputs)
    assert status == 0
    assert times == {f: f.stat().st_mtime_ns for f in (tmp_path / "found" / "predictions").rglob("*.json")}
    status, _, output = predict(script, photos, prompts | {"a": [{"box": [1, 1, 9, 9]}]}, *outputs)
    assert status == 1
    assert "other settings" in output


def test_a_detectors_coco_file_is_a_prompt_file(script, photos, tmp_path):
    content = {
        "images": [{"id": 1, "file_name": "somewhere/a.png"}, {"id": 2, "file_name": "not_asked.png"}],
        "annotations": [
            {"image_id": 1, "category_id": 7, "bbox": [5, 5, 20, 20]},
            {"image_id": 2, "category_id": 7, "bbox": [1, 1, 5, 5]},
        ],
        "categories": [{"id": 7, "name": "dog"}],
    }
    status, _, output = predict(script, photos, content, "--predictions_dir", "found")
    assert status == 0, output
    assert "2 images, 1 object prompted in 1 of them" in output
    assert [entry["category_id"] for entry in json.loads((tmp_path / "found" / "results.json").read_text())] == [1]


def test_nearest_path_is_used_for_images_with_the_same_name(script, tmp_path):
    for folder in ("train", "val"):
        (tmp_path / "set" / folder).mkdir(parents=True)
        Image.new("RGB", (40, 30)).save(tmp_path / "set" / folder / "1.png")
    content = {
        "images": [{"id": 1, "file_name": "train/1.png"}, {"id": 2, "file_name": "val/1.png"}],
        "annotations": [{"image_id": 1, "bbox": [1, 1, 5, 5]}, {"image_id": 2, "bbox": [9, 9, 5, 5]}],
    }
    status, _, output = predict(script, tmp_path / "set", content, "--predictions_dir", "both")
    assert status == 0, output
    assert "2 objects prompted in 2 of them" in output
    status, _, output = predict(script, tmp_path / "set" / "val", content, "--predictions_dir", "one")
    assert status == 0, output
    assert "1 object prompted in 1 of them" in output


def test_images_without_prompts_are_not_opened(script, photos):
    (photos / "broken.png").write_bytes(b"no image")
    status, _, output = predict(script, photos, {"a": [{"box": [5, 5, 20, 20]}]}, "--predictions_dir", "found")
    assert status == 0, output


def test_image_without_detections_gives_no_result(script, photos, tmp_path):
    content = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [], "categories": []}
    status, _, output = predict(script, photos, content, "--predictions_dir", "found")
    assert status == 0, output
    assert json.loads((tmp_path / "found" / "results.json").read_text()) == []


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({"a": [{"points": [[100, 10, 1]]}]}, "prompts of 'a', object 0: the point [100, 10, 1] lies outside the image of 60×40 px"),
        ({"a": [{"box": [70, 5, 10, 10]}]}, "object 0: the box [70, 5, 10, 10] lies outside the image of 60×40 px"),
        ({"a": [{"box": [5, 5, 0, 10]}]}, "is not [x, y, w, h] in px with an area"),
        ({"a": [{"points": [[5, 5, 2]]}]}, "is not [x, y, 1] (in the object) or [x, y, 0]"),
        ({"a": [{"points": [[5, 5]]}]}, "is not [x, y, 1]"),
        ({"a": [{}]}, "it has neither points nor a box"),
        ({"a": [{"boxx": [1, 1, 2, 2]}]}, "object 0 has 'boxx'; it may have points, box and label"),
        ({"a": [[1, 2, 3, 4]]}, "expected a list of objects with `points` or `box`"),
        ({"z": [{"box": [1, 1, 2, 2]}]}, "the prompts name the image 'z', which is not among `images`"),
        ("[1, 2]", "contains a list; expected"),
        ("{", "cannot be read as JSON"),
        ({}, "there is no prompt"),
        ({"a": [{"box": [1, 1, 2, 2]}], "a.png": [{"box": [3, 3, 2, 2]}]}, "names one image twice, 'a' and 'a.png'"),
        ({"images": [{"id": 1, "file_name": "z.png"}], "annotations": []}, "contains none of `images`"),
        ({"images": [{"id": 1}], "annotations": []}, "is no COCO file (KeyError: 'file_name')"),
    ],
)  # fmt: skip
def test_invalid_prompts_are_refused(script, photos, prompts, message):
    status, _, output = predict(script, photos, prompts)
    assert status == 1
    assert message in output
    assert "Traceback" not in output


def test_bad_input_is_named(run, script, shapes, tmp_path):
    (tmp_path / "empty").mkdir()
    for options, message in (
        ({"dataset_name": tmp_path / "nowhere"}, "nowhere"),
        ({"dataset_name": tmp_path / "empty"}, "empty"),
        ({"model_name_or_path": "sam-ft/tiny"}, "is a SAM 3, but this script is for SAM 2. Use sam3_ft.py"),
        ({"model_name_or_path": tmp_path / "empty"}, "contains no config.json"),
        ({"resolution": 100}, "multiple of 16 px: use 96 or 112"),
        ({"freeze": "text_encoder"}, "`freeze` has no part 'text_encoder'. Choose from: vision_encoder"),
        ({"lora": "text"}, "matches no layer"),
        ({"dtype": "bfloat16"}, "is for frozen encoders"),
        ({"prompt_tipe": "box"}, "Did you mean `--prompt_type`"),
    ):
        status, _, output = run(**options)
        assert status == 1, options
        assert message in output, options
        assert "Traceback" not in output


def test_dry_run_leaves_no_file(run, tmp_path):
    status, _, output = run(dry_run=True)
    assert status == 0, output
    assert "✓ dry run: every stage works here" in output
    assert not (tmp_path / "out").exists()
