"""Random numbers that depend on what they are for, never on when or where they are drawn."""

import hashlib

import numpy as np


def keyed_draws(seed: int, epoch: int, example_id: str, purpose: str) -> np.random.Generator:
    """
    A generator for one purpose, one example, one epoch. Order, workers, ranks and resuming change nothing, and a draw more
    for one purpose shifts no other.

    Args:
        seed (`int`): the run's. epoch (`int`): from 0.
        example_id (`str`): the row's. purpose (`str`): what is drawn, such as `"phrases"`.
    """
    key = f"{seed}\x1f{epoch}\x1f{example_id}\x1f{purpose}".encode()
    return np.random.default_rng(np.frombuffer(hashlib.blake2b(key, digest_size=16).digest(), dtype=np.uint32))
