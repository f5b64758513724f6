"""Shared fixtures: one thread, initial weights, and the weights after two steps of four images at once."""

import pytest
import torch

from .common import (
    SAM2_DATA,
    SAM2_STEPS,
    SAM3_DATA,
    SAM3_STEPS,
    build,
    build_sam2,
    save_model_without_dropout,
    weights,
)


@pytest.fixture
def one_thread():
    """Use one thread, as runs in separate processes do, so that their weights are equal bit by bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def sam3_start(tmp_path_factory):
    return save_model_without_dropout(tmp_path_factory.mktemp("sam3_start"))


@pytest.fixture(scope="session")
def sam3_reference(shapes, sam3_start, tmp_path_factory):
    """Weights of SAM 3 after two steps of four images at once."""
    folder = tmp_path_factory.mktemp("sam3_reference")
    sizes = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}
    trainer = build(shapes, folder, sam3_start, data=SAM3_DATA, **sizes, **SAM3_STEPS)
    trainer.train()
    trainer.save_model()
    return weights(folder)


@pytest.fixture(scope="session")
def sam2_start(tmp_path_factory):
    from sam_ft.models.processors import load_processor
    from sam_ft.testing import tiny_sam2

    folder = tmp_path_factory.mktemp("sam2_start")
    tiny_sam2(resolution=64).save_pretrained(folder)
    load_processor("sam-ft/random-tiny-sam2").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sam2_reference(shapes, sam2_start, tmp_path_factory):
    """Weights of SAM 2 after two steps of four images at once."""
    folder = tmp_path_factory.mktemp("sam2_reference")
    sizes = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}
    trainer = build_sam2(shapes, folder, sam2_start, data=SAM2_DATA, **sizes, **SAM2_STEPS)
    trainer.train()
    trainer.save_model()
    return weights(folder)
