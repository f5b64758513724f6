"""Order of the training images, and evaluation batches of each process."""

import math

from torch.utils.data import Dataset
from transformers import TrainingArguments

from ..data.lazy_rows import MixedRows
from ..data.samples.pipeline import EpochSampler


def build_train_sampler(dataset: Dataset, args: TrainingArguments) -> EpochSampler:
    """
    Build the sampler of the training images; a data set with `in_order` is not shuffled.

    Args:
        dataset (`Dataset`): Training samples.
        args (`TrainingArguments`): Seeds and `train_sampling_strategy`.

    Raises:
        ValueError: If a mixture of data sets is to be read in sequence.
    """
    shuffle = args.train_sampling_strategy != "sequential" and not getattr(dataset, "in_order", False)
    rows = getattr(dataset, "rows", dataset)
    if isinstance(rows, MixedRows) and not shuffle:
        raise ValueError(
            "`train_sampling_strategy: sequential` has no effect with `extra_datasets`, whose mixture is drawn at "
            "random. Leave one of them out"
        )
    return EpochSampler(rows, args.data_seed if args.data_seed is not None else args.seed, shuffle)


def split_evaluation(number: int, args: TrainingArguments) -> list[list[int]]:
    """
    Return the evaluation batches of this process as indices.

    No batch is padded and no example is evaluated twice. A process with fewer batches repeats the first one, because
    sharded models need all processes in each step; repeated predictions have the same key.

    Args:
        number (`int`): Number of examples.
        args (`TrainingArguments`): Batch size, and number and index of the process.
    """
    size, world, rank = args.eval_batch_size, args.world_size, args.process_index
    batches = [list(range(i, min(i + size, number))) for i in range(0, number, size)]
    local_batches = batches[rank::world]
    return local_batches + batches[:1] * (math.ceil(len(batches) / world) - len(local_batches))
