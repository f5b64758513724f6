"""Training on a stream: results equal those of a data set in memory, and a stopped run resumes with the next rows."""

import torch

from .common import build


GIVEN = {
    "max_steps": 6,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "save_strategy": "steps",
    "save_steps": 3,
}
STREAM = {"streaming": True}


def record_example_ids(trainer) -> list[str]:
    """Record the ids of all examples that reach the collator, in order."""
    ids, collate = [], trainer.data_collator

    def record(samples):
        ids.extend(sample.example_id for sample in samples)
        return collate(samples)

    trainer.data_collator = record
    return ids


def test_stream_gives_the_same_weights(shapes, tmp_path):
    whole, stream = (
        build(shapes, tmp_path / name, data=data, **GIVEN) for name, data in (("whole", {}), ("stream", STREAM))
    )
    for trainer in (whole, stream):
        trainer.train()
    for parameter, streamed in zip(whole.model.parameters(), stream.model.parameters(), strict=True):
        assert torch.equal(parameter, streamed)


def test_stopped_stream_resumes_with_the_next_rows(shapes, tmp_path):
    """Four images an epoch: the stop after three steps is in the middle of the first."""
    whole = build(shapes, tmp_path / "whole", data=STREAM, **GIVEN)
    ids = record_example_ids(whole)
    whole.train()
    again = build(shapes, tmp_path / "again", data=STREAM, **GIVEN)
    resumed = record_example_ids(again)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert len(set(ids[:4])) == 4
    # The loader reads one sample ahead of the step.
    assert resumed[:3] == ids[3:6]
