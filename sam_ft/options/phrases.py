"""Options of phrases: names of classes, sampling of the prompted phrases, and geometric prompts."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .keys import check_values, key


GEOMETRY_TOKENS = ("always", "never", "mixed")


@dataclass
class PhraseMap:
    """
    Phrases that the user chose for class names.

    Attributes:
        names (`dict[str, str | None]`): Class name as in the data, composed (NFC), to phrase; `None` drops the class.
        synonyms (`dict[str, list[str]]`): Phrase to other phrases that training may use for it.
    """

    names: dict[str, str | None] = field(default_factory=dict)
    synonyms: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class PhraseOptions:
    """
    Options of phrase sampling.

    Attributes:
        negative_ratio (`float`): Share of negative phrases among the phrases per image, on average over images.
        negatives_per_image (`int`, *optional*): Fixed number of negative phrases instead of a share.
        max_phrases_per_image (`int`): Maximum number of phrases per image; positives take precedence.
        distill_phrases (`list[str]`): Unlabelled phrases for which the teacher of a distillation predicts the targets.
        distill_per_image (`int`): Number of them that is drawn for each image.
        synonyms (`Mapping[str, list[str]]`): Phrase to other texts for it; one of all texts is drawn each time.
    """

    negative_ratio: float = key(
        0.2,
        "Fraction of negative phrases (absent from the image) among the prompted phrases, 0 to 0.99.",
        low=0,
        high=0.99,
    )
    negatives_per_image: int | None = key(
        None, "Fixed number of negative phrases per image, at least 0; replaces `negative_ratio`.", low=0
    )
    max_phrases_per_image: int = key(
        32, "Maximum number of prompted phrases per image, at least 1; positive phrases are chosen first.", low=1
    )
    distill_phrases: list[str] = field(default_factory=list)
    distill_per_image: int = key(
        2,
        "Number of `distill_phrases` per image and step in the self-distillation, at least 1.",
        low=1,
    )
    synonyms: Mapping[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_values(self)


@dataclass
class PromptOptions:
    """
    Options of the geometric prompts of phrases.

    Attributes:
        exemplar_probability (`float`): Probability that a present phrase also gets one of its instances as an exemplar
            box.
        geometry_token (`str`): Use of the CLS token of the geometry encoder for text-only pairs. `always`: as in the
            official model; `never`: as in `Sam3Model`; `mixed`: drawn for each pair, for both.
    """

    exemplar_probability: float = key(
        0.0,
        "Probability, 0 to 1, that a positive phrase is prompted with the box of one of its instances as well.",
        low=0,
        high=1,
    )
    geometry_token: str = key(
        "mixed",
        "Geometry token of text-only prompts in training. always: added, as in the official package; never: left "
        "out, as in Transformers; mixed: drawn for each phrase, so that the model works with both packages.",
        choices=GEOMETRY_TOKENS,
    )

    def __post_init__(self) -> None:
        check_values(self)
