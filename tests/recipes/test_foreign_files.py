"""Foreign files: no recipe changes files of the user in its output folder, even if it fails."""

import json

import pytest

from sam_ft.commands.run_folder import prepare_run_folder
from sam_ft.utils.locks import LOCK_FILE, hold_lock


SHORT = [
    "--max_steps", "1", "--gradient_accumulation_steps", "1", "--dataloader_num_workers", "0",
    "--disable_tqdm", "true", "--use_cpu", "true", "--report_to", "none", "--num_pictures", "1",
    "--save_strategy", "steps", "--save_steps", "1", "--eval_strategy", "no",
]  # fmt: skip
# typical files of users, some below folders that a run writes to
FOREIGN = (
    "notes.txt", "data/train/a.png", "good/model.safetensors", "good/run.yaml", "card/holiday.png", "before/notes.md",
    "eval/results.csv", "eval/pictures/mine.png", "retention/notes.md", "runs/other/events.txt",
    "checkpoint-7/notes.txt", "base.old/config.json",
    "checkpoint-best-5/model.safetensors", "my_model.safetensors", "base/notes.txt", "overlays/mine.jpg",
    "yolo/images/mine.jpg", "predictions/mine.txt", "annotations/mine.json", "train_images/mine.png", "sheet-9.png",
)  # fmt: skip


class ForeignFiles:
    """Files of a user below a folder, and a check that they are unchanged."""

    def __init__(self, folder, names=FOREIGN):
        self.files = {folder / name: f"mine: {name}".encode() for name in names}
        for file, content in self.files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    def check(self):
        changed = [
            str(file) for file, content in self.files.items() if not file.is_file() or file.read_bytes() != content
        ]
        assert not changed


def names_in(folder):
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(params=["sam3", "sam2"])
def family(request):
    model = {"sam3": "sam-ft/random-tiny", "sam2": "sam-ft/random-tiny-sam2"}[request.param]
    keys = {"sam3": ["--probe_images", "1"], "sam2": ["--eval_clicks", "1", "--resolution", "64"]}[request.param]
    return request.param, model, keys


@pytest.mark.slow
def test_training_keeps_foreign_files(script, shapes, tmp_path, family):
    name, model, keys = family
    recipe, out = f"{name}_ft.py", tmp_path / "out"
    call = [recipe, "--dataset_name", shapes, "--model_name_or_path", model, "--output_dir", "out", *SHORT, *keys]
    # the folder contains files but no run
    foreign = ForeignFiles(out)
    status, _, stderr = script(*call)
    assert status == 1
    assert "already contains" in stderr
    assert names_in(out) == set(FOREIGN)
    for file in foreign.files:
        file.unlink()
    for folder in sorted(out.rglob("*"), reverse=True):
        folder.rmdir()
    # a failed run is followed by one with other settings
    status, _, stderr = script(*call, "--freeze", "nothing")
    assert status == 1
    assert (out / "run.yaml").is_file()
    foreign = ForeignFiles(out)
    status, _, stderr = script(*call)
    assert status == 0, stderr
    foreign.check()
    assert (out / "model.safetensors").is_file()
    # the card is edited before the same run, other settings, and `--start_over`
    (out / "README.md").write_text("my card")
    assert script(*call)[0] == 0
    status, _, stderr = script(*call, "--learning_rate", "1e-5")
    assert status == 1
    assert "`learning_rate` was" in stderr
    status, _, stderr = script(*call, "--learning_rate", "1e-5", "--start_over", "true")
    assert status == 0, stderr
    foreign.check()
    assert (out / "README.md").read_text() == "my card"
    assert (out / "README.new.md").is_file()


