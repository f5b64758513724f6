"""Learning is a test: a short fine-tune of the carried model finds shapes that it had never seen."""

import pytest

from sam_ft.data.synthetic.scenes import NEW_SHAPES


pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["tuned", "tuned_behind_frozen_encoders"])
def test_a_short_run_learns_new_shapes(name, request):
    """The gain that a user must see from a run of seconds, with everything trained and with both encoders frozen."""
    run = request.getfixturevalue(name)
    assert run.after["eval_mask_AP50_trained"] >= run.before["before_mask_AP50_trained"] + 0.2
    assert run.trainer.trained_phrases == set(NEW_SHAPES)


def test_frozen_encoders_stay_as_they_were(tuned_behind_frozen_encoders):
    from sam_ft.models.families import TINY
    from sam_ft.models.loading import ModelOptions, load_model

    base = load_model(ModelOptions(TINY)).state_dict()
    frozen = moved = 0
    for name, value in tuned_behind_frozen_encoders.trainer.model.state_dict().items():
        if name.startswith(("vision_encoder.", "text_encoder.", "text_projection.")):
            assert value.equal(base[name]), name
            frozen += 1
        else:
            moved += not value.equal(base[name])
    assert frozen > 0
    assert moved > 0


def test_what_is_saved_names_no_base_that_others_lack(tuned):
    from sam_ft.models.families import TINY, TINY_FOLDER

    texts = {file.name: file.read_text(encoding="utf-8") for file in tuned.folder.glob("*.json")}
    assert {"config.json", "processor_config.json", "trained_phrases.json"} <= texts.keys()
    for name, text in texts.items():
        assert TINY not in text, name
        assert str(TINY_FOLDER) not in text, name


def test_the_sheet_shows_truth_before_and_after(tuned):
    from PIL import Image

    sheet = Image.open(tuned.folder / "eval" / "pictures.png")
    # two pictures, three panels of 320 px each with a title of 20 px, gaps of 8 px
    assert sheet.size == (3 * 320 + 2 * 8, 2 * 340 + 8)
    # of fifty images those are drawn that show something new
    names = {file.stem for file in (tuned.folder / "eval" / "pictures").iterdir()}
    rows = tuned.trainer.eval_dataset.rows.remove_columns("image")
    shown = [
        row
        for row in rows
        if row["example_id"] in names or row["example_id"].replace("/", "_").replace(".", "_") in names
    ]
    assert len(shown) == 2
    assert all(any(p["instances"] and p["text"] in NEW_SHAPES for p in row["phrases"]) for row in shown)
