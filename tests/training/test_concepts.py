"""Concepts: training of prompt tokens in front of a frozen model, their files, and their use."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from sam_ft import Sam3Predictor
from sam_ft.data.samples.collators import Sam3Collator
from sam_ft.models.base_fingerprint import compute_base_fingerprint
from sam_ft.models.loading import load_as_trained, load_model
from sam_ft.models.sam3.concepts import ConceptIndex
from sam_ft.models.sam3.steps import ConceptPredictionStep
from sam_ft.models.unwrapping import unwrap_sam
from sam_ft.options.evaluation import DetectionLimits
from sam_ft.options.model import ModelOptions

from ..conftest import tune
from .common import build


STEPS = {
    "max_steps": 4,
    "save_strategy": "steps",
    "save_steps": 2,
    "gradient_accumulation_steps": 1,
    "learning_rate": 4e-2,
    "lr_scale": 1.0,
    "weight_decay": 0.0,
    "lr_schedule": "transformers",
    "lr_scheduler_type": "constant",
}


@pytest.fixture(scope="module")
def tuned_concepts(tuned, new_shapes, tmp_path_factory):
    """Concepts of stars, hearts and crosses after a short run."""
    return tune(
        new_shapes,
        tmp_path_factory.mktemp("concepts"),
        60,
        {"learning_rate": 4e-2},
        before=tuned.before,
        concept_tokens=8,
    )


@pytest.fixture(scope="module")
def saved_once(shapes, tmp_path_factory):
    """Concept files of a run of two steps."""
    folder = tmp_path_factory.mktemp("saved")
    trainer = build(shapes, folder, "sam-ft/tiny", model={"concept_tokens": 4}, **STEPS | {"max_steps": 2})
    trainer.train()
    trainer.save_model()
    return folder


@pytest.fixture
def saved(saved_once, tmp_path):
    """Copy of the concept files, for tests that damage them."""
    (tmp_path / "saved").mkdir()
    for name in ("concepts.safetensors", "concepts.json"):
        shutil.copy(saved_once / name, tmp_path / "saved")
    return tmp_path / "saved"


def predict(model, batch):
    """Return scores, boxes and masks of the pairs of a batch."""
    found = []
    with torch.no_grad():
        model.eval()(**batch, step=ConceptPredictionStep(DetectionLimits(0.0, 20), found.append))
    return [(p.presence, p.scores, p.boxes_xyxy, p.masks) for p in found]


@pytest.mark.slow
def test_concepts_learn_new_phrases_and_change_no_other_output(tuned_concepts):
    run = tuned_concepts
    gain = run.after["eval_mask_AP50_trained"] - run.before["before_mask_AP50_trained"]
    assert gain >= 0.3
    for name in ("mask_AP_untrained", "mask_AP50_untrained", "box_AP_untrained"):
        assert run.after[f"eval_{name}"] == run.before[f"before_{name}"]
    # Other chunk sizes would change the rounding of matrix products.
    base, tuned = load_model(ModelOptions("sam-ft/tiny", pairs_per_chunk=64)), unwrap_sam(run.trainer.model)
    assert compute_base_fingerprint(base).items() <= compute_base_fingerprint(tuned).items()
    samples = [run.trainer.eval_dataset[i] for i in range(6)]
    batch = run.trainer.data_collator(samples)
    phrases = [batch["labels"][0]["phrases"][phrase] for phrase in batch["pair_phrase"]]
    plain = Sam3Collator(run.trainer.data_collator.tokenizer)(samples)
    for keys in (batch, plain):
        for name in ("labels", "pair_instances", "pair_ignore", "pair_exhaustive"):
            del keys[name]
    for phrase, before, after in zip(phrases, predict(base, plain), predict(tuned, batch), strict=True):
        is_equal = all(torch.equal(x, y) for x, y in zip(before, after, strict=True))
        assert is_equal == (phrase not in ("star", "heart", "cross")), phrase


@pytest.mark.slow
def test_files_are_small_and_the_predictor_uses_them(tuned_concepts):
    folder = tuned_concepts.folder
    assert (folder / "concepts.safetensors").stat().st_size < 8 * 1024  # 3 × 8 tokens of 64 floats
    assert not list(folder.glob("model*.safetensors"))
    assert (folder / "concepts.safetensors").stat().st_mode == (folder / "concepts.json").stat().st_mode
    sample = tuned_concepts.trainer.eval_dataset.rows[0]["image"]
    alone = Sam3Predictor.from_pretrained(str(folder))
    added = Sam3Predictor.from_pretrained("sam-ft/tiny", concepts=[str(folder)])
    base = Sam3Predictor.from_pretrained("sam-ft/tiny")
    phrases = ["star", "circle"]
    assert alone(sample, phrases).detections["star"] == added(sample, phrases).detections["star"]
    assert added(sample, phrases).presence["star"] != base(sample, phrases).presence["star"]
    without = added(sample, ["base:star", "circle"])
    assert without.presence["base:star"] == base(sample, phrases).presence["star"]
    assert without.presence["circle"] == base(sample, phrases).presence["circle"]
    entry = next(c for c in json.loads((folder / "concepts.json").read_text())["concepts"] if c["phrase"] == "star")
    assert added.threshold("star") == entry["threshold"] == alone.threshold("star")
    assert added.describe_thresholds().startswith("those saved with the concepts; 0.50 for phrases without")
    assert entry["scores"]["mask_AP50"] > 0
    assert json.loads((folder / "concepts.json").read_text())["version"]


def test_a_resumed_run_gives_the_same_concepts(shapes, tmp_path):
    keys = {"concept_tokens": 4, "concept_dropout": 0.2}
    whole = build(shapes, tmp_path / "whole", "sam-ft/tiny", model=keys, **STEPS)
    whole.train()
    whole.save_model()
    again = build(shapes, tmp_path / "again", "sam-ft/tiny", model=keys, **STEPS)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    again.save_model()
    first, second = (load_file(tmp_path / run / "concepts.safetensors") for run in ("whole", "again"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_phrase_is_added_without_changing_the_others(shapes, saved, tmp_path):
    before, names = load_file(saved / "concepts.safetensors"), json.loads((saved / "concepts.json").read_text())
    first = names["concepts"][0]["phrase"]
    one = tmp_path / "one"
    one.mkdir()
    save_file({"concept.0": before["concept.0"]}, one / "concepts.safetensors")
    (one / "concepts.json").write_text(json.dumps(names | {"concepts": names["concepts"][:1]}))
    trainer = build(shapes, tmp_path / "more", str(one), model={"concept_tokens": 6}, **STEPS | {"max_steps": 2})
    trainer.train()
    trainer.save_model()
    after = load_file(tmp_path / "more" / "concepts.safetensors")
    assert torch.equal(after["concept.0"], before["concept.0"])
    assert {len(tokens) for name, tokens in after.items() if name != "concept.0"} == {6}
    with pytest.raises(ValueError, match="all phrases of the data have a concept"):
        build(shapes, tmp_path / "none", str(tmp_path / "more"), model={"concept_tokens": 6}, **STEPS)
    again = {"concept_tokens": 6, "concept_phrases": [first.capitalize()]}
    trainer = build(shapes, tmp_path / "further", str(tmp_path / "more"), model=again, **STEPS)
    trainer.train()
    trainer.save_model()
    further = load_file(tmp_path / "further" / "concepts.safetensors")
    assert {name for name in after if not torch.equal(after[name], further[name])} == {"concept.0"}


@pytest.mark.parametrize("init", ["random", "exemplars"])
def test_initial_tokens(shapes, tmp_path, init):
    model = {"concept_tokens": 5, "concept_init": init}
    first, second, word = (
        unwrap_sam(build(shapes, tmp_path, "sam-ft/tiny", model=keys).model).concepts
        for keys in (model, model, {"concept_tokens": 5})
    )
    for a, b, c in zip(first.tokens, second.tokens, word.tokens, strict=True):
        assert a.shape == (5, 64)
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
        assert len(torch.unique(a, dim=0)) == 5


def test_cached_features_give_the_same_concepts(shapes, tmp_path):
    data, keys = {"flip_probability": 0.0, "color_jitter": 0.0}, {"concept_tokens": 4}
    steps = STEPS | {"max_steps": 2, "save_strategy": "no"}
    cached = {"feature_cache": str(tmp_path / "features"), "cache_text": True}
    plain = build(shapes, tmp_path / "plain", "sam-ft/tiny", data=data, model=keys, **steps)
    stored = build(shapes, tmp_path / "stored", "sam-ft/tiny", data=data | cached, model=keys, **steps)
    for trainer in (plain, stored):
        trainer.train()
    model = unwrap_sam(stored.model)
    assert model.vision_encoder.backbone is None
    assert model.text_encoder is None
    for a, b in zip(unwrap_sam(plain.model).concepts.tokens, model.concepts.tokens, strict=True):
        # The cache stores bfloat16.
        assert torch.allclose(a, b, atol=0.05 * float(a.detach().std()))


def damage_weights(folder):
    content = (folder / "concepts.safetensors").read_bytes()
    (folder / "concepts.safetensors").write_bytes(content[:100])


def test_spellings_of_a_phrase_have_one_concept():
    index = ConceptIndex()
    index.add("traffic light", ["stop-light"])
    index.add("T-shirt")
    index.add("t shirt")
    assert [index.index_of(text) for text in ("Traffic_light", "Stop light", "T-shirt", "t shirt")] == [0, 0, 1, 2]
    assert [index.index_of(text) for text in ("light", "base:Traffic light")] == [-1, -1]
    assert index.text_of("base:Traffic_light") == "Traffic_light"
    assert index.text_of("base:light") == "base:light"
    index.enabled = False
    assert index.index_of("Traffic_light") == -1


def change_info(**values):
    def change(folder):
        info = json.loads((folder / "concepts.json").read_text())
        (folder / "concepts.json").write_text(json.dumps(info | values))

    return change


def write_nan(folder):
    tensors = load_file(folder / "concepts.safetensors")
    save_file(tensors | {"concept.0": tensors["concept.0"] * float("nan")}, folder / "concepts.safetensors")


def write_integers(folder):
    tensors = load_file(folder / "concepts.safetensors")
    save_file({name: tensor.long() for name, tensor in tensors.items()}, folder / "concepts.safetensors")


def change_first(**values):
    def change(folder):
        concepts = json.loads((folder / "concepts.json").read_text())["concepts"]
        change_info(concepts=[concepts[0] | values, *concepts[1:]])(folder)

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_weights, "cannot be read"),
        (lambda folder: (folder / "concepts.safetensors").unlink(), "contains no concepts.safetensors"),
        (lambda folder: (folder / "concepts.json").write_text("[]"), "is no description of concepts"),
        (change_info(width=32), "expected 1 to 32 rows of 32"),
        (change_info(concepts=[]), "must be a list of phrases"),
        (change_info(format=9), "`format` is 9, expected 1"),
        (change_info(digests={"vision_trunk": "0"}), "other weights in vision_trunk"),
        (change_first(temperature="x"), "'circle': `temperature` must be a positive number"),
        (change_first(temperature=0), "'circle': `temperature` must be a positive number"),
        (change_first(threshold=2), "'circle': `threshold` must be between 0 and 1"),
        (change_first(synonyms="disc"), "phrase and `synonyms` must be a text and a list of texts"),
        (change_first(phrase="base:circle"), "phrase and `synonyms` must be a text and a list of texts"),
        (change_first(scores=[1]), "'circle': `scores` must be a mapping"),
        (change_first(synonyms=["Triangle"]), "the phrase 'triangle' is defined by"),
        (write_integers, "has the type I64, expected F32, F16 or BF16"),
        (write_nan, "contain NaN or infinity. Copy both concept files again"),
        (
            lambda folder: (folder / "concepts.json").unlink(),
            "^`concepts`: the folder '.*' contains no concepts.json. P",
        ),
        (shutil.rmtree, "^`concepts`: there is no folder '.*saved'. Pass the output folder"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_invalid_files_are_refused(saved, damage, message):
    damage(saved)
    with pytest.raises(ValueError, match=message):
        Sam3Predictor.from_pretrained("sam-ft/tiny", concepts=[str(saved)])


def test_invalid_requests_are_refused(shapes, saved, tmp_path):
    shutil.copytree(saved, tmp_path / "copy")
    with pytest.raises(ValueError, match=r"is defined by '.*saved' and by '.*copy'"):
        load_as_trained(ModelOptions("sam-ft/tiny", concepts=[str(saved), str(tmp_path / "copy")]))
    with pytest.raises(ValueError, match=r"`concepts` contains '.*saved' twice"):
        load_as_trained(ModelOptions("sam-ft/tiny", concepts=[str(saved), saved]))
    with pytest.raises(ValueError, match=r"`concepts` is the string '.*saved'. Pass a list"):
        load_as_trained(ModelOptions("sam-ft/tiny", concepts=str(saved)))
    with pytest.raises(ValueError, match="other weights"):
        load_as_trained(ModelOptions("sam-ft/random-tiny", concepts=[str(saved)]))
    change_info(base="moved/base")(tmp_path / "copy")
    with pytest.raises(
        ValueError, match=r"the concepts '.*copy' were trained on 'moved/base', which cannot be loaded"
    ):
        load_as_trained(ModelOptions(str(tmp_path / "copy")))
    with pytest.raises(ValueError, match="Pass their base model"):
        build(shapes, tmp_path / "out", str(saved))
    with pytest.raises(ValueError, match="`concept_phrases` contains 'zebra', but no training image shows it"):
        build(shapes, tmp_path / "out", model={"concept_tokens": 4, "concept_phrases": ["zebra"]})
    for tokens in (0, 33):
        with pytest.raises(ValueError, match="`concept_tokens` must be an integer between 1 and 32"):
            build(shapes, tmp_path / "out", model={"concept_tokens": tokens})
    for keys in ({"lora": "attention"}, {"freeze": ["scoring"]}, {"quantization": "nf4"}):
        with pytest.raises(ValueError, match=rf"but `{next(iter(keys))}` is set. Leave out"):
            build(shapes, tmp_path / "out", model={"concept_tokens": 4} | keys)
    for keys in ({"concept_init": "random"}, {"concept_phrases": ["star"]}, {"concept_dropout": 0.1}):
        with pytest.raises(ValueError, match=rf"`{next(iter(keys))}` is .* but `concept_tokens` is not set"):
            build(shapes, tmp_path / "out", model=keys)


@pytest.mark.slow
def test_the_commands_train_evaluate_and_predict_with_concepts(script, shapes, tmp_path):
    options = [
        f"--dataset_name={shapes}", "--use_cpu=true", "--report_to=none", "--dataloader_num_workers=0",
        "--disable_tqdm=true", "--num_pictures=0", "--bootstrap_samples=0",
    ]  # fmt: skip
    folder = tmp_path / "out"
    status, _, err = script(
        "sam3_ft.py",
        *options[:-2],
        "--num_pictures=1",
        f"--output_dir={folder}",
        "--concept_tokens=4",
        "--concept_phrases",
        "triangle",
        "circle",
        "--max_steps=2",
        "--probe_images=2",
    )
    assert status == 0, err
    card = (folder / "README.md").read_text()
    assert "Learned prompt tokens for a frozen SAM 3" in card
    assert 'concepts.safetensors")["concept.1"]' in card  # that of circle
    log = (folder / "training.log").read_text()
    assert "presence of untrained phrases is predicted as before in 100% of the pairs" in log
    assert "mask_AP50  " in log
    assert "mask_AP50  " not in err
    size = (folder / "concepts.safetensors").stat().st_size
    for line, text in zip(
        err.splitlines()[-6:],
        [
            r"new phrases      mask AP50 \d\.\d\d → \d\.\d\d \(circle .*, triangle .*\)",
            r"other phrases    unchanged: bit-identical in all \d+ \(image, phrase\) pairs; mask AP50 .*",
            r"thresholds       circle \d\.\d\d, .*others \d\.\d\d",
            r"report           .*out/report\.html, .*out/before_after\.png",
            rf"concepts         .*concepts\.safetensors, {size / 1e3:.1f} KB",
            r"next             .*sam-ft predict --model_name_or_path .*out --images .*",
        ],
        strict=True,
    ):
        assert re.fullmatch(text, line), line
    assert (folder / "before_after.png").is_file()
    words = f"--model_name_or_path={folder}", f"--output_dir={tmp_path / 'score'}", "--compare=base=sam-ft/tiny"
    status, _, err = script("sam3_eval.py", *options, *words)
    assert status == 0, err
    stored = json.loads((folder / "eval_results.json").read_text())
    again = json.loads((tmp_path / "score" / "eval_results.json").read_text())
    assert again["eval_box_AP"] == pytest.approx(stored["eval_box_AP"], abs=1e-6)
    words = f"--images={shapes}", f"--predictions_dir={tmp_path / 'predictions'}", "--device=cpu"
    status, _, err = script("sam3_predict.py", "--model_name_or_path=sam-ft/tiny", f"--concepts={folder}", *words,
                            "--phrases", "circle", "base:circle")  # fmt: skip
    assert status == 0, err
