"""Command `sam-ft review`: out-of-fold predictions, continuation, outputs, and refusals."""

import hashlib
import json
import logging
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from sam_ft import Sam3Predictor
from sam_ft.commands import review_data, review_folds
from sam_ft.commands.program import find_command
from sam_ft.commands.review_folds import list_fold_models
from sam_ft.commands.review_outputs import list_unreliable_phrases
from sam_ft.data.loading import load_phrase_dataset
from sam_ft.data.row_schema import to_dataset
from sam_ft.metrics.label_overlap import Calibration
from sam_ft.models.sam3.model import Sam3ForConceptSegmentation
from sam_ft.options.data import DatasetOptions, ReadOptions
from sam_ft.utils.owned_files import RECORD

from ..conftest import square


KEYS = {
    "model_name_or_path": "sam-ft/tiny", "concept_tokens": 2, "pairs_per_chunk": 64, "cache_text": "true",
    "resize": "plain", "max_steps": 1, "lr_schedule": "transformers", "dataloader_num_workers": 0, "num_folds": 2,
    "use_cpu": "true", "disable_tqdm": "true",
}  # fmt: skip


@pytest.fixture(scope="module")
def run():
    """Return a function that runs the command in this process without changing the package's logger for others."""
    package = logging.getLogger("sam_ft")
    with pytest.MonkeyPatch.context() as patch:
        for attribute, value in (("handlers", []), ("propagate", package.propagate), ("level", package.level)):
            patch.setattr(package, attribute, value)

        def call(folder, **keys):
            words = {**KEYS, "config": folder / "keys.yaml", "review_dir": folder / "review", **keys}
            (folder / "keys.yaml").write_text(f"feature_cache: {folder / 'unused'}\n")
            lists = {name: value if isinstance(value, list) else [value] for name, value in words.items()}
            return find_command("review").run([w for name, v in lists.items() for w in (f"--{name}", *map(str, v))])

        yield call


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def reviewed(run, shapes, tmp_path_factory):
    """A review of six images whose first call was killed in the second fold, with the runs that were started."""
    folder, started = tmp_path_factory.mktemp("review"), []
    shutil.copytree(shapes, folder / "data")
    before, fine_tune = digests(folder / "data"), review_folds.fine_tune

    def record(run, data, **options):
        started.append(Path(run.training.output_dir).name)
        if len(started) == 2:
            raise KeyboardInterrupt
        fine_tune(run, data, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(review_folds, "fine_tune", record)
        with pytest.raises(KeyboardInterrupt):
            run(folder, dataset_name=folder / "data")
        assert not (folder / "review" / "findings.json").exists()
        run(folder, dataset_name=folder / "data", min_finding_score=0)
    assert digests(folder / "data") == before
    return folder, started


def read(folder: Path, name: str):
    return json.loads((folder / "review" / name).read_text())


def test_a_complete_fold_is_not_trained_again(reviewed):
    assert reviewed[1] == ["fold-1", "fold-2", "fold-2"]


def test_no_image_is_predicted_by_a_model_that_was_trained_on_it(reviewed):
    folder, _ = reviewed
    fold_of = read(folder, "folds.json")["fold_of"]
    assert len(fold_of) == 6
    for fold in (1, 2):
        trained = read(folder, f"fold-{fold}/data.json")["train"]["examples"].keys()
        predicted = {example for example, *_ in read(folder, f"predictions/fold-{fold}.json")["presence"]}
        assert predicted == {example for example, number in fold_of.items() if number == fold}
        assert trained == fold_of.keys() - predicted
    findings = read(folder, "findings.json")["findings"]
    assert findings
    assert all(finding["fold"] == fold_of[finding["example_id"]] for finding in findings)
    assert [f["score"] for f in findings] == sorted((f["score"] for f in findings), reverse=True)


def test_the_folds_share_one_feature_cache(reviewed):
    folder, _ = reviewed
    for part in ("train", "validation"):
        assert len(list((folder / "review" / "features" / part).glob("*.safetensors"))) == 6
    assert not (folder / "unused").exists()


def test_fold_models_are_loaded_by_the_predictor(reviewed):
    first = list_fold_models(reviewed[0] / "review", 2)[0]
    assert Sam3Predictor.from_pretrained(str(first))._sam.concepts.index.phrases


def test_a_second_call_trains_and_writes_nothing(run, reviewed, monkeypatch):
    folder, _ = reviewed
    monkeypatch.setattr(review_folds, "fine_tune", None)
    before = {path: path.stat().st_mtime_ns for path in (folder / "review").rglob("*") if path.is_file()}
    run(folder, dataset_name=folder / "data", min_finding_score=0)
    after = {path: path.stat().st_mtime_ns for path in (folder / "review").rglob("*") if path.is_file()}
    assert after == before


def test_the_page_shows_each_finding_with_three_pictures(reviewed):
    folder, _ = reviewed
    page, findings = (folder / "review" / "index.html").read_text(), read(folder, "findings.json")["findings"]
    sections = re.findall(r'<section class="entry".*?</section>', page, re.DOTALL)
    assert [re.search(r'id="(\w+)"', section)[1] for section in sections] == [finding["id"] for finding in findings]
    assert all(section.count('<img src="data:image/jpeg') == 3 for section in sections)
    assert "http" not in page


def test_proposals_are_a_data_set_with_the_corrections(reviewed):
    folder, _ = reviewed
    content = read(folder, "proposals/coco.json")
    changed = [annotation["review"]["kind"] for annotation in content["annotations"] if "review" in annotation]
    applied = [f for f in read(folder, "findings.json")["findings"] if f["score"] >= 0.5 and f["proposal"]]
    assert len(changed) == len([f for f in applied if f["kind"] != "merged_or_split"])
    options = DatasetOptions(
        None, annotation_file=str(folder / "review" / "proposals" / "coco.json"), image_folder=str(folder / "data")
    )
    data = load_phrase_dataset(options, ReadOptions(phrase_source="noun_phrase"))
    assert len(data.train) + len(data.validation) == 6


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"num_folds": 3}, "contains the label review of other settings .*`num_folds` was 2, is 3"),
        ({"learning_rate": 0.5}, "contains the label review of other settings .*`learning_rate`"),
        ({"untrained": "true"}, "`untrained` was False, is True"),
    ],
)
def test_other_settings_are_refused(run, reviewed, keys, message):
    with pytest.raises(ValueError, match=message):
        run(reviewed[0], dataset_name=reviewed[0] / "data", **keys)


