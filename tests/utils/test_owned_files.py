"""Ownership: what this package wrote may be replaced, what a user added or edited may not."""

import pytest

from sam_ft.utils.drafts import folder_draft
from sam_ft.utils.owned_files import OwnedFiles


def test_only_recorded_content_is_owned(tmp_path):
    owned = OwnedFiles(tmp_path)
    owned.write_text("a/report.md", "one", "output_dir")
    OwnedFiles(tmp_path).write_text("a/report.md", "two", "output_dir")  # of a later process
    (tmp_path / "a" / "report.md").write_text("edited")
    with pytest.raises(ValueError, match="`output_dir`: .* already contains a/report.md"):
        OwnedFiles(tmp_path).write_text("a/report.md", "three", "output_dir")
    assert OwnedFiles(tmp_path).remove(["a/report.md"]) == ["a/report.md"]
    assert (tmp_path / "a" / "report.md").read_text() == "edited"
    assert OwnedFiles(tmp_path).find_foreign() == ["a/report.md"]


def test_a_kill_between_record_and_rename_leaves_an_owned_file(tmp_path):
    OwnedFiles(tmp_path).write_text("card.md", "one", "output_dir")
    owned = OwnedFiles(tmp_path)

    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    owned._save, saved = (lambda: (saved(), die())), owned._save
    with pytest.raises(Killed):
        owned.write_text("card.md", "two", "output_dir")
    assert (tmp_path / "card.md").read_text() == "one"
    assert OwnedFiles(tmp_path).is_owned("card.md")


def test_an_edited_text_is_kept_and_the_new_one_lies_beside_it(tmp_path):
    assert OwnedFiles(tmp_path).write_unless_edited("README.md", "one") == (tmp_path / "README.md", True)
    (tmp_path / "README.md").write_text("my words")
    assert OwnedFiles(tmp_path).write_unless_edited("README.md", "two") == (tmp_path / "README.new.md", False)
    assert (tmp_path / "README.md").read_text() == "my words"
    assert (tmp_path / "README.new.md").read_text() == "two"


def write(folder, text, overwrite):
    """Write a result; fails half-way where there is no text."""
    with folder_draft(folder, "output_path", overwrite=overwrite) as draft:
        (draft / "sub").mkdir()
        (draft / "sub" / "weights").write_text(text)


def test_a_result_appears_whole_and_replaces_only_its_own(tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(TypeError):
        write(folder, None, overwrite=False)
    assert list(tmp_path.iterdir()) == []
    write(folder, "one", overwrite=False)
    with pytest.raises(ValueError, match="an earlier result.*--overwrite true"):
        write(folder, "two", overwrite=False)
    write(folder, "two", overwrite=True)
    assert (folder / "sub" / "weights").read_text() == "two"
    (folder / "sub" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="contains sub/notes.txt, which this command did not write"):
        write(folder, "three", overwrite=True)
    assert (folder / "sub" / "weights").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_file_that_is_added_while_a_result_is_written_is_kept(tmp_path):
    folder = tmp_path / "out"
    write(folder, "one", overwrite=False)
    with pytest.raises(ValueError, match="notes.txt"), folder_draft(folder, "output_path", overwrite=True):
        (folder / "notes.txt").write_text("mine")
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_kill_between_the_two_renames_is_repaired(tmp_path):
    folder = tmp_path / "out"
    write(folder, "one", overwrite=False)
    folder.rename(tmp_path / ".out.earlier")
    with pytest.raises(ValueError, match="an earlier result"):
        write(folder, "two", overwrite=False)
    assert (folder / "sub" / "weights").read_text() == "one"
