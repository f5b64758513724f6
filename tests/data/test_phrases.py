import numpy as np
import pytest

from sam_ft.data.keyed_random import keyed_draws
from sam_ft.data.phrases.sampling import choose_phrases
from sam_ft.data.phrases.vocabulary import name_phrases, normalize_phrase, read_phrase_map
from sam_ft.options.phrases import PhraseMap, PhraseOptions


def row(positives=3, absent=10, crowd_only=1):
    instances = [{"is_crowd": False}] * positives + [{"is_crowd": True}] * crowd_only
    phrases = [{"text": f"p{i}", "instances": [i], "exhaustive": True} for i in range(positives)]
    phrases += [{"text": f"c{i}", "instances": [positives + i], "exhaustive": True} for i in range(crowd_only)]
    phrases += [{"text": f"n{i}", "instances": [], "exhaustive": True} for i in range(absent)]
    return {"instances": instances, "phrases": phrases}


def sample(row, seed=0, **options):
    return choose_phrases(row, np.random.default_rng(seed), PhraseOptions(**options))


def test_the_ratio_of_absent_phrases_holds_on_average():
    sampled = [sample(row(), seed) for seed in range(400)]
    absent = sum(not p.instances for phrases in sampled for p in phrases)
    assert (
        abs(absent / sum(map(len, sampled)) - 0.2) < 0.02
    )  # 400 draws of 3 to 4 phrases: a standard error below 0.01


def test_a_fixed_number_of_absent_phrases():
    assert [p.text[0] for p in sample(row(), negatives_per_image=2)] == ["p"] * 3 + ["n"] * 2
    assert len(sample(row(absent=1), negatives_per_image=5)) == 4
    assert [p.text[0] for p in sample(row(), negative_ratio=0.0)] == ["p"] * 3


def test_the_maximum_prefers_positives():
    assert [p.text[0] for p in sample(row(), max_phrases_per_image=2)] == ["p", "p"]
    assert [p.text[0] for p in sample(row(), max_phrases_per_image=4, negatives_per_image=9)] == ["p"] * 3 + ["n"]


def test_an_image_without_positives_gets_a_negative_phrase():
    assert [p.text[0] for p in sample(row(positives=0))] == ["n"]
    assert sample(row(positives=0), negative_ratio=0.0) == []
    assert sample(row(positives=0, absent=0)) == []


def test_crowds_are_neither_present_nor_absent():
    assert all(not p.text.startswith("c") for seed in range(50) for p in sample(row(), seed, negatives_per_image=20))
    mixed = row(positives=1)
    mixed["phrases"][0]["instances"] = [0, 1]
    assert (sample(mixed)[0].instances, sample(mixed)[0].crowds) == ([0], [1])


def test_phrases_that_may_be_unlabelled_are_never_negatives():
    unknown = row(positives=0, absent=3)
    for phrase in unknown["phrases"]:
        phrase["exhaustive"] = False
    assert sample(unknown) == []


def test_synonyms_are_drawn_and_the_name_is_unchanged():
    texts = {sample(row(1, 0), seed, synonyms={"p0": ["x", "y"]})[0].text for seed in range(50)}
    assert texts == {"p0", "x", "y"}
    assert sample(row(1, 0), synonyms={"p0": ["x"]})[0].name == "p0"


@pytest.mark.parametrize(("name", "value"), [("negative_ratio", 1.0), ("max_phrases_per_image", 0)])
def test_invalid_options_are_refused(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .*, got {value}"):
        PhraseOptions(**{name: value})


def test_draws_depend_on_their_key_alone():
    first = keyed_draws(1, 2, "a", "phrases").random(3)
    keyed_draws(1, 2, "b", "phrases").random(9)
    assert np.array_equal(first, keyed_draws(1, 2, "a", "phrases").random(3))
    for other in [(2, 2, "a", "phrases"), (1, 3, "a", "phrases"), (1, 2, "b", "phrases"), (1, 2, "a", "color")]:
        assert not np.array_equal(first, keyed_draws(*other).random(3))


def test_normaliser():
    assert normalize_phrase("traffic_light") == "traffic light"
    assert normalize_phrase("bat_(animal)") == "bat"
    assert normalize_phrase("non-building-infrastructure") == "non building infrastructure"
    assert normalize_phrase("(unknown)") == "unknown"
    assert name_phrases(["Cat", "cat "], PhraseMap()) == {"Cat": "cat", "cat ": "cat"}


def test_phrase_map_file(tmp_path):
    file = tmp_path / "map.yaml"
    file.write_text('loc: pothole\ncar: [car, automobile]\nbg: null\n7: "seven"\n')
    result = read_phrase_map(str(file))
    assert result.names == {"loc": "pothole", "car": "car", "bg": None, "7": "seven"}
    assert result.synonyms == {"car": ["automobile"]}
    file.write_text("sign: no\n")
    with pytest.raises(ValueError, match="maps 'sign' to False.*quote"):
        read_phrase_map(str(file))
    file.write_text("- a\n")
    with pytest.raises(ValueError, match="contains a list"):
        read_phrase_map(str(file))
    with pytest.raises(ValueError, match="there is no file"):
        read_phrase_map(str(tmp_path / "nothing.yaml"))
