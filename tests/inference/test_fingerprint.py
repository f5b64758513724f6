"""Fingerprints of weights: folders, packaged models, adapters with their base, commits of the Hub."""

import json
import os

import pytest

from sam_ft.inference.weights_fingerprint import compute_weights_fingerprint
from sam_ft.models.adapter_loading import adapt
from sam_ft.models.families import PACKAGE_MODEL_NAMES
from sam_ft.models.loading import load_model
from sam_ft.options.model import LoraOptions, ModelOptions
from sam_ft.options.model_names import RANDOM_TINY


@pytest.fixture
def base(tmp_path):
    load_model(ModelOptions(RANDOM_TINY)).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def touch(file):
    os.utime(file, ns=(1, file.stat().st_mtime_ns + 10**9))


def test_packaged_models_have_distinct_fingerprints():
    assert len({compute_weights_fingerprint(name) for name in PACKAGE_MODEL_NAMES}) == len(PACKAGE_MODEL_NAMES)
    assert all(compute_weights_fingerprint(name) == compute_weights_fingerprint(name) for name in PACKAGE_MODEL_NAMES)


def test_fingerprint_of_an_adapter_changes_with_its_base(base, tmp_path):
    adapt(ModelOptions(str(base)), LoraOptions("detr", r=2)).save_pretrained(tmp_path / "first")
    adapt(ModelOptions(RANDOM_TINY), LoraOptions("detr", r=2)).save_pretrained(tmp_path / "second")
    first, second = (compute_weights_fingerprint(str(tmp_path / name)) for name in ("first", "second"))
    touch(base / "model.safetensors")
    assert compute_weights_fingerprint(str(tmp_path / "first")) != first
    assert compute_weights_fingerprint(str(tmp_path / "second")) == second
    touch(tmp_path / "second" / "base" / "model.safetensors")
    assert compute_weights_fingerprint(str(tmp_path / "second")) != second


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Fake a cache of the Hub; `hub(name, commit, file, content)` sets the commit that the name resolves to."""
    commits = {}

    def publish(name, commit, file, content):
        folder = tmp_path / f"models--{name.replace('/', '--')}" / "snapshots" / commit
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(json.dumps(content))
        commits[name] = folder

    def find(name, file):
        path = commits[name] / file
        return path if path.is_file() else None

    monkeypatch.setattr(
        "sam_ft.inference.weights_fingerprint.find_adapter_file",
        lambda name, revision: (p := find(name, "adapter_config.json")) and str(p),
    )
    monkeypatch.setattr(
        "sam_ft.inference.weights_fingerprint.find_saved_file", lambda name, file, revision: find(name, file)
    )
    return publish


def test_fingerprint_of_a_hub_id_changes_with_its_commit(hub):
    hub("owner/base", "a" * 40, "config.json", {})
    first = compute_weights_fingerprint("owner/base")
    assert compute_weights_fingerprint("owner/base") == first
    hub("owner/base", "b" * 40, "config.json", {})
    assert compute_weights_fingerprint("owner/base") != first


def test_fingerprint_of_an_adapter_on_the_hub_changes_with_the_commit_of_its_base(hub):
    hub("owner/adapter", "c" * 40, "adapter_config.json", {"base_model_name_or_path": "owner/base", "revision": None})
    hub("owner/base", "a" * 40, "config.json", {})
    first = compute_weights_fingerprint("owner/adapter")
    hub("owner/base", "b" * 40, "config.json", {})
    assert compute_weights_fingerprint("owner/adapter") != first


def test_adapters_that_are_each_others_base_have_a_fingerprint(hub):
    for name, base in (("owner/a", "owner/b"), ("owner/b", "owner/a")):
        hub(name, "a" * 40, "adapter_config.json", {"base_model_name_or_path": base})
    assert compute_weights_fingerprint("owner/a") != compute_weights_fingerprint("owner/b")
