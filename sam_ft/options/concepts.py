"""Options of concepts: learned prompt tokens of new phrases in front of a frozen SAM 3."""

from dataclasses import dataclass

from .keys import check_values, key


MAX_TOKENS = 32  # Length of SAM 3's text features; concept tokens take the place of a phrase's tokens.
CONCEPT_INITS = ("word", "random", "exemplars")
CONCEPT_WEIGHTS, CONCEPT_INFO = "concepts.safetensors", "concepts.json"  # files of a concept folder


@dataclass
class ConceptOptions:
    """
    Settings of the concepts of a run.

    Attributes:
        tokens (`int`, *optional*): Number of prompt tokens of each phrase; no concepts without it.
        init (`str`): Initial tokens: `word`: text features of the phrase; `random`: normal, with their standard
            deviation; `exemplars`: geometry-encoder tokens of labelled boxes in the training images.
        dropout (`float`): Probability that a token of a concept is hidden in a training step.
        phrases (`list[str]`): Phrases that get a concept; by default those with instances in the training images.
    """

    tokens: int | None = key(
        None,
        f"Number of learned prompt tokens of each new phrase, 1 to {MAX_TOKENS}: the model is frozen, and only these "
        "tokens are trained (a concept). Default: no concepts, the model is trained.",
        name="concept_tokens",
        low=1,
        high=MAX_TOKENS,
    )
    init: str = key(
        "word",
        "Initial concept tokens. word: text features of the phrase; random: normal with their standard deviation; "
        "exemplars: geometry-encoder tokens of labelled boxes in the training images.",
        name="concept_init",
        choices=CONCEPT_INITS,
    )
    dropout: float = key(
        0.0,
        "Probability, 0 to 0.9, that a token of a concept is hidden in a training step.",
        name="concept_dropout",
        low=0,
        high=0.9,
    )
    phrases: list[str] = key(
        [],
        "Phrases that get a concept; others keep their text features. Default: all phrases with instances in the "
        "training images.",
        name="concept_phrases",
    )

    def __post_init__(self) -> None:
        check_values(self)
