"""Trainer of SAM 2: equivalence of batches and processes, resumption, metrics, feature cache and refused data."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from transformers import Sam2Config, Sam2Model, get_scheduler

from sam_ft.evaluation.predictions import read_objects
from sam_ft.optim.parameter_groups import build_parameter_groups
from sam_ft.options.optim import LearningRates

from ..conftest import square
from .common import SAM2_DATA, SAM2_STEPS, build_sam2, command, distance, have_equal_tensors, kill_when, weights


@pytest.mark.parametrize(("batch", "accumulation"), [(2, 2), (1, 4)])
def test_accumulation_gives_the_same_weights(shapes, sam2_start, sam2_reference, tmp_path, batch, accumulation):
    trainer = build_sam2(
        shapes, tmp_path, sam2_start, data=SAM2_DATA, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation,
        **SAM2_STEPS,
    )  # fmt: skip
    trainer.train()
    trainer.save_model()
    # Tolerance 1e-5: float32 sums in another order.
    assert distance(weights(tmp_path), sam2_reference, weights(sam2_start)) < 1e-5


def test_the_official_normaliser_depends_on_the_batch(shapes, sam2_start, sam2_reference, tmp_path):
    trainer = build_sam2(
        shapes, tmp_path, sam2_start, data=SAM2_DATA, per_device_train_batch_size=1, gradient_accumulation_steps=4, normalizer="batch", **SAM2_STEPS,
    )  # fmt: skip
    trainer.train()
    trainer.save_model()
    # An object has a larger weight in a batch with few objects.
    assert distance(weights(tmp_path), sam2_reference, weights(sam2_start)) > 1e-4


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_killed_runs_end_on_the_same_weights(script, shapes, tmp_path):
    def arguments(output_dir):
        arguments = {
            **{
                "dataset_name": shapes,
                "output_dir": output_dir,
                "resolution": 64,
                "prompt_type": "mixed",
                "n_rounds": 3,
            },
            **{
                "max_steps": 6,
                "per_device_train_batch_size": 1,
                "gradient_accumulation_steps": 2,
                "save_strategy": "steps",
            },
            **{
                "save_steps": 1,
                "eval_strategy": "no",
                "eval_before": False,
                "eval_clicks": 1,
                "dataloader_num_workers": 2,
            },
            **{"report_to": "none", "disable_tqdm": True, "num_pictures": 0, "learning_rate": 1e-3, "use_cpu": True},
        }
        return [f"--{k}={v}" for k, v in arguments.items()]

    killed = tmp_path / "killed"
    status, _, output = script("sam2_ft.py", *arguments(tmp_path / "whole"))
    assert status == 0, output
    kill_when(
        lambda: (killed / "checkpoint-3" / "trainer_state.json").is_file(),
        command(arguments(killed), recipe="sam2_ft.py"),
        tmp_path,
    )
    status, _, output = script("sam2_ft.py", *arguments(killed))
    assert status == 0, output
    assert "resuming from" in output
    assert have_equal_tensors(weights(killed), weights(tmp_path / "whole"))


@pytest.mark.parametrize("first", ["point", "box"])
def test_numbers_are_those_of_pycocotools(shapes, sam2_start, tmp_path, first):
    trainer = build_sam2(shapes, tmp_path, sam2_start, data={"eval_prompt": first, "eval_clicks": 3})
    metrics = trainer.evaluate()
    truth = json.loads((tmp_path / "eval" / "ground_truth.json").read_text())
    results = json.loads((tmp_path / "eval" / "results.json").read_text())
    assert len(results) == len(truth["annotations"]), "each object is answered once"
    pairs = {}
    for entry in truth["annotations"]:
        pairs.setdefault((entry["image_id"], entry["category_id"]), ([], []))[0].append(entry["segmentation"])
    for entry in results:
        assert entry["score"] == pytest.approx((1 + entry["predicted_iou"]) / 2)
        pairs[entry["image_id"], entry["category_id"]][1].append(entry["segmentation"])
    ious = [
        coco_mask.iou([b], [a], [0])[0, 0]
        for masks_of_pair in pairs.values()
        for a, b in zip(*masks_of_pair, strict=True)
    ]
    assert metrics["eval_object_IoU"] == pytest.approx(np.mean(ious), abs=1e-9)
    assert metrics["eval_object_IoU"] == metrics["eval_IoU@1" if first == "point" else "eval_IoU@box"]
    assert "eval_IoU@3" in metrics
    stored = read_objects(tmp_path / "eval")
    assert sorted(entry.iou for entry in stored.values()) == pytest.approx(sorted(ious), abs=1e-9)
    prompts = [entry["prompt"] for entry in results]
    assert all(len(prompt) == (1 if first == "point" else 2) for prompt in prompts)


def test_saved_model_loads_in_transformers(shapes, tmp_path):
    trainer = build_sam2(shapes, tmp_path, max_steps=1)
    trainer.train()
    trainer.save_model()
    plain, report = Sam2Model.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(plain.state_dict()[name], tensor), name
    assert plain.prompt_encoder.input_image_size == 64


def test_mask_prompt_encoder_is_frozen_without_mask_prompts(shapes, tmp_path):
    trainer = build_sam2(shapes, tmp_path, data={"n_rounds": 1}, max_steps=1, weight_decay=0.1, learning_rate=1e-2)
    before = {n: p.clone() for n, p in trainer.model.named_parameters()}
    trainer.train()
    for name, parameter in trainer.model.named_parameters():
        if name.startswith("prompt_encoder.mask_embed."):
            assert torch.equal(parameter, before[name]), name
    assert not torch.equal(trainer.model.mask_decoder.mask_tokens.weight, before["mask_decoder.mask_tokens.weight"])


def test_cached_features_replace_the_encoder(shapes, sam2_start, tmp_path):
    arguments = {
        "data": {"feature_cache": str(tmp_path / "cache"), "cache_views": 2, "n_rounds": 2},
        "model": {"freeze": ["vision_encoder"]},
        "max_steps": 3,
        "eval_before": False,
    }
    trainer = build_sam2(shapes, tmp_path / "out", sam2_start, **arguments)
    assert trainer.model.vision_encoder is None, "offloaded"
    cached = trainer.evaluate()
    trainer.train()
    trainer.save_model()
    plain = build_sam2(shapes, tmp_path / "plain", sam2_start).evaluate()
    # bfloat16 stores 8 significant bits of the features.
    assert cached["eval_loss"] == pytest.approx(plain["eval_loss"], rel=2e-2)
    moved = {n for n, w in weights(tmp_path / "out").items() if not torch.equal(w, weights(sam2_start)[n])}
    assert moved
    assert all(name.startswith(("mask_decoder.", "prompt_encoder.")) for name in moved)
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*.safetensors")}
    build_sam2(shapes, tmp_path / "again", sam2_start, **arguments)
    assert files == {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*.safetensors")}
    with pytest.raises(ValueError, match="Add vision_encoder to `freeze`"):
        build_sam2(shapes, tmp_path / "trained", sam2_start, **(arguments | {"model": {}}))


def test_adapters_train_beside_frozen_parts(shapes, tmp_path):
    trainer = build_sam2(shapes, tmp_path, model={"lora": "attention", "freeze": ["vision_encoder"]}, max_steps=1)
    trained = {n for n, p in trainer.model.named_parameters() if p.requires_grad}
    assert trained
    assert all(".mask_decoder.transformer." in name and ".lora_" in name for name in trained)
    trainer.train()


def read_from(file):
    """One COCO file, of images in `train`, for training and, as a copy, for evaluation."""
    images, copy = str(file.parents[1] / "train"), file.with_name("evaluation.json")
    copy.write_text(file.read_text() + "\n")  # a file of the same content would be refused
    return {
        "dataset_name": None,
        "annotation_file": str(file),
        "eval_annotation_file": str(copy),
        "image_folder": images,
    }


def test_data_without_masks_are_refused(coco, tmp_path):
    file = coco([square(segmentation=[])])
    with pytest.raises(
        ValueError, match="SAM 2 learns from masks, and no training image shows an object with one: none of its 1"
    ):
        build_sam2("synthetic", tmp_path / "out", data=read_from(file))


def test_images_without_objects_are_left_out_and_logged(coco, tmp_path, caplog):
    images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (1, 2, 3)]
    file = coco([square(1), square(2, 2), square(2, 3, iscrowd=1)], images=images)
    data = read_from(file)
    with caplog.at_level("INFO", "sam_ft.run"):
        trainer = build_sam2("synthetic", tmp_path / "out", data=data)
    assert len(trainer.train_dataset) == 2
    assert len(trainer.eval_dataset) == 3, "an evaluation leaves no image out"
    assert 0 <= trainer.evaluate()["eval_object_IoU"] <= 1
    assert "1 of 3 training images show no object with a mask" in caplog.text
    assert "1 of 3 training annotations are left out" in caplog.text


def test_one_image_is_enough(coco, tmp_path):
    file = coco([square(1)])
    data = read_from(file)
    trainer = build_sam2("synthetic", tmp_path / "out", data=data, max_steps=2)
    trainer.train()
    assert 0 <= trainer.evaluate()["eval_object_IoU"] <= 1


def test_an_object_too_small_for_the_canvas_counts_as_missed(coco, tmp_path):
    image = {"id": 1, "file_name": "a.png", "width": 640, "height": 640}
    file = coco([square(1, side=200), square(1, 2, x=601, y=601, side=2)], images=[image])
    data = read_from(file)
    metrics = build_sam2("synthetic", tmp_path / "out", data=data).evaluate()
    assert metrics["eval_objects_missing"] == 0.5
    assert metrics["eval_object_IoU_small"] == 0


@pytest.mark.parametrize(
    ("metric", "message"),
    [("IoU@9", "no evaluation gives. Did you mean"), ("cgF1", "not every evaluation gives. Choose `eval_object_IoU`")],
)
def test_a_metric_that_is_not_there_is_named(shapes, tmp_path, metric, message):
    with pytest.raises(ValueError, match=message):
        build_sam2(shapes, tmp_path, metric_for_best_model=metric)


def test_a_metric_that_the_images_cannot_give_is_replaced(coco, tmp_path, caplog):
    file = coco([square(1)])
    with caplog.at_level("INFO", "sam_ft.run"):
        trainer = build_sam2("synthetic", tmp_path, data=read_from(file), metric_for_best_model="object_IoU_large")
    assert trainer.args.metric_for_best_model == "eval_object_IoU"
    assert "cannot be scored by object_IoU_large" in caplog.text


def test_streamed_scenes_train_too(tmp_path):
    data = {"dataset_name": "synthetic-stream", "scene_train_images": 4, "scene_eval_images": 2}
    trainer = build_sam2("", tmp_path, data=data, max_steps=2)
    trainer.train()
    assert trainer.state.global_step == 2


def test_a_mixture_of_data_sets_trains_too(shapes, tmp_path):
    trainer = build_sam2(shapes, tmp_path, data={"extra_datasets": [str(shapes)]}, max_steps=2)
    trainer.train()
    assert trainer.state.global_step == 2


def test_step_without_objects_gives_one_warning(coco, tmp_path, caplog):
    """Streamed rows cannot be checked before training."""
    images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (1, 2)]
    file = coco([square(1, segmentation=[]), square(2, 2, segmentation=[])], images=images)
    data = read_from(file) | {"streaming": True}
    trainer = build_sam2("synthetic", tmp_path / "out", data=data, max_steps=2, weight_decay=0.0)
    before = {n: p.clone() for n, p in trainer.model.named_parameters()}
    with caplog.at_level("WARNING", "sam_ft.run"):
        trainer.train()
    assert caplog.text.count("show no object with a mask") == 1
    assert all(torch.equal(p, before[n]) for n, p in trainer.model.named_parameters())


def test_other_schedule_does_not_get_the_default_arguments(shapes, tmp_path):
    for kind in ("linear", "cosine", "constant_with_warmup"):
        trainer = build_sam2(shapes, tmp_path / kind, lr_scheduler_type=kind, max_steps=1)
        trainer.create_optimizer_and_scheduler(3)
    assert build_sam2(shapes, tmp_path / "own").args.lr_scheduler_kwargs == {"min_lr_rate": 0.1}


def test_rates_and_decay_are_the_official_ones():
    """Values of the official optimizer for a trunk of 12 blocks (`official_sam2`'s `param_groups`)."""
    with torch.device("meta"):
        model = Sam2Model(Sam2Config())
    groups = build_parameter_groups(model, LearningRates(5e-6, 3e-6, None, vision_layer_decay=0.9, weight_decay=0.1))
    names = {id(p): n for n, p in model.named_parameters()}
    rate = {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    trunk = "vision_encoder.backbone."
    expected = {
        f"{trunk}patch_embed.projection.weight": 7.625597484987003e-07,
        f"{trunk}blocks.0.attn.qkv.weight": 8.472886094430003e-07,
        f"{trunk}blocks.11.attn.qkv.weight": 2.7e-06,
        f"{trunk}pos_embed": 3e-06,
        "vision_encoder.neck.convs.0.weight": 3e-06,
        "mask_decoder.mask_tokens.weight": 5e-06,
        "no_memory_embedding": 5e-06,
    }
    assert {name: rate[name][0] for name in expected} == pytest.approx(expected, rel=1e-9)
    # Custom norms, embeddings and positions have weight decay; biases and `torch.nn.LayerNorm` have none.
    assert rate["mask_decoder.upscale_layer_norm.weight"][1] == 0.1
    assert rate[f"{trunk}pos_embed"][1] == 0.1
    assert rate[f"{trunk}blocks.0.layer_norm1.weight"][1] == 0.0
    assert rate["mask_decoder.upscale_conv1.bias"][1] == 0.0


def test_the_default_schedule_is_the_official_one(shapes, tmp_path):
    trainer = build_sam2(shapes, tmp_path, max_steps=100)
    args = trainer.args
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=3e-6)
    schedule = get_scheduler(
        args.lr_scheduler_type, optimizer, 0, 100, scheduler_specific_kwargs=args.lr_scheduler_kwargs
    )
    values = []
    for _ in range(101):
        values.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    # 0.1 + 0.45 (1 + cos πw)
    assert values[0] == pytest.approx(3e-6)
    assert values[50] == pytest.approx(1.65e-6, rel=1e-6)
    assert values[100] == pytest.approx(3e-7, rel=1e-6)


def test_image_of_another_mode(coco, tmp_path):
    """16-bit grey values are scaled, not clipped."""
    file = coco([square(1)])
    Image.fromarray(np.random.default_rng(0).integers(0, 60000, (30, 40)).astype(np.uint16)).save(
        tmp_path / "train" / "a.png"
    )
    data = read_from(file)
    sample = build_sam2("synthetic", tmp_path / "out", data=data).train_dataset[(0, 0)]
    assert sample.image.float().std() > 20
