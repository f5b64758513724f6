"""Trainings that `sam-ft serve` starts: their processes, folders and keys, and the model that is served afterwards."""

import json
import shutil
import threading
import time
from unittest.mock import MagicMock

import pytest

from sam_ft.arguments import ModelArguments, ServeArguments
from sam_ft.commands import serve, serve_training
from sam_ft.commands.serve_training import ServedTrainings
from sam_ft.inference.label_studio_images import TaskImages
from sam_ft.inference.label_studio_training import TrainingProgress
from sam_ft.options.model import ModelOptions
from sam_ft.options.model_names import TINY

from ..inference.test_label_studio_training import CONFIG, TOKEN, make_task, rectangle, studio  # noqa: F401 (fixture)


# A program in place of Python: it records its command line, and its content decides how it ends.
PROGRAM = """#!/bin/sh
echo "$@" > "$PROGRAM_RECORD"
env > "$PROGRAM_RECORD.env"
for word; do
  test "$previous" = --output_dir && mkdir -p "$word"
  test "$previous" = --feature_cache && mkdir -p "$word"
  previous="$word"
done
echo "first line"
"""


@pytest.fixture
def make(studio, tmp_path, monkeypatch):  # noqa: F811
    """Make trainings of project 3 whose process is a shell script that ends with the given lines."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setenv("PROGRAM_RECORD", str(tmp_path / "record"))
    program = tmp_path / "program.sh"
    monkeypatch.setattr(serve_training.sys, "executable", str(program))
    studio.tasks = [make_task(1, "/data/upload/3/a.png", rectangle("circle"))]

    def build(end="exit 0", source=None, images=None, **keys):
        program.write_text(PROGRAM + end + "\n")
        program.chmod(0o755)
        keys = {"train_project": 3, "train_dir": str(tmp_path / "trainings"), "device": "cpu"} | keys
        return ServedTrainings(ServeArguments(**keys), source or ModelOptions(TINY), images or studio.connect())

    return build


def test_every_training_has_its_own_files(make, tmp_path):
    folder = tmp_path / "trainings"
    trainings = make(train_config="sam3_concepts")
    with trainings.claim_folder("tiny 1"):
        assert trainings.find_finished() is None
        assert [trainings.run(), trainings.run()] == ["0001", "0002"]
        TrainingProgress("0002").write(folder)
        assert trainings.find_finished() == folder / "runs" / "0002"
        words = (tmp_path / "record").read_text().split()
        assert words[:3] == ["-m", "sam_ft.commands.training_process", "finetune"]
        assert dict(zip(words[3::2], words[4::2], strict=True)) == {
            "--config": "sam3_concepts", "--model_name_or_path": TINY, "--dataset_name": str(folder / "data/0002.json"),
            "--allow_outside_images": "true", "--output_dir": str(folder / "runs/0002"), "--disable_tqdm": "true",
            "--feature_cache": str(folder / "features/0002"), "--use_cpu": "true",
        }  # fmt: skip
        assert TOKEN not in (tmp_path / "record.env").read_text()
        assert (folder / "runs/0001.log").read_text() == "first line\n"
        assert json.loads((folder / "data/0001.json").read_text())[0]["data"]["image"].startswith("images/")
        assert not list((folder / "features").iterdir()), "features are removed"
        with pytest.raises(ValueError, match="trainings is already in use by this process"), make().claim_folder("x"):
            pass
    with make().claim_folder("tiny 1"):
        assert make().run() == "0003"
        shutil.rmtree(folder / "runs" / "0002")
        assert make().find_finished() is None
    with (
        pytest.raises(
            ValueError, match=r"contains the trainings of other settings \(`model` was 'tiny 1', is 'tiny 2'"
        ),
        make().claim_folder("tiny 2"),
    ):
        pass


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (
            "echo 'data: no image shows a star. Add one.\n'; exit 1",
            r"training 0001 failed: data: no image shows .* one \(",
        ),
        ("kill -9 $$", r"training 0001 failed: it was ended by SIGKILL \(.*/runs/0001.log\)"),
    ],
)
def test_a_training_that_fails(make, end, message):
    trainings = make(end)
    with trainings.claim_folder("tiny 1"), pytest.raises(ValueError, match=message):
        trainings.run()


def test_a_training_is_stopped_with_the_backend(make, tmp_path):
    trainings, messages = make("exec sleep 60"), []

    def run():
        with pytest.raises(ValueError, match="ended by SIGTERM") as raised:
            trainings.run()
        messages.append(str(raised.value))

    with trainings.claim_folder("tiny 1"):
        thread = threading.Thread(target=run)
        thread.start()
        while not (tmp_path / "record.env").exists():
            thread.join(0.01)
        trainings.stop()
        thread.join(10)
    assert messages


def test_one_gpu_is_visible(make, monkeypatch):
    def visible(device):
        return make(device=device)._build_environment()["CUDA_VISIBLE_DEVICES"]

    assert [visible(device) for device in (None, "cuda", "cuda:1", "cpu")] == ["4", "4", "7", "4,7"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible(None) == ""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert [visible("cuda:2"), visible(None)] == ["2", "0"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"train_config": "sam3_concept"},
            "`train_config`: `--config`: there is no file 'sam3_concept', .* Did you mean",
        ),
        ({"train_config": "sam2_ft"}, "`train_config`: Unknown key"),
        ({"train_config": "demo"}, "`train_config`: "),
        ({"train_project": 4}, "`train_project`: http://studio/ls/ has no project 4 that the token may read"),
    ],
)
def test_keys_that_are_refused_before_serving(make, keys, message):
    with pytest.raises(ValueError, match=message):
        make(**keys)


def test_a_project_that_cannot_be_read(make, studio):  # noqa: F811
    with pytest.raises(ValueError, match="`label_studio_api_key` is missing or not valid"):
        make(images=studio.connect("wrong"))
    with pytest.raises(ValueError, match="cannot be used .*Start Label Studio, or correct the URL"):
        make(images=TaskImages("http://127.0.0.1:1", TOKEN))
    studio.project = {"label_config": "<View/>"}
    with pytest.raises(ValueError, match="the labelling configuration has no PolygonLabels"):
        make()
    with pytest.raises(ValueError, match="`train_after` is 3, but `train_project` is not set"):
        ServeArguments(train_after=3)


class Server:
    """A server that requests a training instead of serving, and ends with the model of its backend."""

    port = 9090
    served = []

    def __init__(self, backend, _host, _port):
        self.backend = backend

    def serve_forever(self):
        self.served.append(self.backend._model.version)
        if self.backend.training.describe()["finished"] is None:
            self.backend.training.request(3)
        while (described := self.backend.training.describe())["finished"] is None and "error" not in described:
            time.sleep(0.01)
        self.served.append(self.backend._model.version)

    def server_close(self):
        pass


def test_the_model_of_the_last_training_is_served(make, studio, tmp_path, monkeypatch):  # noqa: F811
    make()  # writes the program
    folder, sources = tmp_path / "trainings", []
    monkeypatch.setattr(serve, "TaskImages", lambda *_: studio.connect())
    monkeypatch.setattr(serve, "make_server", Server)
    monkeypatch.setattr(serve.Sam3Predictor, "load", lambda source, **_: sources.append(source) or MagicMock())
    monkeypatch.setattr(Server, "served", [])
    arguments = ServeArguments(train_project=3, train_dir=str(folder), device="cpu", train_after=0)
    for _ in range(2):  # the second time after a restart
        serve.serve_label_studio(ModelArguments(TINY), arguments)
    assert [source.model_name_or_path for source in sources] == [TINY, *[str(folder / "runs/0001")] * 2]
    base, tuned = Server.served[:2]
    assert base.startswith("sam-ft/tiny ")
    assert Server.served[1:] == [tuned] * 3
    assert tuned.startswith(f"{folder}/runs/0001 ")
