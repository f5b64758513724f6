"""Samples and batches of phrases: random seeds, geometry, collation, and validation of rows."""

import numpy as np
import pytest
import torch
from PIL import Image

from sam_ft.data.loading import load_phrase_dataset
from sam_ft.data.row_schema import DatasetFormatError, to_dataset, to_rgb, validate_example
from sam_ft.data.samples.collators import Sam3Collator, tokenize_phrases, warn_long_phrases
from sam_ft.data.samples.pipeline import EpochSampler, EvaluationSamples, TrainingSamples
from sam_ft.models.sam3.config import build_tiny_processor
from sam_ft.ops.masks import encode_mask
from sam_ft.options.augmentation import TransformOptions
from sam_ft.options.data import DatasetOptions, ReadOptions
from sam_ft.options.phrases import PhraseOptions, PromptOptions


def samples(rows, **options):
    settings = {"phrases": PhraseOptions(), "transforms": TransformOptions(resolution=112), "prompts": PromptOptions()}
    return TrainingSamples(rows, seed=0, **(settings | options))


@pytest.fixture(scope="module")
def rows(shapes):
    options = ReadOptions(phrase_source="both", noun_phrases="closed")
    return load_phrase_dataset(DatasetOptions(str(shapes)), options).train


def row_of(masks, size=(30, 40), crowds=(), phrases=None, image=None):
    """Build a row with one instance for each mask (`None`: a box only)."""
    height, width = size
    instances = []
    for i, mask in enumerate(masks):
        counts = None if mask is None else encode_mask(mask)
        instances.append({"bbox": [10, 5, 10, 10], "segmentation": counts, "area": 100.0, "is_crowd": i in crowds})
    if phrases is None:
        phrases = [{"text": "cat", "instances": list(range(len(masks))), "exhaustive": True}]
    image = image or Image.new("RGB", (width, height))
    base = {"example_id": "a", "image": image, "width": width, "height": height}
    return base | {"instances": instances, "phrases": phrases}


def box_mask(x1, y1, x2, y2, size=(30, 40)):
    mask = np.zeros(size, dtype=bool)
    mask[y1:y2, x1:x2] = True
    return mask


def test_a_sample_depends_on_seed_epoch_and_example_alone(rows):
    data = samples(rows)
    first = data[(3, 1)]
    [data[(3, i)] for i in range(4)]  # other draws in between
    again = samples(rows.select([1, 0]))[(3, 0)]  # another order of the data
    other = data[(4, 1)]
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.boxes, again.boxes)
    assert [vars(p) for p in first.phrases] == [vars(p) for p in again.phrases]
    assert not torch.equal(first.image, other.image)


def test_boxes_equal_the_boxes_of_the_masks(rows):
    for epoch in range(3):
        for index in range(len(rows)):
            sample = samples(rows)[(epoch, index)]
            for box, mask in zip(sample.boxes, sample.masks, strict=True):
                ys, xs = mask.nonzero().unbind(1)
                x1, y1, x2, y2 = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
                expected = torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]) / 112
                torch.testing.assert_close(box, expected)


def test_a_vanished_instance_makes_its_phrase_not_exhaustive():
    masks = [box_mask(0, 0, 6, 6), box_mask(30, 20, 36, 26)]
    data = to_dataset([row_of(masks)])
    crop = TransformOptions(resolution=112, resize="plain", flip_probability=0, crop_probability=1, min_crop=0.5)
    seen = set()
    for epoch in range(60):
        sample = samples(data, transforms=crop)[(epoch, 0)]
        for phrase in sample.phrases:
            seen.add((len(phrase.instances), phrase.exhaustive))
        if not sample.phrases:
            seen.add("dropped")
    # A phrase without a visible instance is not absent, so that (0, …) never occurs.
    assert seen == {(2, True), (1, False), "dropped"}


def test_box_only_instances_and_crowds():
    data = to_dataset([row_of([None, box_mask(20, 10, 30, 20), box_mask(0, 20, 40, 30)], crowds=(2,))])
    plain = TransformOptions(resolution=112, resize="plain", flip_probability=0)
    sample = samples(data, transforms=plain)[(0, 0)]
    assert sample.has_mask == [False, True]
    assert not sample.masks[0].any()
    torch.testing.assert_close(sample.boxes[0], torch.tensor([15 / 40, 10 / 30, 10 / 40, 10 / 30]), atol=1e-3, rtol=0)
    assert sample.ignore.shape == (1, 112, 112)
    assert sample.phrases[0].ignore == [0]
    assert sample.phrases[0].instances == [0, 1]
    boxes_alone = samples(data, transforms=plain, with_masks=False)[(0, 0)]
    assert boxes_alone.masks is None
    assert len(boxes_alone.boxes) == 2


