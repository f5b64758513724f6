"""Parsing of keys from YAML and command line, and messages for values that are not allowed."""

import dataclasses

import pytest
from transformers import IntervalStrategy

from sam_ft.arguments import SAM2_ARGUMENTS, SAM3_ARGUMENTS, ModelArguments
from sam_ft.arguments.key_specs import read_keys
from sam_ft.arguments.parser import RecipeParser
from sam_ft.commands.key_conversion import build_sam3_criterion
from sam_ft.commands.run import build_run
from sam_ft.training.training_arguments import Sam3TrainingArguments


@pytest.fixture
def parse(tmp_path):
    def run(text="", *arguments):
        file = tmp_path / "run.yaml"
        file.write_text(text)
        groups = RecipeParser(SAM3_ARGUMENTS).parse(["--config", str(file), "--use_cpu", "true", *arguments])
        return build_run(*groups).groups()

    return run


def test_command_line_overrides_yaml(parse):
    model, data, loss, training = parse(
        "resolution: 168\nnegative_ratio: 0.5\nloss_mask: 100\nlearning_rate: 1e-4\nfreeze: [vision_encoder]\n"
        'eval_strategy: "no"\ntrain_masks: false\nearly_stopping_patience: null\n',
        *["--learning_rate", "2e-4", "--resolution=112"],
    )
    assert model.resolution == 112
    assert model.freeze == ["vision_encoder"]
    assert model.train_masks is False
    assert data.negative_ratio == 0.5
    assert loss.loss_mask == 100.0
    assert isinstance(loss.loss_mask, float)
    assert training.learning_rate == 2e-4  # YAML 1.1 reads 1e-4 as text, which the parser converts.
    assert training.eval_strategy == IntervalStrategy.NO
    assert training.early_stopping_patience is None


def test_defaults_are_the_official_recipe(parse):
    model, data, loss, training = parse()
    rates = training.get_learning_rates()
    assert (rates.transformer, rates.vision, rates.text) == pytest.approx((8e-5, 2.5e-5, 5e-6))
    assert (rates.vision_layer_decay, rates.weight_decay, training.max_grad_norm) == (0.9, 0.1, 0.1)
    assert (training.num_train_epochs, training.gradient_accumulation_steps) == (20, 4)
    weights = build_sam3_criterion(loss).weights
    official = {
        "box": 5, "giou": 2, "classification": 20, "presence": 20, "mask": 200, "dice": 10, "semantic": 20,
        "semantic_dice": 30, "one_to_many": 2,
    }  # fmt: skip
    assert {name: getattr(weights, name) for name in official} == official
    assert (data.negative_ratio, data.flip_probability, data.color_jitter, data.resize) == (0.2, 0.5, 0.2, "official")
    assert training.accelerator_config.dispatch_batches is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("per_device_train_batchsize: 2", "Unknown key `per_device_train_batchsize` in .*run.yaml. Did you mean `per_device_train_batch_size`"),
        ("eval_strategy: no", "`eval_strategy` is the YAML boolean false in .*run.yaml.*`eval_strategy: \"no\"`"),
        ("learning_rate: fast", "`learning_rate` in .*run.yaml: invalid float value: 'fast'"),
        ("resolution: 112.5", "`resolution` in .*run.yaml: invalid int value"),
        ("train_masks: maybe", "train_masks.*expected one of yes/no"),
        ("resize: huge", "`resize` in .*run.yaml: invalid choice: 'huge'"),
        ("learning_rate: [1, 2]", "`learning_rate` is a list"),
        ("- a", "contains a list; expected lines"),
        ("a: [", "is not YAML"),
        ("config: x.yaml", "Unknown key `config`"),
        ("keep_score_threshold: 0.1", "Unknown key `keep_score_threshold` in .*renamed to `eval_score_threshold`"),
        ("n_rounds: 3", "Unknown key `n_rounds` in .*run.yaml. It is a key of sam2_ft.py"),
    ],
)  # fmt: skip
def test_invalid_yaml_is_refused_with_file_and_key(parse, text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--learning_rat=1", "Unknown argument `--learning_rat`. Did you mean `--learning_rate`"),
        ("--learning_rate=fast", "command line: argument --learning_rate.*invalid float value"),
        ("--learn=1", "Unknown argument `--learn`"),  # no abbreviations
        ("--column_mapping=image", "--column_mapping.*expected {key: value}, got 'image'"),
        ("--keep_max_detections=1", "`--keep_max_detections`. It was renamed to `--eval_max_detections`"),
        ("--log_level=loud", "`log_level` must be one of .*debug.*, got 'loud'"),
        ("--lr_scheduler_type=cosin", "`lr_scheduler_type` is 'cosin'"),
    ],
)
def test_invalid_command_lines_are_refused(parse, argument, message):
    with pytest.raises(ValueError, match=message):
        parse("", argument)


