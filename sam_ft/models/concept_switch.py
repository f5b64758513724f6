"""Switch of the concepts of a model, for evaluations of its base."""

import contextlib

import torch

from .unwrapping import unwrap_sam


@contextlib.contextmanager
def disable_concepts(model: torch.nn.Module):
    """
    Use the text features of the phrases of all concepts within the context, as before their training.

    Args:
        model (`torch.nn.Module`): Model with or without concepts.
    """
    concepts = getattr(unwrap_sam(model), "concepts", None)
    if concepts is None:
        yield
        return
    concepts.index.enabled = False
    try:
        yield
    finally:
        concepts.index.enabled = True
