"""Phrases of a prediction: checks, trained phrases of a model, and the phrase of prompts without one."""

from ..models.concept_sources import read_concept_sources
from ..models.model_files import read_trained_phrases
from ..options.model import ModelOptions


VISUAL = "visual"  # phrase of the official processor for exemplar boxes without a phrase


def check_phrases(phrases: list[str]) -> list[str]:
    """
    Check phrases, and remove surrounding blanks and duplicates.

    Args:
        phrases (`list[str]`): The phrases.

    Returns:
        `list[str]`: Distinct phrases, in their order.

    Raises:
        `ValueError`: If a phrase is empty, or `phrases` is a string.
    """
    if isinstance(phrases, str):
        raise ValueError(f"`phrases` is the string {phrases!r}; give a list, [{phrases!r}]")
    texts = [str(phrase).strip() for phrase in phrases]
    if not all(texts):
        raise ValueError("`phrases` contains an empty phrase; remove it")
    return list(dict.fromkeys(texts))


def list_phrases(options: ModelOptions) -> list[str]:
    """
    List the phrases that a model was trained on, those of its concepts included.

    Args:
        options (`ModelOptions`): The model.
    """
    trained = read_trained_phrases(options.model_name_or_path, options.revision) or set()
    _, files = read_concept_sources(options)
    return sorted(trained.union(entry.phrase for file in files for entry in file.info.concepts))
