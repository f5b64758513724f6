"""Model card: metadata for the Hub, usage examples, metrics, retention and licences."""

import pytest
from huggingface_hub import ModelCard

from sam_ft.metrics.thresholds import Thresholds
from sam_ft.models.families import FAMILIES
from sam_ft.reporting.card_facts import CardFacts, DatasetFacts
from sam_ft.reporting.metric_table import Column
from sam_ft.reporting.model_card import model_card


def facts(**changes):
    before = Column("before", {"mask_AP": 0.1, "mask_AP50": 0.2, "cgF1": 0.05})
    after = Column(
        "after", {"mask_AP": 0.4, "mask_AP50": 0.61, "cgF1": 0.3, "box_AP": -1}, {"mask_AP": (0.3, 0.5)},
        notes=["REGRESSION: retention is worse", "  ✗ untrained phrases are detected in 40%"],
    )  # fmt: skip
    common = {
        "name": "you/potholes", "family": FAMILIES["sam3"], "form": "full", "base": "facebook/sam3", "base_id": "facebook/sam3",
        "licence": "other", "revision": None, "datasets": [DatasetFacts("street")],
        "phrases": ["pothole", 'a "quoted" | thing'],
        "columns": [before, after], "made": {"time": "3 min"},
        "command": "accelerate launch recipes/sam3_ft.py --x 'a b'",
    }  # fmt: skip
    return CardFacts(**(common | changes))


def test_metadata_of_a_tuned_sam_3():
    card = ModelCard(model_card(facts()))
    data = card.data
    assert (data.license, data.license_name) == ("other", "sam-license")
    assert data.license_link.startswith("https://")
    assert data.base_model == "facebook/sam3"
    assert data.base_model_relation == "finetune"
    assert (data.library_name, data.pipeline_tag) == ("transformers", "mask-generation")
    assert {(r.metric_type, r.metric_value) for r in data.eval_results} == {
        ("mask_AP", 0.4),
        ("mask_AP50", 0.61),
        ("cgF1", 0.3),
    }
    text = card.text
    assert "from **0.20** to **0.61**" in text
    assert "| mask AP (IoU 0.50:0.95) | 0.100 | 0.400 (0.300–0.500) |" in text
    assert "**REGRESSION: retention is worse**" in text
    assert "- ✗ untrained phrases are detected in 40%" in text
    assert "street does not state a licence." in text
    assert "stay under the [SAM License]" in text
    assert "accelerate launch recipes/sam3_ft.py --x 'a b'" in text


@pytest.mark.parametrize(
    "form, library",
    [("adapter", "peft"), ("merged", "transformers"), ("full", "transformers"), ("concepts", "sam-ft")],
)
def test_code_of_a_card_is_python_and_names_the_model(form, library):
    card = ModelCard(model_card(facts(form=form, concepts=["star", "pothole"], is_on_hub=True)))
    assert card.data.library_name == library
    assert card.data.base_model_relation == ("adapter" if form in ("adapter", "concepts") else "finetune")
    blocks = card.text.split("```python\n")[1:]
    assert len(blocks) == (3 if form == "adapter" else 2)
    for block in blocks:
        code = block.split("```")[0]
        compile(code, "card", "exec")
        assert '"you/potholes"' in code


def test_card_contains_data_sets_and_thresholds():
    thresholds = Thresholds(
        presence_temperature=0.8, default=0.4, phrases={"pothole": 0.37}, rule="best F1", num_images=12
    )
    pictures = [("7 · better", "card/1.png")]
    text = model_card(
        facts(
            licence="apache-2.0", base_id=None,
            datasets=[DatasetFacts("some/data", "some/data", "cc-by-4.0"), DatasetFacts("mine")],
            thresholds=thresholds, pictures=pictures, has_report=True, columns=facts().columns[1:],
        )
    )  # fmt: skip
    card = ModelCard(text)
    assert card.data.license == "apache-2.0"
    assert card.data.datasets == ["some/data"]
    assert card.data.base_model is None
    assert "![7 · better](card/1.png)" in text
    assert "threshold=0.37" in text
    assert "states the licence cc-by-4.0. mine does not state a licence." in text
    assert "without the presence temperature" in text
    assert "before" not in text.split("## Evaluation")[1].split("## Retention")[0], (
        "there is no column to compare with"
    )


def test_usage_of_an_adapter_sets_resolution_and_revision_of_the_base():
    """With another resolution or a pinned base, the one-line call would load another model."""
    text = model_card(facts(form="adapter", side=672, revision="abc"))
    plain_use = text.split("```python\n")[1].split("```")[0]
    assert "config.image_size = 672" in plain_use
    assert plain_use.count('revision="abc"') == 2
    assert "PeftModel.from_pretrained(Sam3Model.from_pretrained(" in plain_use


@pytest.mark.parametrize("phrase", ['a "quoted" thing', "back\\slash", "a_b*c|d<e>[f](g)"])
def test_phrases_are_escaped(phrase):
    thresholds = Thresholds(default=0.4, phrases={phrase: 0.11})
    text = model_card(facts(phrases=[phrase], thresholds=thresholds))
    code = text.split("```python\n")[1].split("```")[0]
    assert "threshold=0.11" in code
    call = next(line for line in code.splitlines() if "text=" in line)
    assert eval(call.split("text=")[1].split(", return_tensors")[0]) == phrase
    ModelCard(text)


def test_card_without_retention_states_that_it_was_not_measured():
    columns = facts().columns
    columns[1].notes = []
    assert "Retention was not measured" in model_card(facts(columns=columns, phrases=[]))


@pytest.mark.parametrize("form", ["full", "adapter", "merged"])
def test_card_of_a_tuned_sam_2(form):
    columns = [
        Column("before", {"object_IoU": 0.31, "IoU@5": 0.5}),
        Column("after", {"object_IoU": 0.72, "IoU@5": 0.81}),
    ]
    base = "facebook/sam2.1-hiera-tiny"
    text = model_card(
        facts(
            family=FAMILIES["sam2"], form=form, licence="apache-2.0", base=base, base_id=base, phrases=[], columns=columns,
            side=512 if form == "adapter" else None,
        )
    )  # fmt: skip
    card = ModelCard(text)
    assert card.data.license == "apache-2.0"
    assert card.data.base_model == base
    assert {"sam2", "interactive-segmentation"} <= set(card.data.tags)
    assert card.data.eval_results[0].metric_value == 0.72
    assert "segments an object from clicks or a box" in text
    assert "Mean IoU of prompted objects went from **0.31** to **0.72**" in text
    assert "| IoU after 5 clicks | 0.500 | 0.810 |" in text
    assert "## Retention" not in text, "SAM 2 has no phrases"
    codes = [part.split("```")[0] for part in text.split("```python")[1:]]
    for code in codes:
        compile(code, "card", "exec")
    assert "Sam2Model" in codes[0]
    assert ("512" in codes[0]) == (form == "adapter"), "the resolution differs from the base's"
    assert "Sam2Predictor" in codes[-1]
