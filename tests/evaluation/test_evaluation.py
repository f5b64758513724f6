"""Metrics of an evaluation: presence, near misses, and trained and untrained phrases."""

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sam_ft.arguments import DataArguments, LossArguments
from sam_ft.commands.build_sam3 import build_sam3_trainer
from sam_ft.data.loading import PhraseData
from sam_ft.data.row_schema import to_dataset
from sam_ft.data.synthetic.scene_files import SceneRows
from sam_ft.evaluation.predictions import (
    PredictionStore,
    group_by_example,
    read_evaluation,
    save_evaluation,
    score,
    score_results,
)
from sam_ft.models.loading import load_model
from sam_ft.models.processors import load_processor
from sam_ft.ops.masks import encode_mask
from sam_ft.options.model import ModelOptions
from sam_ft.options.model_names import RANDOM_TINY
from sam_ft.options.scenes import SceneOptions
from sam_ft.training.training_arguments import Sam3TrainingArguments

from ..training.common import build


@pytest.fixture(scope="module")
def rows():
    scenes = SceneRows(SceneOptions(width=96, height=96), "validation", 12)
    return [{k: v for k, v in row.items() if k != "image"} for row in scenes]


def make_store(rows):
    """Detect each instance, every second one with a shifted box; predict absent phrases as present on even images."""
    store = PredictionStore()
    for number, row in enumerate(rows):
        for phrase in row["phrases"]:
            key = row["example_id"], phrase["text"]
            store.presence[key] = 0.9 if phrase["instances"] or number % 2 == 0 else 0.1
            store.detections[key] = []
            for index in phrase["instances"]:
                x, y, w, h = row["instances"][index]["bbox"]
                size = {"size": [row["height"], row["width"]], "counts": row["instances"][index]["segmentation"]}
                shift = 5.0 if index % 2 else 0.0
                detection = {"score": 0.5 + index / 100, "bbox": [x + shift, y, w, h], "segmentation": size}
                store.detections[key].append(detection)
    return store


def category_ids_of(rows):
    return {text: i for i, text in enumerate(sorted({p["text"] for row in rows for p in row["phrases"]}), 1)}


def test_presence_and_near_misses_are_averaged_over_pairs(rows):
    metrics = score(rows, make_store(rows), category_ids_of(rows), with_masks=True).metrics
    pairs = [(n, p, row) for n, row in enumerate(rows) for p in row["phrases"]]
    is_correct = [bool(p["instances"]) or n % 2 == 1 for n, p, _ in pairs]
    assert metrics["presence_accuracy"] == pytest.approx(sum(is_correct) / len(is_correct))
    near = []
    for n, phrase, row in pairs:
        words = phrase["text"].split()
        others = [q["text"].split() for q in row["phrases"] if q["instances"]]
        distances = [sum(a != b for a, b in zip(words, o)) for o in others if len(o) == len(words)]
        if not phrase["instances"] and len(words) > 1 and 1 in distances:
            near.append(n % 2 == 1)
    assert near
    assert metrics["near_miss_rejection"] == pytest.approx(sum(near) / len(near))


def test_trained_phrases_have_separate_metrics(rows):
    ids, store = category_ids_of(rows), make_store(rows)
    present = sorted({p["text"] for row in rows for p in row["phrases"] if p["instances"]})
    trained = set(present[::2])
    scored = score(rows, store, ids, with_masks=True, trained=trained)
    for group, texts in (("trained", trained), ("untrained", set(ids) - trained)):
        chosen = [ids[text] for text in texts]
        truth = COCO()
        truth.dataset = scored.ground_truth
        truth.createIndex()
        boxes = [{k: v for k, v in r.items() if k != "segmentation"} for r in scored.results]
        evaluation = COCOeval(truth, truth.loadRes(boxes), "bbox")
        evaluation.params.catIds = chosen  # pycocotools excludes all other categories
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert scored.metrics[f"box_AP_{group}"] == pytest.approx(evaluation.stats[0], abs=1e-12)
        assert scored.metrics[f"mask_AP50_{group}"] == pytest.approx(1.0)
    whole = score(rows, store, ids, with_masks=True, trained=set(ids)).metrics
    assert not any(name.endswith(("_trained", "_untrained")) for name in whole)


def test_saved_evaluations_are_read_back(rows, tmp_path):
    store = make_store(rows)
    scored = score(rows, store, category_ids_of(rows), with_masks=True)
    save_evaluation(scored, tmp_path)
    truth, results, presence = read_evaluation(tmp_path)
    assert truth == scored.ground_truth
    assert score_results(truth, results, presence, with_masks=True).metrics == scored.metrics
    detections_read = group_by_example(truth, results)
    assert detections_read.keys() == {key for key, detections in store.detections.items() if detections}
    for key, detections in detections_read.items():
        assert [d["bbox"] for d in detections] == [d["bbox"] for d in store.detections[key]]


