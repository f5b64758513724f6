"""Phrases from attributes: their instances, and which absences are certain."""

import pytest

from sam_ft.data.loading import load_phrase_dataset
from sam_ft.data.phrases.attributes import (
    AttributeTemplates,
    LabelledInstance,
    attribute_values,
    read_attribute_templates,
)
from sam_ft.options.data import DatasetOptions, ReadOptions

from .readers.trees import polygons


WORLD = [
    LabelledInstance(0, "apple", {"color": "red", "ripeness": "ripe"}),
    LabelledInstance(0, "apple", {"color": "green", "ripeness": "raw"}),
    LabelledInstance(0, "pear", {"color": "green"}),
]


def phrases_of(instances, *templates) -> dict:
    phrases = AttributeTemplates(list(templates)).phrases(instances, attribute_values(iter(WORLD)))
    return {phrase["text"]: (phrase["instances"], phrase["exhaustive"]) for phrase in phrases}


def test_present_phrases_and_their_near_misses():
    phrases = phrases_of(
        [LabelledInstance(0, "apple", {"color": "red"}), LabelledInstance(1, "pear", {"color": "green"})],
        "{color} {label}",
    )
    assert phrases == {
        "red apple": ([0], True),
        "green pear": ([1], True),
        "green apple": ([], True),  # another colour of the apple; also the pear's colour on an apple
    }


def test_values_of_another_class_give_no_near_miss():
    assert "red pear" not in phrases_of([LabelledInstance(0, "apple", {"color": "red"})], "{color} {label}")


def test_an_instance_without_the_attribute_makes_a_phrase_not_exhaustive():
    phrases = phrases_of(
        [LabelledInstance(0, "apple", {"color": "red"}), LabelledInstance(1, "apple", {})], "{color} {label}"
    )
    assert phrases == {"red apple": ([0], False)}  # the other apple may be green


def test_another_attribute_can_exclude_an_instance():
    instances = [
        LabelledInstance(0, "apple", {"color": "red", "ripeness": "ripe"}),
        LabelledInstance(1, "apple", {"color": "green"}),
    ]
    phrases = phrases_of(instances, "{ripeness} {color} {label}")
    assert phrases["ripe red apple"] == ([0], True)  # the other apple is green
    assert "ripe green apple" not in phrases  # the green one may be ripe
    assert phrases["raw red apple"] == ([], True)


def test_optional_parts_are_levels():
    phrases = phrases_of(
        [LabelledInstance(0, "apple", {"color": "red", "ripeness": "ripe"})], "[{ripeness} ]{color} {label}"
    )
    assert {text for text, (instances, _) in phrases.items() if instances} == {"ripe red apple", "red apple"}
    phrases = phrases_of([LabelledInstance(0, "apple", {"color": "red"})], "[{ripeness} ]{color} {label}")
    assert {text for text, (instances, _) in phrases.items() if instances} == {"red apple"}


def test_from_files_to_rows_with_synonyms_and_plurals(tmp_path):
    polygons(tmp_path / "data")
    file = tmp_path / "templates.yaml"
    file.write_text('templates: ["{color} {label}"]\nsynonyms: {red: [crimson]}\nplurals: {apple: apples}\n')
    reading = ReadOptions(attributes=read_attribute_templates(str(file)))
    data = load_phrase_dataset(DatasetOptions(str(tmp_path / "data"), validation_fraction=0.0), reading)
    phrases = {phrase["text"]: phrase for phrase in data.train[0]["phrases"]}
    assert phrases["apple"]["instances"] == [0, 1]
    assert phrases["red apple"]["instances"] == [0]
    assert phrases["green pear"]["instances"] == [2]
    assert data.synonyms["red apple"] == ["crimson apple", "red apples"]
    assert len(set(data.category_ids.values())) == len(data.category_ids)


def test_phrases_of_a_stream_have_synonyms_too(tmp_path):
    """The phrases of a stream are not listed in advance, so that their synonyms are computed on access."""
    polygons(tmp_path)
    templates = AttributeTemplates(["{color} {label}"], {"red": ["crimson"]})
    options = DatasetOptions(str(tmp_path), validation_fraction=0.0, streaming=True)
    data = load_phrase_dataset(options, ReadOptions(attributes=templates))
    assert data.synonyms.get("red apple", []) == ["crimson apple"]
    assert data.synonyms["red plum"] == ["crimson plum"]
    assert data.synonyms["red plum"] is data.synonyms["red plum"]  # computed once


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("templates: []", "needs `templates`"),
        ("templates: ['{color}']", "contains {label}"),
        ("templates: ['{label} {']", "contains {label}"),
        ("templates: ['{label}']\nplural: {}", "has 'plural'"),
        ("templates: ['{label}']\nsynonyms: {red: crimson}", "expected a list of words"),
        ("templates: ['{label}']\nplurals: {apple: [apples]}", "expected a text"),
    ],
)
def test_an_invalid_file_is_reported(tmp_path, text, message):
    file = tmp_path / "templates.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=f"`attribute_templates`: .*{message}"):
        read_attribute_templates(str(file))
