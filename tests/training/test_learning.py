"""A short fine-tuning run of the packaged model on new shapes."""

import pytest

from sam_ft.options.scenes import NEW_SHAPES


pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["tuned", "tuned_behind_frozen_encoders"])
def test_a_short_run_learns_new_shapes(name, request):
    """Minimum gain of a run of seconds, with all parts trained and on cached features of frozen encoders."""
    run = request.getfixturevalue(name)
    assert run.after["eval_mask_AP50_trained"] >= run.before["before_mask_AP50_trained"] + 0.2
    assert run.trainer.trained_phrases == set(NEW_SHAPES)


def test_frozen_encoders_do_not_change(tuned_behind_frozen_encoders):
    from sam_ft.models.loading import load_model
    from sam_ft.options.model import ModelOptions
    from sam_ft.options.model_names import TINY

    base = load_model(ModelOptions(TINY)).state_dict()
    frozen = moved = 0
    saved = load_model(ModelOptions(str(tuned_behind_frozen_encoders.folder))).state_dict()
    for name, value in saved.items():
        if name.startswith(("vision_encoder.", "text_encoder.", "text_projection.")):
            assert value.equal(base[name]), name
            frozen += 1
        else:
            moved += not value.equal(base[name])
    assert frozen > 0
    assert moved > 0


def test_saved_model_names_no_local_base(tuned):
    from sam_ft.models.families import PACKAGED_MODELS
    from sam_ft.options.model_names import TINY

    texts = {file.name: file.read_text(encoding="utf-8") for file in tuned.folder.glob("*.json")}
    assert {"config.json", "processor_config.json", "trained_phrases.json"} <= texts.keys()
    for name, text in texts.items():
        assert TINY not in text, name
        assert str(PACKAGED_MODELS[TINY]) not in text, name


def test_pictures_show_ground_truth_before_and_after(tuned):
    from PIL import Image

    with Image.open(tuned.folder / "eval" / "pictures.png") as sheet:
        # Two pictures of three panels, each 320 px wide with a title of 20 px, and a legend of 22 px; with gaps of 8 px.
        assert sheet.size == (3 * 320 + 2 * 8, 2 * 340 + 8 + 8 + 22)
    # Images with new shapes are drawn first.
    names = {file.stem for file in (tuned.folder / "eval" / "pictures").iterdir()}
    rows = tuned.trainer.eval_dataset.rows.remove_columns("image")
    shown = [
        row
        for row in rows
        if row["example_id"] in names or row["example_id"].replace("/", "_").replace(".", "_") in names
    ]
    assert len(shown) == 2
    assert all(any(p["instances"] and p["text"] in NEW_SHAPES for p in row["phrases"]) for row in shown)
