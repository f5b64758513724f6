"""Random generators that depend on a key alone, not on the order or the process in which they are used."""

import hashlib

import numpy as np


def keyed_draws(seed: int, epoch: int, example_id: str, purpose: str) -> np.random.Generator:
    """
    Create a random generator for one purpose, example and epoch.

    Data order, workers, ranks and resuming do not change its numbers, and an additional draw for one purpose does not
    shift those of another.

    Args:
        seed (`int`): Random seed.
        epoch (`int`): Epoch, from 0.
        example_id (`str`): Identifier of the row.
        purpose (`str`): Name of what is drawn, for example `"phrases"`.
    """
    key = f"{seed}\x1f{epoch}\x1f{example_id}\x1f{purpose}".encode()
    return np.random.default_rng(np.frombuffer(hashlib.blake2b(key, digest_size=16).digest(), dtype=np.uint32))