@pytest.mark.parametrize("name", ["index.html", "findings.json", "proposals/coco.json"])
def test_edited_outputs_are_kept(run, reviewed, name):
    file = reviewed[0] / "review" / name
    content = file.read_bytes()
    file.write_text("mine")
    with pytest.raises(ValueError, match=rf"`review_dir`: .* already contains {file.name}"):
        run(reviewed[0], dataset_name=reviewed[0] / "data")
    assert file.read_text() == "mine"
    file.write_bytes(content)


def test_changed_labels_are_refused(run, reviewed):
    file = next((reviewed[0] / "data").rglob("*train*.json"))
    content = file.read_text()
    changed = json.loads(content)
    changed["annotations"].pop()
    file.write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=r"`review_dir`: .* of earlier data: 1 reviewed image with other annotations"):
        run(reviewed[0], dataset_name=reviewed[0] / "data")
    file.write_text(content)


def test_other_outputs_replace_those_of_an_earlier_call(run, reviewed, monkeypatch):
    folder, _ = reviewed
    monkeypatch.setattr(review_folds, "fine_tune", None)
    run(folder, dataset_name=folder / "data", min_finding_score=0.9, max_findings=0, proposals="label_studio")
    assert not (folder / "review" / "index.html").exists()
    assert {path.name for path in (folder / "review" / "proposals").iterdir()} <= {RECORD, "label_studio"}
    assert all(finding["score"] >= 0.9 for finding in read(folder, "findings.json")["findings"])
    run(folder, dataset_name=folder / "data", min_finding_score=0)
    assert (folder / "review" / "index.html").is_file()
    assert (folder / "review" / "proposals" / "coco.json").is_file()


