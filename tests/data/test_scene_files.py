"""Synthetic scenes on disk: one folder for each set of options, which appears complete and is never rewritten."""

import multiprocessing

import pytest

from sam_ft.data.synthetic.scene_files import write_scenes_once
from sam_ft.options.scenes import SceneFiles, SceneOptions


def files(seed=0):
    return SceneFiles(SceneOptions(width=64, height=64, shapes=["circle", "square"], seed=seed), 2, 1)


def content_of(folder):
    return {
        p.relative_to(folder).as_posix(): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in folder.rglob("*")
        if p.is_file()
    }


def test_other_options_have_another_folder(tmp_path):
    first = write_scenes_once(tmp_path, files(0))
    before = content_of(first)
    second = write_scenes_once(tmp_path, files(1))
    assert second != first
    assert write_scenes_once(tmp_path, files(0)) == first
    assert content_of(first) == before


def test_processes_that_start_together_share_a_folder(tmp_path):
    with multiprocessing.get_context("fork").Pool(3) as pool:
        folders = set(pool.starmap(write_scenes_once, [(tmp_path, files(0))] * 3, chunksize=1))
    assert folders == {write_scenes_once(tmp_path, files(0))}
    assert [p.name for p in tmp_path.iterdir()] == [write_scenes_once(tmp_path, files(0)).name]


def test_a_folder_with_other_content_is_not_overwritten(tmp_path):
    folder = write_scenes_once(tmp_path, files(0))
    (folder / "annotations" / "instances_val.json").write_text("{}")
    with pytest.raises(ValueError, match="does not. Move it away"):
        write_scenes_once(tmp_path, files(0))
    assert (folder / "annotations" / "instances_val.json").read_text() == "{}"
