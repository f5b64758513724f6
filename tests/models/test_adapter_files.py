"""Saved adapters: the fingerprint of their base, and damaged or hostile files."""

import json
import logging
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from sam_ft.models.adapter_loading import adapt, load_adapted
from sam_ft.models.base_fingerprint import BASE_FINGERPRINT
from sam_ft.models.loading import load_as_trained, load_model
from sam_ft.models.lora import merge_adapters
from sam_ft.models.processors import load_processor
from sam_ft.options.model import LoraOptions, ModelOptions
from sam_ft.options.model_names import RANDOM_TINY, RANDOM_TINY_SAM2
from sam_ft.utils.regex import matches_within


SLOW_REGEX = r"(a|.)*.*(.*.*)*(([a-z._]+)+)+!"


def save_base(folder, name=RANDOM_TINY, seed=0):
    load_model(ModelOptions(name, seed=seed)).save_pretrained(folder)
    load_processor(name).save_pretrained(folder)
    return str(folder)


@pytest.fixture(params=[RANDOM_TINY, RANDOM_TINY_SAM2])
def adapter(request, tmp_path):
    """Path of an adapter of the base `tmp_path/base`; `tmp_path/other` has equal shapes and other weights."""
    base = save_base(tmp_path / "base", request.param)
    save_base(tmp_path / "other", request.param, seed=1)
    adapt(ModelOptions(base), LoraOptions("attention", r=2)).save_pretrained(tmp_path / "run")
    return str(tmp_path / "run")


def replace_base(folder):
    shutil.rmtree(folder / "base")
    shutil.copytree(folder / "other", folder / "base")


def edit_config(folder, **values):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_base_with_other_weights_is_refused_unless_allowed(adapter, tmp_path, caplog):
    load_model(ModelOptions(adapter))
    replace_base(tmp_path)
    for load in (load_model, load_as_trained, load_adapted):
        with pytest.raises(
            ValueError, match=r"trained on another base than '.*base': .* such as `\w+\.[\w.]+`"
        ) as caught:
            load(ModelOptions(adapter))
        assert "`base_model_name_or_path`" in str(caught.value)
        assert "`allow_other_base: true`" in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
    with caplog.at_level(logging.WARNING, logger="sam_ft.run"):
        logging.getLogger("sam_ft").propagate = True
        load_model(ModelOptions(adapter, allow_other_base=True))
    assert "was trained on another base" in caplog.text


def test_a_changed_weight_is_named_in_the_error(adapter, tmp_path):
    file = tmp_path / "base" / "model.safetensors"
    weights = load_file(file)
    name = sorted(weights)[7]
    weights[name] += 1
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"1 of \d+ compared weights differ, such as `{name}`"):
        load_model(ModelOptions(adapter))


def test_precision_and_resolution_do_not_change_the_fingerprint(tmp_path):
    base = save_base(tmp_path / "base")
    lora = LoraOptions("attention", r=2)
    load_options = {
        "float32": {},
        "half": {"dtype": "bfloat16"},
        "four": {"quantization": "nf4"},
        "side": {"resolution": 144},
    }
    for name, options in load_options.items():
        adapt(ModelOptions(base, **options), lora).save_pretrained(tmp_path / name)
    for name in load_options:
        for other in {name, "float32", "four"} if name != "float32" else load_options:
            load_adapted(ModelOptions(str(tmp_path / name), **load_options[other]))
    counts = {
        name: len(json.loads((tmp_path / name / BASE_FINGERPRINT).read_text())["weights"])
        for name in ("float32", "four")
    }
    assert 0 < counts["four"] < counts["float32"]


def test_an_adapter_without_fingerprint_loads_with_one_log_line(adapter, tmp_path, caplog):
    (tmp_path / "run" / BASE_FINGERPRINT).unlink()
    replace_base(tmp_path)
    with caplog.at_level(logging.INFO, logger="sam_ft.run"):
        logging.getLogger("sam_ft").propagate = True
        load_model(ModelOptions(adapter))
    assert caplog.text.count("is not checked") == 1


def test_loading_and_saving_preserve_the_fingerprint(adapter, tmp_path):
    first = (tmp_path / "run" / BASE_FINGERPRINT).read_bytes()
    adapted = load_adapted(ModelOptions(adapter, dtype="bfloat16"))
    adapted.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / BASE_FINGERPRINT).read_bytes() == first
    merged = merge_adapters(load_adapted(ModelOptions(str(tmp_path / "again"))))
    assert all(tensor.isfinite().all() for tensor in merged.parameters())


def test_a_checkpoint_of_another_base_is_not_loaded_into_a_run(adapter, tmp_path):
    run = adapt(ModelOptions(str(tmp_path / "other")), LoraOptions("attention", r=2))
    with pytest.raises(ValueError, match="trained on another base"):
        run.load_adapter(adapter, "default", is_trainable=True)
    load_adapted(ModelOptions(adapter)).load_adapter(adapter, "default", is_trainable=True)