@pytest.mark.slow
def test_evaluation_keeps_foreign_files(script, shapes, tmp_path, family):
    name, model, keys = family
    keys = [
        *keys,
        "--use_cpu",
        "true",
        "--dataloader_num_workers",
        "0",
        "--num_pictures",
        "1",
        "--bootstrap_samples",
        "0",
    ]
    call = [f"{name}_eval.py", "--dataset_name", shapes, "--model_name_or_path", model, *keys]
    foreign = ForeignFiles(tmp_path / "mine")
    status, _, stderr = script(*call, "--output_dir", "mine")
    assert status == 1
    assert "no evaluation.yaml" in stderr
    foreign.check()
    status, _, stderr = script(*call)
    assert status == 0, stderr
    folder = tmp_path / "out" / "eval" / model.split("/")[1]
    foreign = ForeignFiles(folder)
    assert script(*call)[0] == 0
    status, _, stderr = script(*call, "--max_eval_samples", "1")
    assert status == 1
    assert "`max_eval_samples` was None, is 1" in stderr
    assert script(*call, "--max_eval_samples", "1", "--overwrite", "true")[0] == 0
    foreign.check()
    # files of the user with names of the evaluation's own
    for name in ("data.json", "eval/results.json", "eval_results.json"):
        written = (folder / name).read_bytes()
        (folder / name).write_text("mine")
        for arguments in (["--max_eval_samples", "1"], ["--overwrite", "true"]):
            status, _, stderr = script(*call, *arguments)
            assert status == 1
            assert f"already contains {name}, which this command did not write" in stderr
        assert (folder / name).read_text() == "mine"
        (folder / name).write_bytes(written)
    # an evaluation never writes to the folder of a training run
    (tmp_path / "run").mkdir()
    prepare_run_folder(tmp_path / "run", {})
    status, _, stderr = script(*call, "--output_dir", "run/score")
    assert status == 1
    assert "belongs to the training run" in stderr


def test_an_evaluation_with_the_yaml_of_a_run_keeps_its_report(script, shapes, tmp_path):
    (tmp_path / "run.yaml").write_text(
        f"dataset_name: {shapes}\noutput_dir: out/run\nmodel_name_or_path: sam-ft/random-tiny\n"
    )
    ForeignFiles(tmp_path / "out" / "run", ["report.html", "README.md"])
    keys = [
        "--use_cpu",
        "true",
        "--dataloader_num_workers",
        "0",
        "--num_pictures",
        "0",
        "--bootstrap_samples",
        "0",
        "--probe_images",
        "0",
    ]
    status, _, stderr = script("sam3_eval.py", "--config", "run.yaml", *keys)
    assert status == 0, stderr
    assert names_in(tmp_path / "out" / "run") == {"report.html", "README.md"}
    assert (tmp_path / "out" / "eval" / "random-tiny" / "report.html").is_file()


def test_prediction_keeps_foreign_files(script, shapes, tmp_path):
    outputs = ["coco", "labelme", "yolo", "overlays", "masks"]
    call = [
        "sam3_predict.py",
        "--images",
        shapes / "val",
        "--phrases",
        "circle",
        "--workers",
        "0",
        "--predictions_dir",
        "p",
    ]
    call += ["--outputs", *outputs]
    foreign = ForeignFiles(tmp_path / "p")
    status, _, stderr = script(*call)
    assert status == 1
    assert "already contains" in stderr
    foreign.check()
    call[call.index("p")] = "q"
    ForeignFiles(tmp_path / "q" / "sub", []).check()
    status, _, stderr = script(*call, "--model_name_or_path", "./nothing")  # the error comes before the first output
    assert status == 1
    assert script(*call)[0] == 0
    foreign = ForeignFiles(tmp_path / "q")
    corrected = tmp_path / "q" / "labelme" / "00001.json"
    corrected.write_text(json.dumps({"corrected": True}))
    assert script(*call)[0] == 0
    (tmp_path / "q" / "predictions" / "00001.json").unlink()
    status, _, stderr = script(*call)
    assert status == 1
    assert "labelme/00001.json was not written by this prediction, or was edited since" in stderr
    assert json.loads(corrected.read_text()) == {"corrected": True}
    corrected.unlink()
    for name in ("overlays/00001.jpg", "masks/00001/circle.png", "yolo/labels/00001.txt"):
        (tmp_path / "q" / name).unlink(missing_ok=True)
    status, _, stderr = script(*call)
    assert status == 0, stderr
    record = tmp_path / "q" / "predictions" / "00002.json"
    for text in ("[]", '{"mine": 1}'):
        written = record.read_bytes()
        record.write_text(text)
        status, _, stderr = script(*call)
        assert status == 1
        assert "00002.json is no record of a prediction" in stderr
        assert record.read_text() == text
        record.write_bytes(written)
    (tmp_path / "q" / "coco.json").write_text("{}")
    status, _, stderr = script(*call)
    assert status == 1
    assert "coco.json" in stderr
    status, _, stderr = script(*call, "--max_detections", "3")
    assert status == 1
    foreign.check()


