import json

import pytest

from sam_ft.data.readers.coco_tree import has_coco_lists


@pytest.mark.parametrize("padding", [0, 2**20 - 12, 2**20 + 9])
def test_lists_are_searched_in_all_of_the_file(tmp_path, padding):
    """With the first padding above 0, the name of the second list lies in two blocks of 1 MiB."""
    file = tmp_path / "a.json"
    content = {"images": [], "info": " " * max(padding - 26, 0), "annotations": []}
    for text in (json.dumps(content), "\ufeff\n" + json.dumps(content)):
        file.write_text(text, encoding="utf-8")
        assert has_coco_lists(file)
    file.write_text(json.dumps([content]))
    assert not has_coco_lists(file)
    file.write_text(json.dumps(content | {"annotations": {}}))
    assert not has_coco_lists(file)


def test_panoptic_files_have_no_instances(tmp_path):
    text = json.dumps({"images": [], "annotations": [{"segments_info": []}]})
    for name in ("panoptic_train.json", "train.json", "missing.json"):
        if name != "missing.json":
            (tmp_path / name).write_text(text)
        assert not has_coco_lists(tmp_path / name)
