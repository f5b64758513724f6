from sam_ft.data.readers.mask_files import find
from sam_ft.options.data import ReadOptions

from .trees import PICTURES, TREES


def test_images_without_a_folder_of_masks_are_counted(tmp_path):
    reading = ReadOptions(**TREES["mask_files"](tmp_path))
    first, second = PICTURES
    assert find(tmp_path)["train"](reading).notes == []
    for mask in (tmp_path / second / "masks").iterdir():
        mask.unlink()
    (tmp_path / second / "masks").rmdir()
    split = find(tmp_path)["train"](reading)
    assert [record.image.stem for record in split.records] == [first]
    (note,) = split.notes
    assert note.startswith("1 images without a folder of masks are left out")


def test_images_and_folders_of_masks_of_the_same_name(tmp_path):
    reading = ReadOptions(**TREES["mask_files"](tmp_path / "pictures"))
    number = {}
    for name in PICTURES:
        folder = tmp_path / "flat" / "masks" / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        number[name] = len(list((tmp_path / "pictures" / name / "masks").iterdir()))
        (tmp_path / "pictures" / name / "masks").rename(folder)
        (tmp_path / "flat" / "images").mkdir(exist_ok=True)
        (tmp_path / "pictures" / name / "images" / f"{name}.png").rename(tmp_path / "flat" / "images" / f"{name}.png")
    (tmp_path / "flat" / "images" / "third.png").write_bytes(b"")
    split = find(tmp_path / "flat")["train"](reading)
    assert {record.image.stem: len(record.load_shapes()) for record in split.records} == number
    (note,) = split.notes
    assert note.startswith("1 images without a folder of masks are left out")
    assert note.endswith("third.png")