def test_check_keeps_foreign_files(script, shapes, tmp_path):
    call = [
        "check_data.py",
        "--dataset_name",
        shapes,
        "--gallery_dir",
        "g",
        "--num_pictures",
        "3",
        "--resolution",
        "96",
    ]
    foreign = ForeignFiles(tmp_path / "g", [*FOREIGN, "index.html"])
    status, _, stderr = script(*call)
    assert status == 2
    assert "`gallery_dir`: g already contains index.html" in stderr
    foreign.check()
    (tmp_path / "g" / "index.html").unlink()
    assert script(*call)[0] == 0
    call[call.index("3")] = "1"
    assert script(*call)[0] == 0
    page = (tmp_path / "g" / "index.html").read_text()  # replaces that of the previous check
    assert page[page.index('<section id="samples">') :].count("<figure") == 1
    foreign.files.pop(tmp_path / "g" / "index.html")
    foreign.check()


def test_two_commands_do_not_replace_each_others_files(script, shapes, tmp_path):
    """A gallery is written to a converted data set; a conversion and an export do not replace each other."""
    convert = ["convert_data.py", "--dataset_name", shapes, "--overwrite", "true", "--target_dir"]
    check = ["check_data.py", "--dataset_name", shapes, "--num_pictures", "1", "--resolution", "96", "--gallery_dir"]
    export = ["export.py", "--model_name_or_path", "sam-ft/random-tiny", "--overwrite", "true", "--output_path"]
    assert script(*convert, "c")[0] == 0
    converted = {file: file.read_bytes() for file in (tmp_path / "c").rglob("*.*g")}
    assert len(converted) == 6
    for _ in range(2):
        assert script(*check, "c")[0] == 0
    assert script(*export, "c")[0] == 1
    assert script(*convert, "c")[0] == 1  # the folder now contains a gallery, too
    assert {file: file.read_bytes() for file in converted} == converted
    assert script(*export, "e")[0] == 0
    exported = names_in(tmp_path / "e")
    assert script(*convert, "e")[0] == 1
    assert names_in(tmp_path / "e") == exported


def test_conversion_keeps_foreign_files(script, shapes, tmp_path):
    call = ["convert_data.py", "--dataset_name", shapes, "--target_dir", "c", "--overwrite", "true"]
    foreign = ForeignFiles(tmp_path / "c")
    status, _, stderr = script(*call)
    assert status == 1
    assert "did not write" in stderr
    assert names_in(tmp_path / "c") == set(FOREIGN)
    call[call.index("c")] = "d"
    with hold_lock(tmp_path / f".d{LOCK_FILE}", "target_dir", "d"):  # a concurrent conversion
        status, _, stderr = script(*call)
    assert status == 1
    assert "is already in use by this process" in stderr
    assert script(*call, "--keep_phrases", "nothing")[0] == 1
    assert not (tmp_path / "d").exists()
    assert script(*call)[0] == 0
    first = names_in(tmp_path / "d")
    assert script(*call, "--max_rows", "1")[0] == 0
    assert len(names_in(tmp_path / "d")) < len(first)
    foreign = ForeignFiles(tmp_path / "d")
    before = names_in(tmp_path / "d")
    status, _, stderr = script(*call)
    assert status == 1
    assert names_in(tmp_path / "d") == before
    foreign.check()


def test_export_keeps_foreign_files(script, tmp_path):
    call = ["export.py", "--model_name_or_path", "sam-ft/random-tiny", "--overwrite", "true", "--output_path"]
    foreign = ForeignFiles(tmp_path / "e", [*FOREIGN, "sam3.pt"])
    for output, extra in (("e", []), ("e/sam3.pt", ["--format", "official"])):
        status, _, stderr = script(*call, output, *extra)
        assert status == 1
        assert "did not write" in stderr
    foreign.check()
    for _ in range(2):  # the second export replaces the first one
        assert script(*call, "f")[0] == 0
        assert script(*call, "g/sam3.pt", "--format", "official")[0] == 0
    foreign = ForeignFiles(tmp_path / "f")
    assert script(*call, "f")[0] == 1
    foreign.check()
