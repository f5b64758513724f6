"""Sources of images of a prediction: names, files in containers, lists, and lists that are kept on disk."""

import os
import pickle
import shutil
import tarfile
import traceback
import zipfile
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Image, config
from huggingface_hub import constants

from sam_ft.inference import image_list
from sam_ft.inference.image_sources import find_images
from sam_ft.inference.tiling import ImageViews
from tests.hub_server import HubServer


@pytest.fixture
def pictures(shapes):
    return sorted((shapes / "train").glob("*.png"))


def names_of(*entries):
    return [image.name for image in find_images([str(entry) for entry in entries])]


def write_tar(file, members):
    with tarfile.open(file, "w") as tar:
        for name, path in members.items():
            tar.add(path, arcname=name)


def test_names_are_paths_below_the_common_folder(pictures, tmp_path):
    for name in ("a/x.png", "a/x.jpg", "a/x.jpg.png", "b/c/y.png", "b/.hidden.png", "b/notes.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pictures[0], tmp_path / name)
    assert names_of(tmp_path) == ["a/x.jpg_", "a/x.jpg", "a/x.png", "b/c/y"]
    assert names_of(tmp_path / "a" / "x.png", tmp_path / "a", tmp_path / "a" / "*.png")[0] == "x.png"
    assert len(names_of(tmp_path / "a", tmp_path / "a")) == 3
    assert names_of(tmp_path / "b" / "c" / "y.png") == ["y"]


def test_containers_and_lists_give_the_pixels_of_the_files(pictures, tmp_path):
    write_tar(tmp_path / "one.tar", {"0001.jpg": pictures[0], "0001.json": __file__, "../up/2.png": pictures[1]})
    Dataset.from_dict({"image": [str(pictures[2])]}).cast_column("image", Image()).to_parquet(tmp_path / "two.parquet")
    pq.write_table(pa.table({"picture": [pictures[3].read_bytes()], "label": [1]}), tmp_path / "three.parquet")
    (tmp_path / "list.txt").write_text(f"{pictures[0]}\n\n{pictures[1].relative_to(pictures[1].anchor)}\n")
    expected = [view.views[0].canvas for view in ImageViews(find_images(list(map(str, pictures))), 32)]
    images = find_images([str(tmp_path / name) for name in ("one.tar", "two.parquet", "three.parquet")])
    assert [image.name for image in images][:2] == ["one/0001", "one/up/2"]
    views = list(ImageViews(images, 32))
    assert not [view.problem for view in views if view.problem]
    assert all((view.views[0].canvas == canvas).all() for view, canvas in zip(views, expected, strict=True))
    assert names_of(tmp_path) == [
        image.name for image in find_images([str(tmp_path / "*.tar"), str(tmp_path / "*.parquet")])
    ]
    listed = list(ImageViews(find_images([str(tmp_path / "list.txt")]), 32))
    assert (listed[0].views[0].canvas == expected[0]).all()
    assert "cannot be read" in listed[1].problem


def test_no_image_is_lost_and_no_name_leaves_the_folder(pictures, tmp_path):
    members = [("/zz/x.png", 0), ("../y.png", 1), ("x.png", 2), ("x.png", 3)]
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, number in members:
            info = tar.gettarinfo(pictures[number])
            info.name = name
            tar.addfile(info, pictures[number].open("rb"))
    rows = [{"bytes": pictures[number].read_bytes(), "path": "/image.png"} for number in (0, 1)]
    pq.write_table(pa.table({"image": pa.array(rows), "label": [0, 1]}), tmp_path / "b.parquet")
    (tmp_path / "list.txt").write_text(f"\ufeff{pictures[3]}\n", encoding="utf-8")
    images = find_images([str(tmp_path / name) for name in ("a.tar", "b.parquet")])
    names = [image.name for image in images]
    assert names == ["a/zz/x", "a/y", "a/x.png", "a/x.png_", "b/image.png", "b/image.png_"]
    expected = [view.views[0].canvas for view in ImageViews(find_images(list(map(str, pictures))), 32)]
    views = [view.views[0].canvas for view in ImageViews(images, 32)]
    assert [
        any((view == other).all() for other in expected[n : n + 1])
        for view, n in zip(views, (0, 1, 2, 3, 0, 1), strict=True)
    ]
    assert len(find_images([str(tmp_path / "list.txt"), str(pictures[3])])) == 1


def test_long_lists_are_kept_on_disk_with_equal_entries(pictures, tmp_path, monkeypatch):
    write_tar(tmp_path / "a.tar", {f"{i}.png": picture for i, picture in enumerate(pictures)})
    entries = [str(tmp_path / "a.tar"), *map(str, pictures)]
    short = find_images(entries)
    assert not short.is_long
    monkeypatch.setattr(image_list, "MAX_IN_MEMORY", 2)
    monkeypatch.setattr(image_list, "SHARD_SIZE", 3)
    long = find_images(entries)
    assert long.is_long
    assert list(short) == list(long) == [long[i] for i in range(len(short))] == list(pickle.loads(pickle.dumps(long)))
    assert short.digest == long.digest != find_images(entries[1:]).digest
    assert short.find_common_folder() == long.find_common_folder()
    with pytest.raises(IndexError):
        long[len(long)]


def test_every_name_is_usable_for_output_files(pictures, tmp_path):
    """Members without a suffix or a name, folders named as files of another image, links, and long names."""
    paths = [None, "abc", "frame.0001", "/", "a.json/x.png", "n" * 300 + ".png", "a\0b.png"]
    rows = [{"bytes": pictures[0].read_bytes(), "path": path} for path in paths]
    pq.write_table(pa.table({"image": pa.array(rows)}), tmp_path / "a.parquet")
    names = names_of(tmp_path / "a.parquet")
    assert names[:5] == ["00000000", "abc", "frame.0001", "00000003", "a.json_/x"]
    assert names[5].startswith("n" * 200 + "-")
    assert len(names[5]) < 240
    assert names[6] == "a_b"
    for name in ("in/a.png", "in/a.json/b.png", "in/.files/a.png", "blobs/c0ffee"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pictures[0], tmp_path / name)
    (tmp_path / "in" / "link.png").symlink_to("../blobs/c0ffee")
    (tmp_path / "in" / "same.png").symlink_to("../blobs/c0ffee")
    assert names_of(tmp_path / "in") == [".files_/a", "a.json_/b", "a", "link"]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Local server of files and data sets."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with HubServer() as server:
        yield server


def test_tokens_of_urls_are_used_and_not_shown(pictures, tmp_path, hub):
    write_tar(tmp_path / "a.tar", {"1.png": pictures[0], "2.png": pictures[1]})
    rows = {"image": pa.array([{"bytes": pictures[2].read_bytes(), "path": None}])}
    pq.write_table(pa.table(rows), tmp_path / "b.parquet")
    hub.repos["o/r"] = {name: (tmp_path / name).read_bytes() for name in ("a.tar", "b.parquet")}
    hub.query_token = secret = "s3cr3t/x.y" + "z" * 300
    urls = [f"{hub.url}/o/r/resolve/main/{name}?token={secret}" for name in ("a.tar", "b.parquet", "missing.tar")]
    images = find_images(urls[:2])
    assert [image.name for image in images] == ["a/1", "a/2", "b/00000000"]
    assert [image.load() for image in images] == [picture.read_bytes() for picture in pictures[:3]]
    shown = [str((image.name, image.path, str(image), image.location, image.identity())) for image in images]
    hub.query_token = "expired"
    for image in images:
        with pytest.raises(ValueError, match="cannot be read") as error:
            replace(image, file=image.file.replace(".parquet?", ".parquet?new=1&")).load()
        shown.append("".join(traceback.format_exception(error.value)))
    for url in [*urls[:2], urls[2], urls[0].replace(".tar", ".jpg"), urls[0].replace("//", f"//joe:{secret[:6]}@")]:
        with pytest.raises(ValueError, match=f"`images`|{hub.url}") as error:
            find_images([url])
        shown.append("".join(traceback.format_exception(error.value)))
    assert not [text for text in shown if "s3cr3t" in text]
    assert "403" in shown[-2 - 3]


def test_hub_data_sets_are_fetched_by_row_group(pictures, tmp_path, hub, monkeypatch):
    """The names of 20 images of 20 KB are found without their bytes, and an image is fetched with its row group."""
    rows = [{"bytes": os.urandom(20_000), "path": None if i % 2 else f"{i}.png"} for i in range(20)]
    pq.write_table(pa.table({"image": pa.array(rows)}), tmp_path / "train.parquet", row_group_size=5)
    write_tar(tmp_path / "a.tar", {"1.png": pictures[0], "2.png": pictures[1]})
    hub.repos["datasets/o/rows"] = {"data/train-0.parquet": (tmp_path / "train.parquet").read_bytes()}
    hub.repos["datasets/o/files"] = {f"train/{file.name}": file.read_bytes() for file in pictures[:2]}
    hub.repos["datasets/o/tars"] = {"a.tar": (tmp_path / "a.tar").read_bytes()}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(pictures[0], "x/a.png")
    hub.repos["datasets/o/zip"] = {"a.zip": (tmp_path / "a.zip").read_bytes()}
    for module, name, value in (
        (constants, "ENDPOINT", hub.url),
        (constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"),
        (constants, "HF_HUB_CACHE", str(tmp_path / "hub")),
        (constants, "HF_HUB_OFFLINE", False),
        (config, "HF_ENDPOINT", hub.url),
        (config, "HF_HUB_OFFLINE", False),
        (config, "HF_DATASETS_CACHE", tmp_path / "datasets"),
    ):
        monkeypatch.setattr(module, name, value)
    images = find_images(["o/rows"])
    assert ([image.name for image in images][:3], len(images[0].load())) == (["0", "00000001", "2"], 20_000)
    fetched = sum(size for name, size in hub.ranges if name.endswith(".parquet"))
    assert fetched < 5 * 20_000 + 4 * 65_536 < 20 * 20_000
    assert names_of("o/files") == [file.stem for file in pictures[:2]]
    images = find_images(["hf://datasets/o/tars/*.tar"])
    assert [image.load() for image in images] == [file.read_bytes() for file in pictures[:2]]
    with pytest.raises(ValueError, match="o/zip, split train are in an archive"):
        find_images(["o/zip"])


@pytest.mark.parametrize(
    "entry, message",
    [
        ("empty.txt", "'empty.txt': the file contains no image"),
        ("binary.txt", "binary.txt cannot be read as a list of paths"),
        ("compressed.tar", "compressed.tar cannot be read as an uncompressed tar file"),
        ("texts.tar", "'texts.tar': the file contains no image"),
        ("no_image.parquet", "no_image.parquet has the columns a, of which none contains the content of images"),
        ("two_images.parquet", "of which several contain the content of images. Name that column `image`"),
        ("broken.parquet", "broken.parquet cannot be read as parquet"),
        ("https://joe:pass@example.invalid/a.jpg?token=x/y.tar", "example.invalid/a.jpg is not the URL of a .tar"),
        ("folders.txt", "line 2 of folders.txt is '.', which is not the path of an image file"),
        ("cut.tar", "cut.tar cannot be read as an uncompressed tar file \\(it is damaged or cut at byte"),
        ("", "`images` contains an empty value"),
        ("photos/trian", "'photos/trian': there is no such file or folder"),
        ("nowhere/*.png", "there is no such file or folder, and no image matches"),
        ("owner/name", "owner/name"),
    ],
)
def test_unusable_sources_are_refused(tmp_path, monkeypatch, entry, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    with tarfile.open(tmp_path / "compressed.tar", "w:gz") as tar:
        tar.add(tmp_path / "empty.txt")
    write_tar(tmp_path / "texts.tar", {"a.json": __file__})
    (tmp_path / "folders.txt").write_text("a.png\n.\n")
    (tmp_path / "photos").mkdir()
    (tmp_path / "kilobyte").write_bytes(b"1" * 1024)
    write_tar(tmp_path / "cut.tar", {"a.png": tmp_path / "kilobyte", "b.png": tmp_path / "kilobyte"})
    with tarfile.open(tmp_path / "cut.tar") as tar:
        offset = tar.getmembers()[1].offset
    content = (tmp_path / "cut.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(content[:offset] + b"\1" * 512 + content[offset + 512 :])
    pq.write_table(pa.table({"a": [1]}), tmp_path / "no_image.parquet")
    pq.write_table(pa.table({"a": [b"1"], "b": [b"2"]}), tmp_path / "two_images.parquet")
    with pytest.raises(ValueError, match=message.replace("*", r"\*")):
        find_images([entry])
