"""Training on cached features: results equal those without a cache, and stale features are refused."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from sam_ft.data.synthetic.scene_files import write_shape_scenes
from sam_ft.models.loading import load_model
from sam_ft.options.scenes import SceneFiles

from ..conftest import HEADS
from .common import build, weights


SAME_VIEW = {"flip_probability": 0.0, "color_jitter": 0.0}  # as long as a view does not depend on the epoch


@pytest.fixture
def rounded(monkeypatch):
    """Run without a cache whose features are rounded to bfloat16, as a cache stores them."""
    from sam_ft.models.sam3.model import Sam3ForConceptSegmentation

    encode = Sam3ForConceptSegmentation.encode_images
    monkeypatch.setattr(
        Sam3ForConceptSegmentation, "encode_images", lambda self, pixels: encode(self, pixels).bfloat16()
    )


def run(shapes, folder, cache=None, *, model=None, data=None, **training):
    options = {"feature_cache": str(cache), "cache_text": True} if cache else {}
    trainer = build(
        shapes, folder, model=model or HEADS, data={**SAME_VIEW, **options, **(data or {})},
        **{"max_steps": 4, "gradient_accumulation_steps": 1, **training},
    )  # fmt: skip
    trainer.train()
    trainer.save_model()
    return trainer


def test_cached_features_give_the_same_weights(shapes, tmp_path, rounded):
    plain = run(shapes, tmp_path / "plain")
    cached = run(shapes, tmp_path / "cached", tmp_path / "cache")
    files = sorted(file.name for file in (tmp_path / "cache" / "train").glob("*.safetensors"))
    assert len(files) == 4
    stored = load_file(tmp_path / "cache" / "train" / files[0])["features"]
    assert (stored.dtype, tuple(stored.shape)) == (torch.bfloat16, (12, 12, 96))
    first, second = weights(tmp_path / "plain"), weights(tmp_path / "cached")
    assert first.keys() == second.keys(), "the offloaded encoders are saved with the rest"
    for name, value in first.items():
        assert torch.allclose(value, second[name], atol=1e-6), name
    assert plain.evaluate()["eval_loss"] == pytest.approx(cached.evaluate()["eval_loss"], rel=1e-5)


def test_encoders_are_offloaded_and_no_image_is_read(shapes, tmp_path):
    trainer = run(shapes, tmp_path / "run", tmp_path / "cache")
    assert not any(
        name.startswith(("vision_encoder.backbone", "text_encoder")) for name, _ in trainer.model.named_parameters()
    )
    batch = next(iter(trainer.get_train_dataloader()))
    assert "pixel_values" not in batch
    assert batch["vision_features"].shape == (1, 12, 12, 96)
    assert batch["text_features"].shape == (len(batch["input_ids"]), 32, 64)


def test_views_follow_the_epoch(shapes, tmp_path):
    trainer = run(shapes, tmp_path / "run", tmp_path / "cache", data={"cache_views": 2, "color_jitter": 0.4})
    samples = trainer.train_dataset
    first, second, third = (samples[epoch, 0] for epoch in range(3))
    assert not torch.equal(first.features, second.features)
    assert torch.equal(first.features, third.features)
    with torch.no_grad():
        model = load_model_of(trainer)  # the ViT of the trainer's model is offloaded
        expected = model.encode_images(samples.view(0, 1)[None])[0].bfloat16()
    assert torch.equal(second.features, expected)


def load_model_of(trainer):
    from sam_ft.options.model import ModelOptions

    return load_model(ModelOptions("sam-ft/random-tiny", seed=trainer.args.seed)).eval()


def test_second_run_reads_the_cache_and_killed_run_continues(shapes, tmp_path):
    cache = tmp_path / "cache"
    run(shapes, tmp_path / "first", cache, max_steps=1)
    files = sorted((cache / "train").glob("*.safetensors"))
    times = {file: file.stat().st_mtime_ns for file in files}
    files[1].unlink()
    run(shapes, tmp_path / "second", cache, max_steps=1)
    after = {file: file.stat().st_mtime_ns for file in files}
    assert [file for file in files if after[file] != times[file]] == [files[1]]


def test_cache_of_other_data_or_weights_is_refused(shapes, tmp_path):
    cache = tmp_path / "cache"
    run(shapes, tmp_path / "first", cache, max_steps=1)
    for change, named in (
        ({"data": {"color_jitter": 0.3}}, "views"),
        ({"model": {**HEADS, "resolution": 64}}, "resolution"),
        ({"seed": 7}, "weights"),  # the random model's
    ):
        with pytest.raises(ValueError, match=rf"(?s)`feature_cache`.*computed from other .*{named}.*delete"):
            run(shapes, tmp_path / named, cache, **change)
    other = write_shape_scenes(tmp_path / "other", SceneFiles(num_train=4, num_validation=2))
    with pytest.raises(ValueError, match="computed from other images"):
        run(other, tmp_path / "o", cache)
    with pytest.raises(ValueError, match="no cache"):
        run(shapes, tmp_path / "p", tmp_path / "first")


def test_a_damaged_tensor_is_named(shapes, tmp_path):
    cache = tmp_path / "cache"
    trainer = run(shapes, tmp_path / "run", cache, max_steps=1)
    for file in (cache / "train").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"`feature_cache`.*example '.*', view 0.*Delete it"):
        trainer.train_dataset[0, 0]


def test_a_full_disk_keeps_what_was_written(shapes, tmp_path, monkeypatch):
    import sam_ft.data.samples.feature_store as features

    written = []

    def save(tensors, file):
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(file)
        save_file(tensors, file)

    monkeypatch.setattr(features, "save_file", save)
    with pytest.raises(ValueError, match=r"no space left in .*continues from the files"):
        run(shapes, tmp_path / "run", tmp_path / "cache", max_steps=1)
    names = [file.name for file in (tmp_path / "cache" / "train").iterdir()]
    assert sum(name.endswith(".safetensors") for name in names) == 2
    assert len(names) == 3, "no draft is left"
    monkeypatch.undo()
    run(shapes, tmp_path / "again", tmp_path / "cache", max_steps=1)


def test_too_small_disk_is_reported_before_it_is_full(shapes, tmp_path, monkeypatch):
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(ValueError, match=r"`feature_cache`: 4 views of .* GB"):
        run(shapes, tmp_path / "run", tmp_path / "cache")


def test_trained_encoders_cannot_be_cached(shapes, tmp_path):
    with pytest.raises(ValueError, match="Add vision_encoder to `freeze`"):
        run(shapes, tmp_path / "a", tmp_path / "cache", model={"freeze": ["text_encoder"]})
    with pytest.raises(ValueError, match="`cache_text` needs a frozen text encoder"):
        run(shapes, tmp_path / "b", model={"freeze": ["vision_encoder"]}, data={"cache_text": True})
    with pytest.raises(ValueError, match="streamed, mixed or generated"):
        run("synthetic-stream", tmp_path / "c", tmp_path / "d", data={"scene_train_images": 2, "scene_eval_images": 1})


def test_a_cache_that_the_next_run_might_delete_is_refused(shapes, tmp_path):
    with pytest.raises(ValueError, match="inside `output_dir`"):
        run(shapes, tmp_path / "run", tmp_path / "run" / "features")


def test_offloaded_encoder_is_not_called(shapes, tmp_path):
    trainer = run(shapes, tmp_path / "run", tmp_path / "cache", max_steps=1)
    with pytest.raises(ValueError, match="vision_encoder.backbone is offloaded.*`vision_features`"):
        trainer.model.encode_images(torch.zeros(1, 3, 96, 96))


def test_resumed_cached_run_gives_the_same_weights(shapes, tmp_path):
    cache = tmp_path / "cache"
    options = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    run(shapes, tmp_path / "whole", cache, **options)
    again = build(
        shapes, tmp_path / "again", model=HEADS,
        data={**SAME_VIEW, "feature_cache": str(cache), "cache_text": True}, gradient_accumulation_steps=1, **options,
    )  # fmt: skip
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    again.save_model()
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "again")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_adapters_on_cached_features_are_saved_alone(shapes, tmp_path):
    trainer = run(
        shapes, tmp_path / "run", tmp_path / "cache",
        model={"lora": "detr", "lora_r": 2, "freeze": ["vision_encoder", "text_encoder"]},
    )  # fmt: skip
    names = load_file(tmp_path / "run" / "adapter_model.safetensors")
    assert names
    assert all(".lora_" in name for name in names)
    assert trainer.model.base_model.model.vision_encoder.backbone is None


@pytest.mark.ray
def test_ray_actors_compute_the_same_features(shapes, tmp_path):
    pytest.importorskip("ray")
    for engine in ("processes", "ray"):
        data = {"feature_cache": str(tmp_path / engine), "cache_engine": engine, "cache_views": 2}
        build(shapes, tmp_path / f"{engine} run", model=HEADS, data=data)
    names = sorted(file.relative_to(tmp_path / "ray") for file in (tmp_path / "ray").rglob("*.*"))
    assert len(names) == 2 * 4 + 2 + 2, "features of training and validation, and two indices"
    assert all(
        (tmp_path / "ray" / name).read_bytes() == (tmp_path / "processes" / name).read_bytes() for name in names
    )
