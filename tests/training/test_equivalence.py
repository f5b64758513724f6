"""Equivalence of a step for all splits of an accumulation window into batches."""

import pytest

from .common import SAM3_DATA, SAM3_STEPS, build, distance, weights


@pytest.mark.parametrize(("batch", "accumulation"), [(2, 2), (1, 4)])
def test_accumulation_gives_the_same_weights(shapes, sam3_start, sam3_reference, tmp_path, batch, accumulation):
    trainer = build(
        shapes,
        tmp_path,
        sam3_start,
        data=SAM3_DATA,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        **SAM3_STEPS,
    )
    trainer.train()
    trainer.save_model()
    # Tolerance 1e-5: float32 sums in another order.
    assert distance(weights(tmp_path), sam3_reference, weights(sam3_start)) < 1e-5


def test_the_official_normaliser_depends_on_the_batch(shapes, sam3_start, sam3_reference, tmp_path):
    """The comparison above fails with `normalizer: batch`."""
    trainer = build(
        shapes,
        tmp_path,
        sam3_start,
        data=SAM3_DATA,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=4,
        normalizer="batch",
        **SAM3_STEPS,
    )
    trainer.train()
    trainer.save_model()
    assert distance(weights(tmp_path), sam3_reference, weights(sam3_start)) > 1e-3
