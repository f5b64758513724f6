"""Phrases of a prediction: checks, and the phrase of prompts without one."""

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