def test_exemplars_lie_on_instances_of_their_phrase():
    masks = [box_mask(4, 4, 14, 14), box_mask(24, 14, 34, 24)]
    phrases = [
        {"text": "cat", "instances": [1], "exhaustive": True},
        {"text": "dog", "instances": [], "exhaustive": True},
    ]
    data = to_dataset([row_of(masks, phrases=phrases)])
    plain = TransformOptions(resolution=112, resize="plain", flip_probability=0)
    prompts = PromptOptions(exemplar_probability=1.0)
    drawn = []
    for epoch in range(40):
        sample = samples(data, transforms=plain, prompts=prompts, phrases=PhraseOptions(negatives_per_image=1))[
            (epoch, 0)
        ]
        cat, dog = sample.phrases
        assert dog.exemplar_cxcywh is None
        drawn.append(cat.exemplar_cxcywh)
    drawn = np.array(drawn)
    centre, size = drawn[:, :2].mean(0), drawn[:, 2:].mean(0)
    assert np.abs(centre - [29 / 40, 19 / 30]).max() < 0.02
    assert np.abs(size - [10 / 40, 10 / 30]).max() < 0.03
    assert drawn.std(0).min() > 0.003  # noisy, as officially
    assert drawn.min() >= 0
    assert drawn.max() <= 1


@pytest.mark.parametrize(("policy", "expected"), [("always", {True}), ("never", {False}), ("mixed", {True, False})])
def test_geometry_token_policy(rows, policy, expected):
    data = samples(rows, prompts=PromptOptions(geometry_token=policy))
    assert {p.geometry_token for epoch in range(5) for p in data[(epoch, 0)].phrases} == expected


def test_evaluation_uses_every_phrase_on_the_whole_image(rows):
    data = EvaluationSamples(rows, resolution=112, geometry_token=False)
    for index in range(len(rows)):
        sample = data[index]
        assert [p.text for p in sample.phrases] == [p["text"] for p in rows[index]["phrases"]]
        assert sample.original_size == (120, 160)


def test_collator_packs_images_and_phrases_once(rows):
    data = EvaluationSamples(rows, resolution=112, geometry_token=True)
    collator = Sam3Collator(build_tiny_processor().tokenizer)
    collator([data[1]])  # its tokens are reused
    batch = collator([data[0], data[1]])
    texts = batch["labels"][0]["phrases"]
    assert len(texts) == len(set(texts)) == len(batch["input_ids"])
    assert batch["input_ids"].shape[1] == 32
    for name, tokens in tokenize_phrases(collator.tokenizer, texts).items():
        assert torch.equal(batch[name], tokens)
    assert batch["pixel_values"].shape == (2, 3, 112, 112)
    assert batch["pixel_values"].dtype == torch.uint8
    pairs = len(data[0].phrases) + len(data[1].phrases)
    assert {len(batch[k]) for k in batch if k.startswith("pair_")} == {pairs}
    assert batch["input_boxes"].shape == (pairs, 1, 4)
    assert (batch["input_boxes_labels"] == -10).all()
    for pair in range(pairs):
        label = batch["labels"][batch["pair_image"][pair]]
        assert all(0 <= i < len(label["boxes"]) for i in batch["pair_instances"][pair])


def test_a_batch_without_phrases_has_a_placeholder_text():
    data = to_dataset([row_of([], phrases=[])])
    samples = EvaluationSamples(data, resolution=112, geometry_token=True)
    batch = Sam3Collator(build_tiny_processor().tokenizer)([samples[0]])
    assert batch["input_ids"].shape == (1, 32)
    assert batch["pair_image"] == []


def test_long_phrases_are_logged(caplog):
    long = (
        "an extraordinarily, unbelievably long-winded description of a perfectly unremarkable zebra-striped "
        "hippopotamus xylophone"
    )
    assert warn_long_phrases(build_tiny_processor().tokenizer, ["cat", long]) == [long]
    assert "1 phrase(s) are longer than 32 tokens" in caplog.text
    assert "phrase_map" in caplog.text