@pytest.mark.parametrize("text", ["{image: picture, labels: null}", '{"image": "picture", "labels": null}'])
def test_mapping_on_the_command_line(parse, text):
    _, data, _, _ = parse("", "--column_mapping", text)
    assert data.column_mapping == {"image": "picture", "labels": None}


def test_booleans_and_dashes_on_the_command_line(parse):
    model, data, _, training = parse(
        "", "--no_train_masks", "--streaming", "--hub-token", "hf_x", "--push_to_hub", "no"
    )
    assert (model.train_masks, data.streaming, training.hub_token, training.push_to_hub) == (
        False,
        True,
        "hf_x",
        False,
    )


def test_keys_of_transformers_keep_their_types(parse):
    text = (
        "report_to: [tensorboard, wandb]\nlr_schedule: transformers\nlr_scheduler_kwargs: {num_cycles: 2}\n"
        "lr_scheduler_type: cosine\neval_steps: 2\ninclude_for_metrics: loss\nadam_beta1: 8e-1\ntf32: false\n"
    )
    *_, training = parse(text)
    assert training.report_to == ["tensorboard", "wandb"]
    assert training.lr_scheduler_kwargs == {"num_cycles": 2}
    assert (training.eval_steps, training.adam_beta1, training.tf32) == (2.0, 0.8, False)
    assert training.include_for_metrics == ["loss"]


@pytest.mark.parametrize(("words", "value"), [(["wandb"], "wandb"), (["wandb", "mlflow"], ["wandb", "mlflow"])])
def test_a_key_takes_one_value_or_several_on_the_command_line(parse, words, value):
    assert parse("", "--report_to", *words)[3].report_to == (value if isinstance(value, list) else [value])


def test_missing_file_is_refused():
    with pytest.raises(ValueError, match="there is no file 'nothing.yaml'"):
        RecipeParser((ModelArguments,)).parse(["--config", "nothing.yaml"])


def test_no_evaluation_means_no_best_checkpoint(parse):
    *_, training = parse('eval_strategy: "no"')
    assert not training.load_best_model_at_end
    assert training.early_stopping_patience is None