@pytest.mark.parametrize("content", ["", "[]", '{"weights": 3}', '{"weights": {"a": 1}}', "[" * 100_000])
def test_a_damaged_fingerprint_is_refused(tmp_path, content):
    adapt(ModelOptions(RANDOM_TINY), LoraOptions("detr", r=2)).save_pretrained(tmp_path)
    (tmp_path / BASE_FINGERPRINT).write_text(content)
    with pytest.raises(ValueError, match=rf"`model_name_or_path`: {tmp_path}/{BASE_FINGERPRINT}"):
        load_model(ModelOptions(str(tmp_path)))


@pytest.mark.parametrize(
    "values",
    [
        {"target_modules": SLOW_REGEX},
        {"exclude_modules": SLOW_REGEX},
        {"rank_pattern": {SLOW_REGEX: 4}},
        {"alpha_pattern": {SLOW_REGEX: 4}},
        {"target_modules": "("},
    ],
)
def test_a_slow_or_invalid_regex_of_an_adapter_is_refused_with_one_line(tmp_path, values, monkeypatch):
    monkeypatch.setattr("sam_ft.utils.regex.MAX_SECONDS", 1)
    adapt(ModelOptions(RANDOM_TINY), LoraOptions("detr", r=2)).save_pretrained(tmp_path)
    edit_config(tmp_path, **values)
    start = time.monotonic()
    with pytest.raises(
        ValueError, match=r"adapter_config.json of .*(takes more than 1 s|is no valid regex)"
    ) as caught:
        load_model(ModelOptions(str(tmp_path)))
    assert time.monotonic() - start < 15
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "values", [{"r": 10**9}, {"r": 1.5}, {"rank_pattern": {"q_proj": 10**9}}, {"rank_pattern": [1]}]
)
def test_ranks_of_an_adapter_are_checked(tmp_path, values):
    adapt(ModelOptions(RANDOM_TINY), LoraOptions("detr", r=2)).save_pretrained(tmp_path)
    edit_config(tmp_path, **values)
    with pytest.raises(ValueError, match="adapter_config.json of"):
        load_model(ModelOptions(str(tmp_path)))


def test_a_slow_regex_of_a_user_is_refused(monkeypatch):
    monkeypatch.setattr("sam_ft.utils.regex.MAX_SECONDS", 1)
    with pytest.raises(ValueError, match="`lora` is .*takes more than 1 s"):
        adapt(ModelOptions(RANDOM_TINY), LoraOptions(SLOW_REGEX))
    with pytest.raises(ValueError, match="`lora_rank_pattern` is .*takes more than 1 s"):
        adapt(ModelOptions(RANDOM_TINY), LoraOptions("attention", rank_pattern={SLOW_REGEX: 2}))


def test_regexes_match_full_names():
    assert matches_within([r"a\..*", "b"], ["a.b", "b", "xb"], "lora") == [["a.b"], ["b"]]
    with pytest.raises(ValueError, match=r"`lora` is '\(', which is no valid regex"):
        matches_within(["("], ["a"], "lora")


def test_truncated_adapter_weights_are_refused(tmp_path):
    adapt(ModelOptions(RANDOM_TINY), LoraOptions("detr", r=2)).save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    for content in (file.read_bytes()[:-100], b"", b"no tensors"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=rf"the adapter weights in {file} cannot be read") as caught:
            load_model(ModelOptions(str(tmp_path)))
        assert len(str(caught.value).splitlines()) == 1
    file.unlink()
    with pytest.raises(ValueError, match="the adapter weights in .* cannot be read"):
        load_model(ModelOptions(str(tmp_path)))


@pytest.mark.parametrize("rank", [0, -1, 1.5, True, "4", 10**9])
def test_ranks_are_integers_in_range(rank):
    with pytest.raises(ValueError, match="`lora_r` must be an integer between 1 and 4096, got"):
        LoraOptions("attention", r=rank)
    with pytest.raises(ValueError, match="`lora_rank_pattern` maps 'q_proj' to"):
        LoraOptions("attention", rank_pattern={"q_proj": rank})


def test_digests_differ_by_shape_and_value():
    from sam_ft.models.base_fingerprint import compute_base_fingerprint

    def digest(weight):
        module = torch.nn.Linear(1, 1, bias=False)
        module.weight = torch.nn.Parameter(weight)
        return compute_base_fingerprint(module)["weight"]

    weight = torch.arange(1.0, 7.0)
    assert digest(weight.view(2, 3)) != digest(weight.view(3, 2))
    assert digest(weight) == digest(weight.bfloat16()) == digest(weight + 1e-5)
    assert digest(weight) != digest(weight + 1)
