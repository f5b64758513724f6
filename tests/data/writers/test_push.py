"""Push of a converted data set to a Hub on this machine."""

import os
import subprocess
import sys

import pytest

from ...hub_server import HubServer


SCRIPT = """
import sys
from sam_ft.data.loading import find_phrase_splits
from sam_ft.data.sources import read_splits
from sam_ft.data.writers import conversion
from sam_ft.options.data import DatasetOptions, ReadOptions

source, target = sys.argv[1:]
splits, _ = find_phrase_splits(DatasetOptions(source))
rows = {name: rows for name, (rows, _) in read_splits(splits, ReadOptions(), num_proc=1).items()}
for number, size in enumerate((1, 1 << 20)):
    conversion._SMALL_FILE = size
    conversion.write_rows(rows, f"{target}/{number}", "a test", 1)
    conversion.push_rows(f"{target}/{number}", "someone/shapes", private=True)
    notes = b"of a user"
    conversion.HfApi().upload_file(
        path_or_fileobj=notes, path_in_repo="data/train-notes.txt", repo_id="someone/shapes", repo_type="dataset"
    )
for repo in ("someone/notes", "someone/other"):
    try:
        conversion.push_rows(f"{target}/0", repo, private=True)
    except ValueError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def pushed(shapes, tmp_path_factory):
    """The server, and the output of the script."""
    folder = tmp_path_factory.mktemp("pushed")
    with HubServer() as hub:
        hub.repos["datasets/someone/notes"] = {"README.md": b"# My notes\n", "data/audio.parquet": b"x"}
        hub.repos["datasets/someone/other"] = {"data/train-00000-of-00009.parquet": b"x", "data/test.parquet": b"x"}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(shapes), str(folder)],
            env={**os.environ, **hub.environment(folder / "home")}, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        yield hub, done.stdout.splitlines()


def test_a_second_push_replaces_the_files_of_the_first(pushed):
    hub, _ = pushed
    first, _, second, _ = hub.history["datasets/someone/shapes"]
    names = [f"data/train-{i:05}-of-00004.parquet" for i in range(4)]
    names += [f"data/validation-{i:05}-of-00002.parquet" for i in range(2)]
    assert {name for name in first if name.startswith("data/")} == set(names)
    names = {"data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet", "README.md"}
    assert set(second) == names | {"data/train-notes.txt"}
    assert hub.private["datasets/someone/shapes"]


def test_files_that_no_conversion_wrote_are_kept(pushed):
    hub, lines = pushed
    assert "'someone/notes' contains README.md, which no conversion wrote" in lines[-2]
    assert "'someone/other' contains data/train-00000-of-00009.parquet, which no conversion wrote" in lines[-1]
    assert set(hub.repos["datasets/someone/notes"]) == {"README.md", "data/audio.parquet"}
    assert set(hub.repos["datasets/someone/other"]) == {"data/train-00000-of-00009.parquet", "data/test.parquet"}