def test_sampler_shuffles_by_epoch_and_yields_it():
    sampler = EpochSampler(range(10), seed=0)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(i for _, i in first) == sorted(i for _, i in second) == list(range(10))
    assert first != [(0, i) for _, i in second]
    assert {e for e, _ in second} == {1}
    assert list(EpochSampler(range(3), 0, shuffle=False)) == [(0, 0), (0, 1), (0, 2)]


def test_sixteen_bit_images_keep_their_contrast():
    values = np.linspace(291, 694, 12, dtype=np.uint16).reshape(3, 4)
    rgb = np.asarray(to_rgb(Image.fromarray(values)))
    assert rgb.shape == (3, 4, 3)
    assert (rgb.min(), rgb.max()) == (0, 255)
    assert to_rgb(Image.new("RGBA", (2, 2))).mode == "RGB"
    assert to_rgb(Image.new("P", (2, 2))).mode == "RGB"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "`width`×`height` is 0×30"),
        ({"phrases": [{"text": "cat", "instances": [5], "exhaustive": True}]}, "refers to instance 5, the row has 1"),
        ({"phrases": [{"text": " ", "instances": [], "exhaustive": True}]}, "empty text"),
        ({"phrases": [{"text": "a", "instances": [], "exhaustive": True}] * 2}, "'a' twice"),
        (
            {"instances": [{"bbox": [0, 0, 0, 4], "segmentation": None, "area": 0.0, "is_crowd": False}]},
            "with an area",
        ),
        ({"instances": [{"bbox": [0, 0, 4, 4], "segmentation": b"x", "area": 0.0, "is_crowd": False}]}, "must be str"),
    ],
)
def test_invalid_rows_are_refused(change, message):
    row = row_of([box_mask(0, 0, 4, 4)]) | change
    with pytest.raises(DatasetFormatError, match=message):
        validate_example(row)


def test_rows_round_trip_through_disk(rows, tmp_path):
    from datasets import load_from_disk

    rows.save_to_disk(tmp_path / "rows")
    again = load_from_disk(tmp_path / "rows")
    assert again.features == rows.features
    for a, b in zip(rows.remove_columns("image"), again.remove_columns("image"), strict=True):
        assert a == b


def test_a_missing_validation_split_is_held_out_and_reported(shapes, tmp_path):
    import shutil

    shutil.copytree(shapes, tmp_path / "data")
    (tmp_path / "data" / "annotations" / "instances_val.json").unlink()
    data = load_phrase_dataset(DatasetOptions(str(tmp_path / "data"), validation_fraction=0.25), ReadOptions())
    assert (len(data.train), len(data.validation)) == (3, 1)
    assert any("1 of 4 training images are held out" in line for line in data.lines())
    assert not set(data.train["example_id"]) & set(data.validation["example_id"])


def test_missing_splits_and_files_are_reported(shapes):
    for options, message in [
        (DatasetOptions(str(shapes), train_split="training"), "`train_split` is 'training', found train, validation"),
        (DatasetOptions(str(shapes), eval_split="test"), "`eval_split` is 'test', found train, validation"),
        (DatasetOptions(None), "`dataset_name` is not set"),
        (
            DatasetOptions(annotation_file="a.json", image_folder="nowhere"),
            "`image_folder`: there is no folder 'nowhere'",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            load_phrase_dataset(options, ReadOptions())


def test_category_ids_stay_unique_when_files_number_them_differently(shapes, tmp_path):
    import json
    import shutil

    shutil.copytree(shapes, tmp_path / "data")
    file = tmp_path / "data" / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    content["categories"] = [{"id": 1, "name": "star"}, {"id": 2, "name": "circle"}, {"id": 3, "name": "cross"}]
    file.write_text(json.dumps(content))
    data = load_phrase_dataset(DatasetOptions(str(tmp_path / "data")), ReadOptions())
    assert data.category_ids["circle"] == 1  # the id in the training file
    assert len(set(data.category_ids.values())) == len(data.category_ids) == 5


def test_annotation_files_and_image_folders_by_key(shapes):
    options = DatasetOptions(
        annotation_file=str(shapes / "annotations" / "instances_train.json"),
        image_folder=str(shapes / "train"),
        eval_annotation_file=str(shapes / "annotations" / "instances_val.json"),
        eval_image_folder=str(shapes / "val"),
    )
    data = load_phrase_dataset(options, ReadOptions())
    assert (len(data.train), len(data.validation)) == (4, 2)
