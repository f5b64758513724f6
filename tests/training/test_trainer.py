"""Trainer on real files: logs, evaluation, unusual data sets and refused settings."""

import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Sam3Model

from .common import build


FAST = {"learning_rate": 3e-3, "vision_learning_rate": 3e-3, "text_learning_rate": 3e-3, "lr_scale": 1.0}


def test_logs_name_parts_and_rates_and_the_loss_is_their_weighted_sum(shapes, tmp_path):
    trainer = build(shapes, tmp_path, max_steps=2, gradient_accumulation_steps=2, report_to=["tensorboard"])
    trainer.train()
    log = next(entry for entry in trainer.state.log_history if "loss" in entry)
    names = {"loss_ce", "loss_bbox", "loss_giou", "presence_loss", "loss_mask", "loss_dice", "loss_semantic_seg"}
    assert names | {f"{n}_o2m" for n in ("loss_ce", "loss_bbox", "loss_mask")} <= log.keys()
    assert log["lr_transformer"] >= log["lr_vision"] >= log["lr_text"] >= 0
    # A single decoder layer has no auxiliary terms, so that the loss is the weighted sum of the logged parts.
    single_layer = build(shapes, tmp_path / "one", max_steps=1)
    decoder = single_layer.model.detr_decoder
    del decoder.layers[1:]
    single_layer.train()
    log = next(entry for entry in single_layer.state.log_history if "loss" in entry)
    weights = {
        "loss_ce": 20, "loss_bbox": 5, "loss_giou": 2, "presence_loss": 20, "loss_mask": 200, "loss_dice": 10,
        "loss_semantic_seg": 20, "loss_semantic_dice": 30,
    }  # fmt: skip
    total = sum(w * (log[n] + log.get(f"{n}_o2m", 0.0)) for n, w in weights.items())
    assert total == pytest.approx(log["loss"], rel=1e-4)
    events = list((tmp_path / "runs").rglob("events*"))
    assert events
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(events[0].parent))
    reader.Reload()
    tags = reader.Tags()["scalars"]
    assert {"train/loss", "train/loss_mask", "train/lr_vision"} <= set(tags)


def test_evaluation_writes_coco_files_and_pictures(shapes, tmp_path):
    trainer = build(shapes, tmp_path, num_pictures=1, eval_score_threshold=0.0, eval_max_detections=5)
    metrics = trainer.evaluate()
    for kind in ("mask", "box"):
        assert {
            f"eval_{kind}_{n}"
            for n in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
        } <= metrics.keys()
    assert metrics["eval_loss"] > 0
    results = json.loads((tmp_path / "eval" / "results.json").read_text())
    truth = json.loads((tmp_path / "eval" / "ground_truth.json").read_text())
    # Two images with three phrases each and five detections per phrase.
    assert len(results) == 2 * 3 * 5
    assert {r["image_id"] for r in results} == {i["id"] for i in truth["images"]} == {1, 2}
    assert {r["category_id"] for r in results} == {1, 2, 3}
    (picture,) = (tmp_path / "eval" / "pictures").glob("*.png")
    with Image.open(picture) as image:
        assert image.width > 2 * 160


def test_the_evaluation_loss_does_not_depend_on_the_batch_size(shapes, tmp_path):
    losses = [build(shapes, tmp_path, per_device_eval_batch_size=size).evaluate()["eval_loss"] for size in (1, 2)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_run_on_another_data_set_starts_from_saved_weights(shapes, tmp_path):
    first = build(shapes, tmp_path / "a", max_steps=2, **FAST)
    first.train()
    first.save_model()
    second = build(shapes, tmp_path / "b", tmp_path / "a", max_steps=1)
    for (name, a), b in zip(first.model.state_dict().items(), second.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    second.train()
    assert second.state.global_step == 1
    assert Sam3Model.from_pretrained(tmp_path / "a").config.architectures == ["Sam3Model"]


def coco_of(tmp_path, images):
    """A COCO tree; `images` is a list of numbers of squares."""
    (tmp_path / "data" / "annotations").mkdir(parents=True)
    (tmp_path / "data" / "train").mkdir()
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]}
    for i, count in enumerate(images):
        Image.fromarray(np.random.randint(0, 255, (90, 120, 3), dtype=np.uint8)).save(
            tmp_path / "data/train" / f"{i}.png"
        )
        content["images"].append({"id": i, "file_name": f"{i}.png", "width": 120, "height": 90})
        for k in range(count):
            x, y = 4 * (k % 28), 4 * (k // 28)
            polygon = [x, y, x + 4, y, x + 4, y + 4, x, y + 4]
            annotation = {"id": len(content["annotations"]) + 1, "image_id": i, "category_id": 1, "iscrowd": 0}
            content["annotations"].append(annotation | {"segmentation": [polygon], "bbox": [x, y, 4, 4], "area": 16})
    (tmp_path / "data" / "annotations" / "instances_train.json").write_text(json.dumps(content))
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("images", "data"),
    [
        ([1], {}),  # a data set of one image
        ([300], {}),  # 300 instances of one phrase
        ([1, 0, 0], {"validation_fraction": 0.0}),  # batches of absent phrases alone
        ([1, 0], {"validation_fraction": 0.0, "negative_ratio": 0.0}),  # an image without phrases
    ],
    ids=["one image", "300 instances", "absent alone", "no phrases"],
)
def test_odd_data_sets_train(tmp_path, images, data):
    trainer = build(coco_of(tmp_path, images), tmp_path / "out", data=data, max_steps=3, gradient_accumulation_steps=1)
    trainer.train()
    assert all(np.isfinite(e["loss"]) for e in trainer.state.log_history if "loss" in e)
    assert "eval_mask_AP" in trainer.evaluate()


