"""Concepts that the options of a model name."""

from dataclasses import replace

from ..options.model import ModelOptions
from .model_files import find_concept_info
from .sam3.concept_files import ConceptFile, read_concept_source


def read_concept_sources(options: ModelOptions) -> tuple[ModelOptions, list[ConceptFile]]:
    """
    Read the concepts that options name, and return the options of their base.

    Args:
        options (`ModelOptions`): A model or a folder of concepts, and further `concepts`.

    Returns:
        `tuple[ModelOptions, list[ConceptFile]]`: Options without concepts, which name a model or an adapter; the
        concepts, those of `model_name_or_path` first.

    Raises:
        `ValueError`: If a name has no concepts, or its files cannot be read.
    """
    names, base = list(options.concepts), replace(options, concepts=[])
    if find_concept_info(options.model_name_or_path, options.revision) is not None:
        names.insert(0, options.model_name_or_path)
    files = []
    for number, name in enumerate(names):
        revision = options.revision if name == options.model_name_or_path else None
        files.append(read_concept_source(name, revision))
        if number == 0 and name == options.model_name_or_path:
            found = files[0].info
            resolution = options.resolution or found.resolution
            base = replace(base, model_name_or_path=found.base, revision=found.revision, resolution=resolution)
    return base, files


def has_concepts(options: ModelOptions) -> bool:
    """Return whether options name concepts, as `concepts` or as the model."""
    return bool(options.concepts) or find_concept_info(options.model_name_or_path, options.revision) is not None


def refuse_concepts(options: ModelOptions) -> None:
    """
    Refuse concepts where a model itself is trained or merged.

    Args:
        options (`ModelOptions`): Name of a model, and settings.

    Raises:
        `ValueError`: If the options name concepts.
    """
    if has_concepts(options):
        name = options.concepts[0] if options.concepts else options.model_name_or_path
        raise ValueError(
            f"{name!r} contains concepts, tokens in front of a frozen model. Pass their base model; to train further "
            "concepts set `concept_tokens`"
        )
