"""Atomic writes of files and folders, and the memory of a process."""

import pytest

from sam_ft.utils.files import write_atomically
from sam_ft.utils.memory import peak_resident_memory, reset_peak_resident_memory, resident_memory


def write_folder(folder):
    folder.mkdir()
    (folder / "file").write_text("new")


def test_a_folder_is_written_under_a_temporary_name(tmp_path):
    write_atomically(tmp_path / "parent" / "folder", write_folder)
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*"))] == [
        "parent", "parent/folder", "parent/folder/file",
    ]  # fmt: skip


@pytest.mark.parametrize("write", [write_folder, lambda path: path.write_text("new")])
def test_an_error_leaves_the_earlier_content(tmp_path, write):
    def fail(draft):
        write(draft)
        raise RuntimeError

    (tmp_path / "earlier").write_text("old")
    with pytest.raises(RuntimeError):
        write_atomically(tmp_path / "earlier", fail)
    assert [p.name for p in tmp_path.iterdir()] == ["earlier"]
    assert (tmp_path / "earlier").read_text() == "old"


def test_a_folder_with_files_is_not_replaced(tmp_path):
    write_folder(tmp_path / "folder")
    (tmp_path / "folder" / "file").write_text("old")
    with pytest.raises(OSError, match="folder"):
        write_atomically(tmp_path / "folder", write_folder)
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
    assert (tmp_path / "folder" / "file").read_text() == "old"


def test_the_peak_of_resident_memory_restarts_at_a_reset():
    reset_peak_resident_memory()
    before = resident_memory()
    block = bytearray(100 * 2**20)
    assert peak_resident_memory() - before > 0.9 * len(block)
    del block
    reset_peak_resident_memory()
    assert peak_resident_memory() - before < 50 * 2**20