def test_box_only_data_train_boxes(tmp_path):
    folder = coco_of(tmp_path, [3, 2])
    file = folder / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    file.write_text(json.dumps(content))
    trainer = build(folder, tmp_path / "out", model={"train_masks": False}, max_steps=2)
    trainer.train()
    metrics = trainer.evaluate()
    assert "eval_box_AP" in metrics
    assert "eval_mask_AP" not in metrics


@pytest.mark.parametrize("masks", ["frozen", "missing"])
def test_box_ap_selects_the_checkpoint_without_masks(tmp_path, masks):
    folder = coco_of(tmp_path, [3, 2, 2])
    if masks == "missing":
        file = folder / "annotations" / "instances_train.json"
        content = json.loads(file.read_text())
        for annotation in content["annotations"]:
            del annotation["segmentation"]
        file.write_text(json.dumps(content))
    strategy = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    model = {"train_masks": masks != "frozen"}
    trainer = build(folder, tmp_path / "out", model=model, max_steps=2, **strategy)
    trainer.train()
    assert trainer.args.metric_for_best_model == "eval_box_AP"
    assert trainer.state.best_model_checkpoint


def test_unlabelled_pairs_have_no_presence_loss(tmp_path):
    """A phrase with crowd regions only is evaluated, but is neither present nor absent."""
    folder = coco_of(tmp_path, [2, 1])
    file = folder / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    crowd = {**content["annotations"][0], "id": 99, "category_id": 2, "iscrowd": 1}
    content["annotations"].append(crowd)
    file.write_text(json.dumps(content))
    trainer = build(folder, tmp_path / "out", data={"eval_split": "train"})
    trainer.evaluate()
    # Two images with two phrases each, one of which is not exhaustive.
    assert trainer.evaluator.normalizers.tolist() == [3, 3, 2]
    assert len(trainer.evaluator.store.presence) == 4


def test_custom_criterion_is_used(shapes, tmp_path):
    from sam_ft.training.sam3_trainer import Sam3Trainer

    donor = build(shapes, tmp_path, max_steps=1)

    def criterion(outputs, targets, normalizers):
        return outputs.presence_logits.square().sum(), {"mine": torch.tensor(1.0)}

    trainer = Sam3Trainer(
        model=donor.model,
        args=donor.args,
        data_collator=donor.data_collator,
        train_dataset=donor.train_dataset,
        eval_dataset=donor.eval_dataset,
        criterion=criterion,
    )
    trainer.train()
    assert any("mine" in entry for entry in trainer.state.log_history)


def test_half_precision_by_loss_scaling_and_data_parallel_are_refused(shapes, tmp_path):
    trainer = build(shapes, tmp_path)
    trainer.args._n_gpu = 2
    from sam_ft.training.sam3_trainer import Sam3Trainer

    with pytest.raises(ValueError, match="2 GPUs are visible to one process.*accelerate launch -m sam_ft"):
        Sam3Trainer(model=trainer.model, args=trainer.args)
    trainer.args._n_gpu = 0
    trainer.args.fp16 = True
    with pytest.raises(ValueError, match="`fp16` is not supported.*bf16: true"):
        Sam3Trainer(model=trainer.model, args=trainer.args)


def test_distillation_of_a_sharded_model_is_refused(shapes, tmp_path):
    from sam_ft.training.trainer_checks import check_distillation

    trainer = build(shapes, tmp_path)
    check_distillation(trainer)
    trainer.is_fsdp_enabled = True
    with pytest.raises(ValueError, match="`distill_weight` needs the whole model in each process"):
        check_distillation(trainer)


def test_bf16_without_an_accelerator_gives_a_warning(caplog):
    from sam_ft.training.training_arguments import Sam3TrainingArguments

    with caplog.at_level(logging.WARNING):
        assert not Sam3TrainingArguments(bf16=True).bf16
    assert "is ignored, because there is no accelerator" in caplog.text


def test_streamed_scenes_keep_their_order(tmp_path):
    """Scenes are not shuffled, because of the ramp, and do not repeat in the second epoch."""
    scenes = {
        "scene_train_images": 12,
        "scene_eval_images": 1,
        "scene_width": 32,
        "scene_height": 32,
        "scene_ramp": 12,
    }
    trainer = build("synthetic-stream", tmp_path, data=scenes, per_device_train_batch_size=4)
    seen = [label["example_id"] for batch in trainer.get_train_dataloader() for label in batch["labels"]]
    assert seen == [f"train-{i:09d}" for i in range(12)]
    assert trainer.train_dataset[1, 0].example_id == "train-000000012"
