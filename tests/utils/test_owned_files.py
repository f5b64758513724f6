"""Owned files: files that this package wrote are replaced; files that a user added or edited are not."""

import shutil

import pytest

from sam_ft.utils.drafts import folder_draft
from sam_ft.utils.owned_files import OwnedFiles


def test_only_recorded_content_is_owned(tmp_path):
    owned = OwnedFiles(tmp_path, "run")
    owned.write_text("a/report.md", "one", "output_dir")
    OwnedFiles(tmp_path, "run").write_text("a/report.md", "two", "output_dir")  # a later process
    (tmp_path / "a" / "report.md").write_text("edited")
    with pytest.raises(ValueError, match="`output_dir`: .* already contains a/report.md"):
        OwnedFiles(tmp_path, "run").write_text("a/report.md", "three", "output_dir")
    assert OwnedFiles(tmp_path, "run").remove(["a/report.md"]) == ["a/report.md"]
    assert (tmp_path / "a" / "report.md").read_text() == "edited"
    assert OwnedFiles(tmp_path, "run").find_foreign() == ["a/report.md"]


def test_another_kind_of_command_owns_nothing(tmp_path):
    OwnedFiles(tmp_path, "conversion").write_text("images/1.png", "an image", "target_dir")
    OwnedFiles(tmp_path, "gallery").write_text("index.html", "a page", "gallery_dir")
    gallery = OwnedFiles(tmp_path, "gallery")
    assert gallery.names == ["index.html"]
    assert gallery.remove(["images/1.png"]) == ["images/1.png"]
    with pytest.raises(ValueError, match="images/1.png, which this command did not write"):
        gallery.write_text("images/1.png", "mine", "gallery_dir")
    assert OwnedFiles(tmp_path, "conversion").is_owned("images/1.png")


def test_files_behind_a_link_are_not_removed(tmp_path):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    (run / "checkpoint-1").mkdir(parents=True)
    OwnedFiles(run, "run").write_text("checkpoint-1/model.safetensors", "weights", "output_dir")
    (run / "checkpoint-1").rename(elsewhere)
    (run / "checkpoint-1").symlink_to(elsewhere)
    OwnedFiles(run, "run").remove(["checkpoint-1/model.safetensors"])
    assert (elsewhere / "model.safetensors").read_text() == "weights"


def test_a_kill_between_record_and_rename_leaves_an_owned_file(tmp_path):
    OwnedFiles(tmp_path, "run").write_text("card.md", "one", "output_dir")
    owned = OwnedFiles(tmp_path, "run")

    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    owned._save, saved = (lambda: (saved(), kill())), owned._save
    with pytest.raises(Killed):
        owned.write_text("card.md", "two", "output_dir")
    assert (tmp_path / "card.md").read_text() == "one"
    assert OwnedFiles(tmp_path, "run").is_owned("card.md")


def test_an_edited_text_is_kept_and_the_new_one_is_written_beside_it(tmp_path):
    assert OwnedFiles(tmp_path, "run").write_unless_edited("README.md", "one") == (tmp_path / "README.md", True)
    (tmp_path / "README.md").write_text("my words")
    assert OwnedFiles(tmp_path, "run").write_unless_edited("README.md", "two") == (tmp_path / "README.new.md", False)
    assert (tmp_path / "README.md").read_text() == "my words"
    assert (tmp_path / "README.new.md").read_text() == "two"


def write(folder, text, overwrite):
    """Write a result; raise a `TypeError` half-way if `text` is `None`."""
    with folder_draft(folder, "export", "output_path", overwrite=overwrite) as draft:
        (draft / "sub").mkdir()
        (draft / "sub" / "weights").write_text(text)


def test_a_result_appears_complete_and_replaces_owned_files_only(tmp_path):
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
    with pytest.raises(ValueError, match="notes.txt"), folder_draft(folder, "export", "output_path", overwrite=True):
        (folder / "notes.txt").write_text("mine")
    assert (folder / "notes.txt").read_text() == "mine"


def test_the_folder_behind_a_link_is_replaced(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    write(tmp_path / "out", "one", overwrite=False)
    write(tmp_path / "out", "two", overwrite=True)
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk" / "sub" / "weights").read_text() == "two"


def test_a_folder_that_cannot_be_renamed_is_written_in_place(tmp_path, monkeypatch):
    """A mount point of a container cannot be renamed."""
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.setattr("os.path.ismount", lambda path: str(path) == str(folder))
    write(folder, "one", overwrite=False)
    write(folder, "two", overwrite=True)
    assert (folder / "sub" / "weights").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert sorted(p.name for p in folder.iterdir()) == [".sam-ft-files.json", "sub"]


def test_drafts_of_killed_processes_are_removed(tmp_path):
    folder = tmp_path / "out"
    write(folder, "one", overwrite=False)
    shutil.copytree(folder, tmp_path / ".out.earlier")  # the state after a kill during the removal
    (tmp_path / ".out.part-x" / "out").mkdir(parents=True)
    (tmp_path / ".out.part-x" / ".sam-ft-draft").touch()
    (tmp_path / ".out.part-mine").mkdir()
    write(folder, "two", overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".out.part-mine", "out"]


def test_a_kill_between_the_two_renames_is_repaired(tmp_path):
    folder = tmp_path / "out"
    write(folder, "one", overwrite=False)
    folder.rename(tmp_path / ".out.earlier")
    with pytest.raises(ValueError, match="an earlier result"):
        write(folder, "two", overwrite=False)
    assert (folder / "sub" / "weights").read_text() == "one"
