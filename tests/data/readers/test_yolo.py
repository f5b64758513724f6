"""Tests of YOLO data sets as they are exported: pose labels, several folders, lists, and folders without data.yaml."""

import json

import pytest

from sam_ft.data.loading import find_phrase_splits
from sam_ft.data.sources import read_splits
from sam_ft.options.data import DatasetOptions, ReadOptions

from .test_layouts import read
from .trees import HEIGHT, NAMES, TREES, WIDTH, picture, save_pictures


BOX = "0 0.5 0.5 0.2 0.4"


def read_all(folder, **options):
    splits, _ = find_phrase_splits(DatasetOptions(str(folder)))
    return read_splits(splits, ReadOptions(**options))


def write_images(folder, names, labels=BOX):
    """Write images, and their labels in the folder that YOLO reads."""
    label_folder = folder.parent / "labels" if folder.name == "images" else folder
    if "images" in folder.parts[-2:-1]:
        label_folder = folder.parent.parent / "labels" / folder.name
    folder.mkdir(parents=True, exist_ok=True)
    label_folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        picture(seed).save(folder / f"{name}.png")
        (label_folder / f"{name}.txt").write_text(labels)


def notes_of(report) -> str:
    return "\n".join(report.notes)


@pytest.mark.parametrize(("shape", "keypoints"), [("[2, 2]", "0.1 0.1 0.9 0.9"), ("[1, 3]", "0.1 0.1 2")])
def test_boxes_of_pose_labels_are_read(tmp_path, shape, keypoints):
    TREES["yolo"](tmp_path)
    with (tmp_path / "data.yaml").open("a") as file:
        file.write(f"kpt_shape: {shape}\n")
    label_file = tmp_path / "train" / "labels" / "first.txt"
    label_file.write_text(f"{BOX} {keypoints}")
    rows, report = read(tmp_path)
    (instance,) = rows[0]["instances"]
    assert instance["segmentation"] is None
    assert instance["bbox"] == pytest.approx([0.4 * WIDTH, 0.3 * HEIGHT, 0.2 * WIDTH, 0.4 * HEIGHT])
    assert "keypoints are not" in notes_of(report)
    label_file.write_text(f"{BOX} {keypoints} 0.5")
    with pytest.raises(
        ValueError, match=r"first.txt, line 1: it contains a class and \d values; expected \d by `kpt_"
    ):
        read(tmp_path)


def test_an_invalid_kpt_shape_is_refused(tmp_path):
    TREES["yolo"](tmp_path)
    with (tmp_path / "data.yaml").open("a") as file:
        file.write("kpt_shape: 17\n")
    with pytest.raises(ValueError, match="`kpt_shape` is 17; expected"):
        read(tmp_path)


def test_several_folders_of_a_split_are_read_and_each_image_once(tmp_path):
    for name in ("a", "b"):
        write_images(tmp_path / name / "images", [f"{name}0", f"{name}1"])
    (tmp_path / "data.yaml").write_text("train: [a/images, b/images, b]\nnames: [apple, pear]\n")
    rows, report = read(tmp_path)
    assert [row["example_id"] for row in rows] == [f"{n}/images/{n}{i}" for n in "ab" for i in (0, 1)]
    assert "2 images are listed more than once" in notes_of(report)
    (tmp_path / "data.yaml").write_text("train: [a/images, c/images]\nnames: [apple, pear]\n")
    with pytest.raises(ValueError, match="`train` is 'c/images', which does not exist"):
        read(tmp_path)


@pytest.mark.parametrize("prefix", ["/home/me/set", "C:\\data\\set", "data"])
def test_paths_of_another_machine_in_a_list_are_read_below_the_folder(tmp_path, prefix):
    for split in ("train", "val"):
        write_images(tmp_path / "images" / split, ["0", "1"])
        separator = "\\" if "\\" in prefix else "/"
        lines = [separator.join((prefix, "images", split, f"{i}.png")) for i in (0, 1)]
        (tmp_path / f"{split}.txt").write_text("\n".join(lines))
    (tmp_path / "data.yaml").write_text("train: train.txt\nval: val.txt\nnames: [apple, pear]\n")
    read_rows = read_all(tmp_path)
    for split, folder in (("train", "train"), ("validation", "val")):
        rows, report = read_rows[split]
        assert [row["example_id"] for row in rows] == [f"images/{folder}/{i}" for i in (0, 1)]
        assert f"begins with '{prefix}'".replace("\\", "/") in notes_of(report)


@pytest.mark.parametrize("prefix", ["/home/me/set", "../set", "C:/data/set"])
def test_paths_of_another_machine_in_data_yaml_are_read_below_the_folder(tmp_path, prefix):
    for split in ("train", "val"):
        write_images(tmp_path / split / "images", [split])
    paths = f"train: {prefix}/train/images\nval: {prefix}/val/images\ntest: {prefix}/test/images\n"
    (tmp_path / "data.yaml").write_text(f"{paths}names: [apple, pear]\n")
    read_rows = read_all(tmp_path)
    assert {name: rows["example_id"] for name, (rows, _) in read_rows.items()} == {
        "train": ["train/images/train"],
        "validation": ["val/images/val"],
    }
    assert f"begins with '{prefix}'" in notes_of(read_rows["validation"][1])