@pytest.mark.parametrize("kinds", [SAM3_ARGUMENTS, SAM2_ARGUMENTS])
def test_keys_are_not_defined_twice(kinds):
    names = [f.name for kind in kinds for f in dataclasses.fields(kind)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("kinds", [SAM3_ARGUMENTS, SAM2_ARGUMENTS])
def test_every_key_has_a_help_text(kinds):
    for kind in kinds:
        assert all(len(spec.help) > 10 for spec in read_keys(kind).values())
        assert read_keys(kind).keys() == {f.name for f in dataclasses.fields(kind)}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["--prompt_type", "mask"], "prompt_type.*choose from"),
        (["--max_points", "6"], "`max_points` must be an integer between 1 and 5, got 6"),
        (["--min_points", "3"], "`min_points` must be at most `max_points`, which is 1, got 3"),
        (["--n_rounds", "0"], "`n_rounds` must be an integer between 1 and 20, got 0"),
        (["--box_jitter", "-1"], "`box_jitter` must be between 0 and 1, got -1.0"),
        (["--negative_ratio", "0.2"], "Unknown argument `--negative_ratio`. It is a key of sam3_ft.py"),
        (["--lora_r", "8"], "`lora_r` is 8, but `lora` is not set"),
    ],
)
def test_invalid_values_of_sam2_keys_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        RecipeParser(SAM2_ARGUMENTS).parse([*keys, "--use_cpu", "true"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nseed: 2", "the key 'seed' occurs twice"),
        ("learning_rate: null", "`learning_rate` is null in .*which is not allowed"),
        ("resolution: {a: 1}", "`resolution` is a mapping"),
        ("pairs_per_chunk: 0", "`pairs_per_chunk` must be an integer of at least 1, got 0"),
        ("learning_rate: -1", "`learning_rate` must be at least 0, got -1.0"),
        ("validation_fraction: 2", "`validation_fraction` must be between 0 and 0.9, got 2.0"),
        ("min_crop: .nan", "`min_crop` must be between 0.05 and 1, got nan"),
        ("loss_mask_alpha: 7", "`loss_mask_alpha` must be between 0 and 1, got 7.0"),
        ("max_steps: 0", "`max_steps` is 0. Leave it out or set -1"),
        ("max_steps: -3", "`max_steps` is -3"),
        ("eval_accumulation_steps: 0", "`eval_accumulation_steps` must be an integer of at least 1, got 0"),
        (
            "lr_scheduler_type: cosine",
            "`lr_scheduler_type` is 'cosine', which has no effect.*`lr_schedule: transformers`",
        ),
        ("lr_scheduler_kwargs: {a: 1}", "`lr_scheduler_kwargs` is .*no effect.*`lr_schedule: transformers`"),
        ("lora: attention\nlora_r: 1000000000", "`lora_r` must be an integer between 1 and 4096, got 1000000000"),
        ("lora: attention\nlora_rank_pattern: {q_proj: 1.5}", "`lora_rank_pattern` maps 'q_proj' to 1.5"),
        ("lora: attention\nlora_rank_pattern: {q_proj: 0}", "`lora_rank_pattern` maps 'q_proj' to 0"),
        ("lora: attention\nlora_rank_pattern: {q_proj: many}", "`lora_rank_pattern` maps 'q_proj' to 'many'"),
        ("scene_colors: [rde]", "`scene_colors` in .*: invalid choice: 'rde'"),
        ("scene_min_shapes: 9", "`scene_min_shapes` must be at most `scene_max_shapes`, which is 5, got 9"),
    ],
)
def test_invalid_values_are_refused(parse, text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["--lora_r", "8"], "`lora_r` is 8, but `lora` is not set"),
        (["--quantization", "nf4"], "`quantization` .* Set `lora`"),
        (["--cache_views", "3"], "`cache_views` is 3, but there is no `feature_cache`"),
        (["--cache_engine", "ray"], "`cache_engine` is ray, but there is no `feature_cache`"),
    ],
)
def test_keys_without_effect_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        RecipeParser(SAM3_ARGUMENTS).parse([*keys, "--use_cpu", "true"])


def test_optimizer_without_its_package_is_refused(monkeypatch):
    monkeypatch.setattr("sam_ft.training.training_arguments.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="`optim: paged_adamw_8bit` needs bitsandbytes"):
        Sam3TrainingArguments(optim="paged_adamw_8bit", use_cpu=True).check_optimizer()
    Sam3TrainingArguments(use_cpu=True).check_optimizer()


def test_a_missing_tracker_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr("sam_ft.training.training_arguments.find_spec", lambda _: None)
    arguments = Sam3TrainingArguments(use_cpu=True, report_to=["tensorboard"])
    arguments.check_trackers()
    arguments.report_to = ["tensorboard", "mlflow"]
    with pytest.raises(ValueError, match="`report_to: mlflow` needs the package mlflow.* `pip install mlflow`"):
        arguments.check_trackers()