def test_phrases_that_do_not_count_define_near_misses():
    """A blue square makes "red square" a near miss, although only phrases with "red" count."""
    row = {
        "example_id": "a", "width": 8, "height": 8,
        "instances": [{"bbox": [0.0, 0.0, 4.0, 4.0], "segmentation": None, "area": 16.0, "is_crowd": False}],
        "phrases": [
            {"text": "blue square", "instances": [0], "exhaustive": True},
            {"text": "red square", "instances": [], "exhaustive": True},
        ],
    }  # fmt: skip
    store = PredictionStore(presence={("a", "blue square"): 0.9, ("a", "red square"): 0.2})
    ids = {"blue square": 1, "red square": 2}
    metrics = score([row], store, ids, with_masks=False, is_counted=lambda text: "red" in text.split()).metrics
    assert metrics["near_miss_rejection"] == 1.0
    assert metrics["presence_accuracy"] == 1.0
    store.presence["a", "red square"] = 0.7
    metrics = score([row], store, ids, with_masks=False, is_counted=lambda text: "red" in text.split()).metrics
    assert metrics["near_miss_rejection"] == metrics["presence_accuracy"] == 0.0


def test_vision_encoder_runs_once_per_image(tmp_path):
    images = [
        {"example_id": str(i), "image": np.zeros((20, 20, 3), np.uint8), "width": 20, "height": 20} for i in range(10)
    ]
    phrases = [{"text": f"thing {chr(97 + i)}", "instances": [], "exhaustive": True} for i in range(20)]
    rows = to_dataset([{**image, "instances": [], "phrases": phrases} for image in images])
    model, processor = load_model(ModelOptions(RANDOM_TINY)), load_processor(RANDOM_TINY)
    arguments = Sam3TrainingArguments(
        output_dir=str(tmp_path), report_to=[], num_pictures=0, use_cpu=True, disable_tqdm=True,
        dataloader_num_workers=0, per_device_eval_batch_size=3, eval_strategy="no",
    )  # fmt: skip
    data = PhraseData(None, rows, {p["text"]: i for i, p in enumerate(phrases, 1)}, {}, [], [])
    trainer = build_sam3_trainer(model, processor, data, DataArguments(), LossArguments(), arguments)
    batch_sizes = []
    model.vision_encoder.backbone.register_forward_pre_hook(lambda _, inputs: batch_sizes.append(len(inputs[0])))
    metrics = trainer.evaluate()
    assert sum(batch_sizes) == 10
    assert len(trainer.evaluator.scored.pairs) == 200
    assert metrics["eval_IL_MCC"] <= 0  # all phrases are absent


def test_pictures_are_logged(shapes, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = build(
        shapes, tmp_path, report_to=["tensorboard"], num_pictures=1, max_steps=1, eval_strategy="steps", eval_steps=1
    )
    trainer.train()
    (events,) = {file.parent for file in tmp_path.glob("**/events.out.tfevents.*")}
    accumulator = EventAccumulator(str(events))
    accumulator.Reload()
    assert "eval/pictures" in accumulator.Tags()["images"]
    assert "eval/cgF1" in accumulator.Tags()["scalars"]


def test_data_with_boxes_only_are_measured_by_boxes(rows):
    """The predictions also contain masks."""
    rows_without_masks = [
        {**row, "instances": [{**i, "segmentation": None} for i in row["instances"]]} for row in rows
    ]
    scored = score(rows_without_masks, make_store(rows), category_ids_of(rows), with_masks=True)
    assert scored.kind == "box"
    assert scored.metrics["cgF1"] > 0.1
    assert scored.metrics["concept_recall"] > 0.5
    assert scored.metrics["mask_AP"] == -1
    assert scored.curves


def test_unmatched_detections_of_non_exhaustive_pairs_are_ignored(rows):
    store, ids = make_store(rows), category_ids_of(rows)
    non_exhaustive = [{**row, "phrases": [{**p, "exhaustive": False} for p in row["phrases"]]} for row in rows]
    false_positive = {
        "score": 0.99,
        "bbox": [0.0, 0.0, 3.0, 3.0],
        "segmentation": {"size": [96, 96], "counts": encode_mask(np.eye(96, dtype=bool))},
    }
    for key in store.detections:
        store.detections[key] = [false_positive, *store.detections[key]]
    assert score(non_exhaustive, store, ids, with_masks=True).metrics["mask_AP50"] == pytest.approx(1.0)
    assert score(rows, store, ids, with_masks=True).metrics["mask_AP50"] < 0.9
