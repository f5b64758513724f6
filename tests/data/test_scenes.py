"""Synthetic scenes: the annotations and the phrases agree with the pixels."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from torch.utils.data import DataLoader

from sam_ft.data.keyed_random import keyed_draws
from sam_ft.data.loading import load_phrase_dataset
from sam_ft.data.row_schema import FEATURES, validate_example
from sam_ft.data.synthetic.scene_files import SceneRows, scene_row, stream_scenes, write_shape_scenes
from sam_ft.data.synthetic.scene_phrases import ATTRIBUTES, attribute_values, words_for
from sam_ft.data.synthetic.scenes import COLORS, SIZES, draw_scene
from sam_ft.metrics.presence import is_near_miss
from sam_ft.ops.masks import decode_mask
from sam_ft.options.data import SYNTHETIC_STREAM, DatasetOptions, ReadOptions
from sam_ft.options.scenes import ALL_SHAPES, GROUNDS, SceneFiles, SceneOptions


EVERYTHING = SceneOptions(shapes=list(ALL_SHAPES), grounds=list(GROUNDS), max_shapes=7)


def scenes(number, options=EVERYTHING):
    return [draw_scene(np.random.default_rng(i), options) for i in range(number)]


def test_masks_are_the_visible_parts():
    for image, objects in scenes(60):
        covered = np.sum([scene_object.mask for scene_object in objects], axis=0)
        assert covered.max() <= 1, "a pixel belongs to the object in front alone"
        pixels = np.asarray(image, dtype=float)
        for scene_object in objects:
            assert scene_object.mask.sum() >= 3
            if scene_object.fill == "solid":
                # ink varies by 14, noise by 6 a pixel
                assert np.abs(np.median(pixels[scene_object.mask], axis=0) - COLORS[scene_object.color]).max() < 20, (
                    scene_object.color
                )


def test_sizes_agree_with_their_words():
    """The area of a circle gives its radius, within half a pixel."""
    options = SceneOptions(shapes=["circle"], min_shapes=1, max_shapes=1, cut_off=0.0)
    seen = set()
    for _, (scene_object,) in scenes(80, options):
        radius, (low, high) = (scene_object.mask.sum() / np.pi) ** 0.5, np.array(SIZES[scene_object.size]) * 160
        assert low - 0.7 <= radius <= high + 0.7
        seen.add(scene_object.size)
    assert seen == set(SIZES)


def test_every_attribute_occurs_and_some_objects_are_cut_off():
    all_objects = [scene_object for _, objects in scenes(300) for scene_object in objects]
    for attribute, values in (("shape", ALL_SHAPES), ("color", COLORS), ("size", SIZES)):
        assert {getattr(scene_object, attribute) for scene_object in all_objects} == set(values)
    at_edge = np.mean([t.mask[[0, -1]].any() or t.mask[:, [0, -1]].any() for t in all_objects])
    assert 0.03 < at_edge < 0.2


def concept_of(text):
    """Parse a phrase to a concept; `None` if a word belongs to no attribute."""
    concept = {}
    for word in text.split():
        if word in ("shape", "object"):
            continue
        values = [(a, v) for a in ATTRIBUTES for v in attribute_values(a) if word in words_for(a, v)]
        if len(values) != 1:
            return None
        concept.update(values)
    return concept


def matches(concept, scene_object):
    sizes = {"tiny": ("tiny", "small"), "medium": ()}.get(scene_object.size, (scene_object.size,))
    return all(v in sizes if a == "size" else getattr(scene_object, a) == v for a, v in concept.items())


def test_phrases_are_correct_and_most_negatives_are_near_misses():
    options = SceneOptions(seed=3)
    texts, absent, near = [], 0, 0
    for index in range(300):
        row = scene_row(options, "train", index)
        validate_example(row)
        # The same generator gives the objects of the scene.
        _, objects = draw_scene(keyed_draws(3, 0, row["example_id"], "scene"), options)
        for phrase in row["phrases"]:
            concept = concept_of(phrase["text"])
            expected = [] if concept is None else [i for i, t in enumerate(objects) if matches(concept, t)]
            assert phrase["instances"] == expected, phrase["text"]
            texts.append(phrase["text"])
        present = [p["text"] for p in row["phrases"] if p["instances"]]
        for phrase in row["phrases"]:
            absent += not phrase["instances"]
            near += not phrase["instances"] and is_near_miss(phrase["text"], present)
    assert absent / len(texts) == pytest.approx(0.5, abs=0.03)
    assert near / absent > 0.4  # negatives of at least two words
    assert {len(text.split()) for text in texts} == {1, 2, 3, 4}
    assert {"disc", "bar", "moon", "violet", "little", "big", "hollow", "spotted"} <= {
        w for t in texts for w in t.split()
    }


def test_every_word_occurs_in_negative_phrases():
    """A word that occurs in positive phrases alone would predict presence."""
    options = SceneOptions(width=64, height=64, shapes=list(ALL_SHAPES), fills=["solid"], colors=["red"])
    rows = [scene_row(options, "train", i) for i in range(60)]
    absent = {w for row in rows for p in row["phrases"] if not p["instances"] for w in p["text"].split()}
    assert {"star", "heart", "cross"} <= absent
    assert not {"striped", "blue"} & absent, "values outside the options occur in no phrase"


def test_fills_have_their_share_of_coloured_pixels():
    """Shares within a large square: all, a rim, about half, most of it."""
    shares = {}
    for fill in ("solid", "outlined", "striped", "dotted"):
        options = SceneOptions(
            shapes=["square"], colors=["blue"], fills=[fill], sizes=["large"], min_shapes=1, max_shapes=1, cut_off=0.0
        )
        inked = []
        for image, (scene_object,) in scenes(20, options):
            inked.append(float((np.asarray(image)[scene_object.mask][:, 0] < 130).mean()))
        shares[fill] = np.mean(inked)
    assert shares["solid"] > 0.99
    assert 0.2 < shares["outlined"] < 0.45
    assert 0.45 < shares["striped"] < 0.65
    assert 0.65 < shares["dotted"] < 0.8  # a dot has 0.3 of a cell's side as radius: 1 - 0.09 π = 0.72


def test_rows_and_streams_are_equal_and_deterministic():
    options = SceneOptions(width=64, height=48, seed=5)
    rows = SceneRows(options, "train", 20)
    stream = list(itertools.islice(stream_scenes(options), 5))
    for index, streamed in enumerate(stream):
        row = rows[index]
        assert streamed["instances"] == row["instances"]
        assert streamed["phrases"] == row["phrases"]
        assert streamed["example_id"] == row["example_id"]
        assert np.array_equal(np.asarray(streamed["image"]), np.asarray(row["image"]))
    assert FEATURES.keys() == stream[0].keys()
    other = scene_row(SceneOptions(width=64, height=48, seed=6), "train", 0)
    held_out = scene_row(options, "validation", 0)
    for row in (other, held_out):
        assert not np.array_equal(np.asarray(row["image"]), np.asarray(rows[0]["image"]))
    with pytest.raises(IndexError):
        rows[20]


def test_a_stream_is_shared_by_workers_and_resumes():
    options = SceneOptions(width=32, height=32, max_shapes=2)
    stream = stream_scenes(options, num_rows=600).remove_columns("image")
    expected = {f"train-{i:09d}" for i in range(600)}
    loader = DataLoader(stream, batch_size=None, num_workers=2)
    seen = [row["example_id"] for row in loader]
    assert len(seen) == 600
    assert set(seen) == expected
    for _ in zip(range(300), stream):
        pass
    state = stream.state_dict()
    stream.load_state_dict(state)
    assert next(iter(stream))["example_id"] == "train-000000300"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shapes": ["hart"]}, r"`scene_shapes` must be .*, got \['hart'\]. Did you mean 'heart'"),
        ({"grounds": []}, r"`scene_grounds` must be one or more of plain, .*, got \[\]"),
        (
            {"min_shapes": 4, "max_shapes": 3},
            "`scene_min_shapes` must be at most `scene_max_shapes`, which is 3, got 4",
        ),
    ],
)
def test_unknown_attributes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SceneOptions(**options)


def test_a_scene_decodes_to_its_masks():
    row = scene_row(SceneOptions(), "train", 0)
    for instance in row["instances"]:
        mask = decode_mask(instance["segmentation"], row["height"], row["width"])
        ys, xs = np.nonzero(mask)
        assert instance["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
        assert instance["area"] == mask.sum()


def test_generated_data_need_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = SceneFiles(SceneOptions(width=48, height=48), num_train=1000, num_validation=3)
    data = load_phrase_dataset(DatasetOptions(SYNTHETIC_STREAM, scenes=files), ReadOptions())
    assert (len(data.train), len(data.validation)) == (1000, 3)
    assert {p["text"] for row in data.validation for p in row["phrases"]} == set(data.category_ids)
    assert "1000 training scenes are drawn when they are requested" in data.lines()[0]
    fewer = DatasetOptions(SYNTHETIC_STREAM, scenes=files, max_train_samples=5, max_eval_samples=2)
    data = load_phrase_dataset(fewer, ReadOptions())
    assert (len(data.train), len(data.validation)) == (5, 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "coco", "key"),
    [
        ({"scenes": SceneFiles(train_labels=["circle"])}, {}, "scene_train_labels"),
        ({"eval_split": "test"}, {}, "eval_split"),
        ({}, {"phrase_source": "both"}, "phrase_source"),
    ],
)
def test_keys_without_effect_are_refused(options, coco, key):
    with pytest.raises(ValueError, match=f"`{key}` has no effect on `dataset_name: synthetic-stream`"):
        load_phrase_dataset(DatasetOptions(SYNTHETIC_STREAM, **options), ReadOptions(**coco))


def test_plain_scenes_come_first():
    options = SceneOptions(width=64, height=64, ramp=200)
    fills = [
        {word for p in scene_row(options, "train", i)["phrases"] for word in p["text"].split()} for i in range(400)
    ]
    patterned = np.array([bool(words & {"striped", "dotted", "spotted", "outlined", "hollow"}) for words in fills])
    assert patterned[:60].mean() < 0.3 < 0.5 < patterned[200:].mean()
    held_out = scene_row(options, "validation", 0)
    assert held_out["phrases"] == scene_row(replace(options, ramp=0), "validation", 0)["phrases"], "never plain"


def test_training_files_may_label_some_shapes_only(tmp_path):
    scenes = SceneOptions(shapes=["circle", "star"], min_shapes=4, max_shapes=6)
    folder = write_shape_scenes(tmp_path, SceneFiles(scenes, 6, 6, ["star"]))
    content = {s: json.loads((folder / f"annotations/instances_{s}.json").read_text()) for s in ("train", "val")}
    names = {s: {c["id"]: c["name"] for c in content[s]["categories"]} for s in content}
    assert set(names["train"].values()) == {"star"}
    assert {names["val"][a["category_id"]] for a in content["val"]["annotations"]} == {"circle", "star"}
    for labels in (["heart"], ["star", "heart"], []):
        with pytest.raises(ValueError, match=r"`scene_train_labels` must be one or more of circle, star, got"):
            SceneFiles(scenes, train_labels=labels)


@pytest.mark.parametrize("options", [{"ramp": 5}, {"shape_alone": 0.5}])
def test_keys_of_the_stream_are_refused_for_files(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"`scene_{name}` is .* has no effect on .*synthetic-stream"):
        load_phrase_dataset(DatasetOptions("synthetic", scenes=SceneFiles(SceneOptions(**options))), ReadOptions())


def test_shape_alone_sets_the_share_of_shape_phrases():
    rows = [scene_row(SceneOptions(width=48, height=48, shape_alone=1.0), "train", i) for i in range(20)]
    present = [p["text"].split() for row in rows for p in row["phrases"] if p["instances"]]
    assert present
    assert all(len(words) == 1 for words in present)