@pytest.fixture(scope="module")
def selected(run, reviewed):
    """The review with a selection of unlabelled images, and its keys; two of five are new, and each was encoded once."""
    folder, keys = reviewed[0], {"min_finding_score": 0, "next": 3, "proposals": ["coco", "cvat"]}
    labelled, encoded = sorted((folder / "data").rglob("*.png")), []
    (folder / "new").mkdir()
    for i, angle in enumerate((90, 180)):
        Image.open(labelled[i]).rotate(angle).save(folder / "new" / f"{i}.png")
    (folder / "new" / "broken.png").write_bytes(b"no image")
    shutil.copy(labelled[1], folder / "new" / "copy.png")
    names = [f"new/{name}.png" for name in (0, 1, "broken", "copy")]
    (folder / "list.txt").write_text("\n".join([*names, str(labelled[0])]))
    before = digests(folder / "new")
    keys |= {"dataset_name": folder / "data", "unlabelled": folder / "list.txt"}
    encode_images = Sam3ForConceptSegmentation.encode_images
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Sam3ForConceptSegmentation,
            "encode_images",
            lambda model, pixels: encoded.append(len(pixels)) or encode_images(model, pixels),
        )
        run(folder, **keys)
    assert encoded == [1, 1]
    assert digests(folder / "new") == before
    return folder, keys


def test_unlabelled_images_are_ranked_without_labelled_and_damaged_ones(selected):
    folder, _ = selected
    content = read(folder, "next.json")
    assert (content["images"], content["unreadable"], content["models"]) == (3, 1, ["fold-1", "fold-2"])
    assert {Path(image["image"]).name for image in content["next"]} == {"0.png", "1.png"}
    assert [image["rank"] for image in content["next"]] == [1, 2]
    assert content["next"][0]["parts"].keys() == {"presence", "score", "disagreement"}


def test_selected_images_have_pre_annotations(selected):
    folder, _ = selected
    content = read(folder, "next/coco.json")
    assert {image["file_name"] for image in content["images"]} == {"0.png", "1.png"}
    assert (folder / "review" / "next" / "cvat" / "annotations.xml").read_text().count("<image ") == 2


def test_stored_features_predict_as_the_images(selected):
    folder, _ = selected
    (file,) = (folder / "review" / "unlabelled" / "fold-1" / "predictions").rglob("0.json")
    record = json.loads(file.read_text())
    assert not list((folder / "review" / "unlabelled" / "features").glob("*.safetensors"))
    predictor = Sam3Predictor.from_pretrained(str(folder / "review" / "fold-1"), device="cpu")
    presence = predictor(Image.open(folder / "new" / "0.png"), sorted(record["presence"])).presence
    assert presence == pytest.approx(record["presence"], abs=0.02)


def test_cvat_proposals_are_the_labels_with_the_corrections(selected):
    folder, _ = selected
    document = ElementTree.parse(folder / "review" / "proposals" / "cvat" / "annotations.xml")
    content = read(folder, "proposals/coco.json")
    assert [image.get("name") for image in document.iter("image")] == [i["file_name"] for i in content["images"]]
    shapes = [shape.get("label") for tag in ("mask", "box") for shape in document.iter(tag)]
    assert sorted(shapes) == sorted(a["noun_phrase"] for a in content["annotations"] if not a["iscrowd"])


def test_a_second_selection_loads_no_model_and_writes_nothing(run, selected, monkeypatch):
    folder, keys = selected
    before = {path: path.stat().st_mtime_ns for path in (folder / "review").rglob("*") if path.is_file()}
    monkeypatch.setattr(Sam3Predictor, "load", None)
    run(folder, **keys)
    after = {path: path.stat().st_mtime_ns for path in (folder / "review").rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", "`unlabelled`: '.*absent': there is no such file or folder"),
        ("empty", "`unlabelled`: '.*empty': the folder contains no image"),
        ("data", "`unlabelled`: all . images are labelled already. Give other images"),
        ("*.nothing", r"`unlabelled`: '.*nothing': there is no such file or folder"),
    ],
)
def test_unlabelled_images_that_cannot_be_ranked_end_in_one_line(run, reviewed, name, message):
    folder = reviewed[0]
    (folder / "empty").mkdir(exist_ok=True)
    with pytest.raises(ValueError, match=message) as error:
        run(folder, dataset_name=folder / "data", unlabelled=folder / name)
    assert "\n" not in str(error.value)


IMAGES = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (1, 2, 3)]
LABELS = [square(i, i) for i in (1, 2, 3)]


