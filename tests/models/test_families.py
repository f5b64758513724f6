"""Registry of the model families: complete specifications, mirrored folders and refused options."""

import dataclasses
import inspect
import re
from pathlib import Path

import pytest

from sam_ft.models import families
from sam_ft.models.families import FAMILIES, get_family_of_model, get_resolution
from sam_ft.models.family_spec import resolve
from sam_ft.models.loading import load_model
from sam_ft.options.model import ModelOptions
from sam_ft.training.base_trainer import SamTrainer


OTHER_OPTIONS = {
    "sam3": {"objects_per_chunk": 2},
    "sam2": {
        "dropout": 0.1, "official_dropout": True, "with_masks": False, "pairs_per_chunk": 2, "quantization": "nf4",
    },
}  # fmt: skip


@pytest.fixture(params=list(FAMILIES))
def family(request):
    return FAMILIES[request.param]


def test_import_paths_of_a_family_resolve(family):
    assert issubclass(resolve(family.trainer), SamTrainer)
    model, *_ = resolve(family.arguments)
    assert model.family == family.key
    assert inspect.signature(resolve(family.build_trainer)).return_annotation in (
        resolve(family.trainer),
        family.trainer.partition(":")[2],
    )
    assert resolve(family.card.usage).__module__ == "sam_ft.reporting.card_usage"


def test_help_of_the_model_keys_lists_the_presets_and_parts_of_the_family(family):
    model, *_ = resolve(family.arguments)
    help_of = {field.name: field.metadata.get("help", "") for field in dataclasses.fields(model)}
    listed = re.split(r"[^\w+]+", help_of["lora"])
    assert set(family.lora_presets) <= set(listed)
    listed = re.split(r"\W+", help_of["freeze"])
    assert {*family.parts.prefixes, *family.parts.groups} <= set(listed)


def test_trainer_of_another_family_is_refused(family, tmp_path):
    other = next(member for member in FAMILIES.values() if member is not family)
    arguments = resolve(family.arguments)[-1](
        output_dir=str(tmp_path), report_to=[], eval_strategy="no", save_strategy="no"
    )
    title, name = other.title, other.trainer.partition(":")[2]
    with pytest.raises(ValueError, match=rf"`model` is a {title}, which \w+ cannot train. Use {name}"):
        resolve(family.trainer)(model=load_model(ModelOptions(other.random_name)), args=arguments)


def test_untrained_model_has_the_classes_resolution_and_parts_of_its_family(family):
    model = load_model(ModelOptions(family.random_name))
    assert isinstance(model, family.model_class)
    assert isinstance(model.config, family.config_class)
    assert get_family_of_model(model) is family
    assert get_resolution(model.config) == family.get_resolution(family.build_tiny_config())
    for name in (*family.encoders, *family.parts.prefixes, *family.parts.groups):
        prefixes = family.parts.get_prefixes([name])
        assert any(parameter.startswith(prefixes) for parameter, _ in model.named_parameters()), name
    assert all(hasattr(model, name) for name in family.model_settings)


def test_options_of_another_family_are_refused(family):
    for name, value in OTHER_OPTIONS[family.key].items():
        with pytest.raises(ValueError, match=rf"`{name}` is {value!r}, but {family.title} has no such option"):
            load_model(ModelOptions(family.random_name, **{name: value}))


def test_folders_of_the_families_have_the_same_modules_for_the_same_jobs():
    folders = [Path(families.__file__).parent / key for key in FAMILIES]
    shared = {"batch", "config", "family", "model", "predictions", "random_model", "steps"}
    for folder in folders:
        assert shared <= {file.stem for file in folder.glob("*.py")}, folder.name