def test_paths_of_another_machine_do_not_become_another_image(tmp_path):
    """`valid/images` is missing, and `images` contains the training images; `b/0.png` is missing, `a/0.png` exists."""
    write_images(tmp_path / "images", ["0"])
    yaml = tmp_path / "data.yaml"
    yaml.write_text("train: /my/set/images\nval: /my/set/valid/images\nnames: [apple, pear]\n")
    read_rows = read_all(tmp_path)
    assert set(read_rows) == {"train"}
    assert "`val: '/my/set/valid/images'` of data.yaml does not exist" in notes_of(read_rows["train"][1])
    (tmp_path / "train.txt").write_text("/my/set/images/0.png\n/my/other/images/0.png\n")
    yaml.write_text("train: train.txt\nnames: [apple, pear]\n")
    with pytest.raises(ValueError, match="/my/other/images/0.png"):
        read(tmp_path)


@pytest.mark.parametrize("folders", ["{}/images", "images/{}"])
def test_splits_without_data_yaml(tmp_path, folders):
    for split in ("train", "valid"):
        write_images(tmp_path / folders.format(split), ["0"])
    (tmp_path / "classes.txt").write_text("apple\npear\n\n")
    read_rows = read_all(tmp_path)
    assert {split: len(rows) for split, (rows, _) in read_rows.items()} == {"train": 1, "validation": 1}


def test_images_outside_the_folders_of_splits_are_noted(tmp_path):
    write_images(tmp_path / "images" / "train", ["0"])
    save_pictures(tmp_path / "images")
    (tmp_path / "classes.txt").write_text("apple\npear")
    assert "2 images are in no folder of a split and not read, such as" in notes_of(read(tmp_path)[1])


def test_images_beside_their_labels(tmp_path):
    """The layout of labelImg, and of CVAT's YOLO 1.1, whose list has a folder in front."""
    write_images(tmp_path / "flat", ["0", "1"])
    (tmp_path / "flat" / "classes.txt").write_text("apple\npear")
    assert len(read(tmp_path / "flat")[0]) == 2
    write_images(tmp_path / "cvat" / "obj_train_data", ["0", "1"])
    (tmp_path / "cvat" / "obj.names").write_text("apple\npear")
    (tmp_path / "cvat" / "train.txt").write_text("data/obj_train_data/0.png\ndata/obj_train_data/1.png")
    assert len(read(tmp_path / "cvat")[0]) == 2


def test_class_names_are_required_and_must_agree(tmp_path):
    TREES["yolo_classes"](tmp_path)
    (tmp_path / "classes.txt").write_text("\n".join(reversed(NAMES)))
    with pytest.raises(
        ValueError, match=r"classes.txt: its class names are \['pear', 'apple'\], those of .*notes.json"
    ):
        read(tmp_path)
    (tmp_path / "classes.txt").write_text("apple\n\npear")
    with pytest.raises(ValueError, match="classes.txt: line 2 is empty"):
        read(tmp_path)
    (tmp_path / "classes.txt").unlink()
    assert len(read(tmp_path)[0]) == 2  # notes.json is sufficient.
    (tmp_path / "notes.json").unlink()
    with pytest.raises(ValueError, match="YOLO labels without class names. Add classes.txt"):
        read(tmp_path)


def test_labels_without_their_images_are_refused(tmp_path):
    """Label Studio exports an empty folder of images with `YOLO`."""
    TREES["yolo_classes"](tmp_path)
    for file in (tmp_path / "images").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"no image that belongs to one \(searched images\).*`YOLO with Images`"):
        read(tmp_path)


def test_lists_and_class_names_must_be_utf8(tmp_path):
    TREES["yolo"](tmp_path)
    (tmp_path / "data.yaml").write_text("train: train.txt\nnames: [apple, pear]\n")
    (tmp_path / "train.txt").write_bytes("train/images/Äpfel.png".encode("latin-1"))
    with pytest.raises(ValueError, match="train.txt: this is not UTF-8"):
        read(tmp_path)
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "classes.txt").write_bytes("Äpfel\npear".encode("latin-1"))
    with pytest.raises(ValueError, match="classes.txt: this is not UTF-8"):
        read(tmp_path)


def test_label_files_without_an_image_are_noted(tmp_path):
    TREES["yolo_classes"](tmp_path)
    (tmp_path / "labels" / "third.txt").write_text(BOX)
    assert "1 label files belong to no image" in notes_of(read(tmp_path)[1])


def test_text_files_that_are_not_labels_are_no_yolo_data(tmp_path):
    save_pictures(tmp_path / "images")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "first.txt").write_text("a red apple on a table")
    (tmp_path / "notes.json").write_text(json.dumps({"categories": []}))
    with pytest.raises(ValueError, match="which is of none of"):
        read(tmp_path)
