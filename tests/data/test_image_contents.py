"""Copies of the images of a data set: files under another name, and members of tar and parquet files."""

import shutil
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sam_ft.data.fingerprint import ImageContents
from sam_ft.data.image_entries import ImageEntry
from sam_ft.data.row_schema import to_dataset
from sam_ft.inference.image_sources import find_images


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """Contents of one labelled image file, and a folder with a copy, and with another file of its size."""
    folder = tmp_path_factory.mktemp("contents")
    Image.new("RGB", (8, 8), "red").save(folder / "labelled.png")
    shutil.copy(folder / "labelled.png", folder / "copy.png")
    content = bytearray((folder / "labelled.png").read_bytes())
    content[-1] ^= 1
    (folder / "other.png").write_bytes(content)
    row = {"example_id": "a", "image": str(folder / "labelled.png"), "width": 8, "height": 8}
    return ImageContents(to_dataset([row | {"instances": [], "phrases": []}])), folder


def test_only_files_of_equal_content_are_copies(contents):
    image_contents, folder = contents
    (folder / "empty.png").touch()
    names = ("labelled", "copy", "other", "empty", "absent")
    assert [image_contents.has_copy(ImageEntry(name, str(folder / f"{name}.png"))) for name in names] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_members_of_tar_and_parquet_files_are_copies(contents):
    image_contents, folder = contents
    files = [folder / "copy.png", folder / "other.png"]
    with tarfile.open(folder / "images.tar", "w") as tar:
        for file in files:
            tar.add(file, file.name)
    pq.write_table(pa.table({"image": [file.read_bytes() for file in files]}), folder / "images.parquet")
    for name in ("images.tar", "images.parquet"):
        assert [image_contents.has_copy(image) for image in find_images([str(folder / name)])] == [True, False]
