"""Strict YAML: duplicate keys, alias bombs and deep nesting."""

import resource

import pytest

from sam_ft.data.readers.class_names import read_class_names
from sam_ft.data.readers.layouts import find_splits
from sam_ft.utils.yaml_files import read_yaml_mapping


def bomb(levels: int, root: str) -> str:
    """Build nested lists of nine aliases each: 9 ** levels values in a few hundred characters."""
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join([*lines, f"{root}: [*l{levels - 1}, *l{levels - 1}]", ""])


def merged_bomb(levels: int) -> str:
    lines = ["l0: &l0 {a: 1, b: 2}"]
    lines += [f"l{i}: &l{i} {{<<: [{', '.join([f'*l{i - 1}'] * 9)}]}}" for i in range(1, levels)]
    return "\n".join([*lines, ""])


@pytest.fixture
def _little_memory():
    """Limit the memory of the process to 500 MB above its present use."""
    with open("/proc/self/statm") as stream:
        used = int(stream.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 500 * 2**20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.usefixtures("_little_memory")
@pytest.mark.parametrize("text", [bomb(9, "names"), bomb(400, "names"), merged_bomb(12)], ids=["9", "400", "merged"])
def test_aliases_that_expand_without_bound_are_refused(tmp_path, text):
    file = tmp_path / "data.yaml"
    file.write_text(text)
    with pytest.raises(
        ValueError, match=r"`dataset_name`: .*data.yaml is not YAML: it contains more than 1000000 values"
    ):
        read_yaml_mapping(str(file), "dataset_name")


@pytest.mark.usefixtures("_little_memory")
def test_an_alias_bomb_in_a_data_set_ends_in_a_short_message(tmp_path):
    (tmp_path / "data.yaml").write_text("train: images\n" + bomb(9, "names"))
    with pytest.raises(ValueError, match=r"cannot be read: .*more than 1000000 values") as caught:
        find_splits(tmp_path)
    assert len(str(caught.value)) < 4000


@pytest.mark.usefixtures("_little_memory")
def test_an_alias_bomb_in_class_names_is_refused(tmp_path):
    (tmp_path / "names.yaml").write_text(bomb(9, "0"))
    with pytest.raises(ValueError, match=r"names.yaml: expected .*more than 1000000 values"):
        read_class_names(tmp_path / "names.yaml")


def test_names_within_the_limit_are_shown_shortened(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "data.yaml").write_text("train: images\n" + bomb(5, "names"))
    _, splits = find_splits(tmp_path)
    from sam_ft.options.data import ReadOptions

    with pytest.raises(ValueError, match="`names` is .*; expected a list of class names") as caught:
        splits["train"](ReadOptions())
    assert len(str(caught.value)) < 1000


def test_an_alias_of_its_parent_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("a: &a [1, *a]\n")
    with pytest.raises(ValueError, match="refers to a value that contains it"):
        read_yaml_mapping(str(tmp_path / "a.yaml"), "phrase_map")


def test_deep_nesting_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("a: " + "[" * 50_000)
    with pytest.raises(ValueError, match="a.yaml is nested too deeply"):
        read_yaml_mapping(str(tmp_path / "a.yaml"), "phrase_map")


def test_aliases_and_merged_keys_are_read(tmp_path):
    (tmp_path / "a.yaml").write_text("base: &base {x: 1}\nother:\n  <<: *base\n  y: [*base, *base]\n")
    values = read_yaml_mapping(str(tmp_path / "a.yaml"), "phrase_map")
    assert values == {"base": {"x": 1}, "other": {"x": 1, "y": [{"x": 1}, {"x": 1}]}}
    (tmp_path / "a.yaml").write_text("")
    assert read_yaml_mapping(str(tmp_path / "a.yaml"), "phrase_map") == {}


def test_a_duplicate_key_is_named(tmp_path):
    (tmp_path / "a.yaml").write_text("cat: 1\ncat: 2\n")
    with pytest.raises(ValueError, match="the key 'cat' occurs twice"):
        read_yaml_mapping(str(tmp_path / "a.yaml"), "phrase_map")
