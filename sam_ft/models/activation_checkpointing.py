"""Activation checkpointing of the encoder layers, which Transformers renamed after release 5.17."""

from transformers import PreTrainedModel


def enable_activation_checkpointing(model: PreTrainedModel) -> None:
    """
    Recompute the activations of the encoder layers in the backward pass.

    Args:
        model (`PreTrainedModel`): Model without adapters.
    """
    arguments = {"use_reentrant": False}
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=arguments)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=arguments)
