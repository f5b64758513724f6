"""Few-shot benchmark: layouts, selection of the shots, keys of the cells, resumption and table."""

import json
import subprocess
import types
from pathlib import Path

import pytest

from benchmarks import fewshot
from benchmarks.fewshot_suites import find_data, get_shots_file, select_shots, write_stand_in
from sam_ft.arguments import SAM3_ARGUMENTS
from sam_ft.arguments.parser import RecipeParser
from sam_ft.commands.run import build_run


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("suites")
    for suite in ("odinw13", "rf100vl"):
        write_stand_in(suite, root / suite)
    return root


@pytest.mark.parametrize(
    ("suite", "names"), [("odinw13", ["Raccoon", "pistols"]), ("rf100vl", ["13-lkc01", "actions"])]
)
def test_data_sets_are_found_in_the_layout_of_the_suite(folders, suite, names):
    datasets, missing = find_data(suite, folders / suite)
    assert [data.name for data in datasets] == names
    assert len(missing) == (11 if suite == "odinw13" else 0)
    for data in datasets:
        for file, images in ((data.train_file, data.train_images), (data.test_file, data.test_images)):
            assert all((images / image["file_name"]).is_file() for image in json.loads(file.read_text())["images"])
        assert "test" in str(data.test_file.relative_to(folders))
    with pytest.raises(ValueError, match="exists"):
        write_stand_in(suite, folders / suite)


def test_published_shots_are_used_and_others_are_selected_once(folders, tmp_path):
    data = find_data("odinw13", folders / "odinw13")[0][0]
    file = get_shots_file(data, 2, 3, tmp_path)
    assert file == tmp_path / "Raccoon" / "fewshot_train_shot2_seed3.json"
    assert 0 < len(json.loads(file.read_text())["images"]) < 12
    published = data.train_images / "fewshot_train_shot2_seed300.json"
    published.write_text("{}")
    assert get_shots_file(data, 2, 300, tmp_path) == published


def test_shots_depend_on_the_seed_alone_and_cover_each_class():
    annotations = [{"image_id": i, "category_id": c} for i in range(60) for c in (1, 2, 3) if i % c == 0]
    annotations += [{"image_id": i, "category_id": 4} for i in (7, 11)]
    coco = {"images": [{"id": i} for i in range(80)], "annotations": annotations, "categories": []}
    chosen = {seed: [image["id"] for image in select_shots(coco, 5, seed)["images"]] for seed in (3, 30)}
    shuffled = {**coco, "annotations": annotations[::-1]}
    assert [image["id"] for image in select_shots(shuffled, 5, 3)["images"]] == chosen[3]
    assert chosen[3] != chosen[30]
    for images in chosen.values():
        assert {7, 11} <= set(images)
        assert len(images) <= 5 + 5 + 2
        for divisor in (1, 2, 3):
            assert sum(i % divisor == 0 for i in images) >= 5
    kept = select_shots(coco, 5, 3)["annotations"]
    assert [a for a in annotations if a["image_id"] in chosen[3]] == kept


def test_each_finished_cell_runs_once_and_the_table_has_its_spread(folders, tmp_path, monkeypatch, capsys):
    commands = []

    def run(command, **_):
        values = dict(zip(command[2::2], command[3::2]))
        commands.append(values)
        if "sam3_heads" in values["--config"] and len(commands) <= 8:
            return types.SimpleNamespace(returncode=1, stdout="line\n", stderr="the reason")
        build_run(*RecipeParser(SAM3_ARGUMENTS).parse(command[2:]))  # raises if a key is unknown or not allowed
        folder = Path(values["--output_dir"])
        folder.mkdir()
        for prefix, ap in (("before", 0.1), ("eval", 0.2 + int(values["--seed"]) / 1000)):
            numbers = {f"{prefix}_box_AP": ap, f"{prefix}_box_AP50": 0.5}
            (folder / f"{prefix}_results.json").write_text(json.dumps(numbers))
        return types.SimpleNamespace(returncode=0, stdout="", stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    words = ["--suite", "odinw13", "--folder", str(folders / "odinw13"), "--datasets", "Raccoon", "--seeds", "3", "30"]
    words += ["--model", "sam-ft/tiny", "--out", str(tmp_path / "out"), "--keys", "--use_cpu", "true"]
    fewshot.main(words)
    assert len(commands) == 8
    assert {values["--num_train_epochs"] for values in commands} == {"40"}
    lines = [json.loads(text) for text in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert [line["error"] for line in lines if line["method"] == "heads"] == ["line\nthe reason"] * 2
    fewshot.main(words)
    assert len(commands) == 10
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| box AP | before | full | lora | heads | concepts |" in table
    assert "| Raccoon | 10.0 | 21.6 ± 1.9 |" in table
    assert "| mean of 1 | 10.0 | 21.6 ± 1.9 |" in table
    assert not list((tmp_path / "out").glob("run-*"))