@pytest.mark.parametrize(
    ("images", "labels", "keys", "message"),
    [
        (IMAGES, LABELS, {"num_folds": 5}, "5 folds need at least 5 images, got 3. Add images, or set `num_folds: 3`"),
        (IMAGES[:1], LABELS[:1], {}, "2 folds need at least 2 images, got 1. Add images"),
        (IMAGES[:1], [], {}, "no phrase has a single instance"),
        (IMAGES, [], {}, "no phrase has a single instance"),
        (IMAGES, LABELS[:1], {}, "all labels are in the images of fold 1.* or set `untrained: true`"),
        (IMAGES, LABELS, {"streaming": "true"}, "`streaming` is True, but a review predicts all images"),
        (IMAGES, LABELS, {"max_train_samples": 2}, "`max_train_samples` is 2, but a review"),
        (IMAGES, LABELS, {"review_splits": "val"}, "`review_splits` has no split 'val'. Use one or more of: train"),
        (IMAGES, LABELS, {"output_dir": "out"}, "`output_dir` has no effect on a review"),
        (IMAGES, LABELS, {"push_to_hub": "true"}, "`push_to_hub` has no effect on a review"),
        (IMAGES, LABELS, {"group_by": "(a"}, r"`group_by` is '\(a', which is no valid regex"),
        (IMAGES, LABELS, {"group_by": "abc"}, "`group_by` is 'abc', which has no group in brackets"),
        (IMAGES, LABELS, {"group_by": "(abc)"}, "which matches the path of no image"),
        (IMAGES, LABELS, {"group_by": "folder"}, "2 folds need 2 different images"),
        (IMAGES, LABELS, {"finding_kinds": "wrong"}, "invalid choice: .wrong. .choose from .missing_object"),
    ],
)
def test_data_and_keys_that_cannot_be_reviewed_end_in_one_line(run, coco, tmp_path, images, labels, keys, message):
    coco(labels, images)
    with pytest.raises(ValueError, match=message) as error:
        run(tmp_path, dataset_name=tmp_path, **keys)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("review/fold-*"))


def test_a_folder_with_other_files_is_refused(run, coco, tmp_path):
    coco(LABELS, IMAGES)
    (tmp_path / "review").mkdir()
    (tmp_path / "review" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"`review_dir`: .* already contains notes.txt and no review.yaml"):
        run(tmp_path, dataset_name=tmp_path)
    assert [path.name for path in (tmp_path / "review").iterdir()] == ["notes.txt"]


def test_the_model_as_it_is_reviews_a_single_image(run, coco, tmp_path):
    coco(LABELS[:1], IMAGES[:1])
    (tmp_path / "new").mkdir()
    Image.new("RGB", (40, 30), "green").save(tmp_path / "new" / "green.png")
    keys = {"untrained": "true", "max_findings": 0, "proposals": "label_studio", "unlabelled": tmp_path / "new"}
    run(tmp_path, dataset_name=tmp_path, **keys)
    names = {str(path.relative_to(tmp_path / "review")) for path in (tmp_path / "review").rglob("*") if path.is_file()}
    assert {"findings.json", "predictions/untrained.json", RECORD} <= names
    assert "index.html" not in names
    assert read(tmp_path, "findings.json")["num_folds"] is None
    selection = read(tmp_path, "next.json")
    assert (selection["models"], [Path(image["image"]).name for image in selection["next"]]) == (
        ["untrained"],
        ["green.png"],
    )


def test_phrases_that_are_hardly_found_are_named():
    assert list_unreliable_phrases(Calibration({"nut": 0.6})) == []
    (line,) = list_unreliable_phrases(Calibration({"nut": 0.6, "bolt": 0.1}))
    assert "hardly find the labels of 1 of 2 phrases (mean support below 0.25)" in line
    assert "unreliable: bolt." in line


def test_images_of_open_vocabularies_are_prompted_with_the_phrases_of_others():
    instance = {"bbox": [0.0, 0.0, 2.0, 2.0], "segmentation": None, "area": 4.0, "is_crowd": False}
    texts = {"a": ["nut", "bolt"], "b": ["nut"], "c": ["nail"]}
    rows = [
        {
            "example_id": name, "image": Image.new("RGB", (4, 4)), "width": 4, "height": 4, "instances": [instance],
            "phrases": [{"text": text, "instances": [0], "exhaustive": True} for text in phrases],
        }
        for name, phrases in texts.items()
    ]  # fmt: skip
    rows = to_dataset(rows)
    prompted = review_data.add_prompts(rows.select([1]), rows)[0]["phrases"]
    assert {phrase["text"] for phrase in prompted} == {"nut", "bolt", "nail"}
    assert [phrase["exhaustive"] for phrase in prompted] == [True, False, False]
