"""
Concepts of SAM 3: learned prompt tokens in place of a phrase's text features.

The detector reads a phrase as tokens `(T, C)` in fusion encoder, decoder and scoring. A concept is K learned tokens in
that place. Everything else is frozen, so that the outputs for every other phrase stay bit-identical.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from ...options.concepts import MAX_TOKENS
from ...utils.text import phrase_words


BASE_PREFIX = "base:"  # `base:star` is the phrase "star" by its text features.
_NOISE = 0.01  # relative standard deviation of the noise that separates repeated initial tokens


FORMAT = 1  # of concepts.json


@dataclass
class ConceptEntry:
    """
    Description of one concept.

    Attributes:
        phrase (`str`): Its phrase.
        synonyms (`Sequence[str]`): Further texts that have this concept.
        threshold (`float`, *optional*): Score threshold chosen on validation images.
        temperature (`float`): Presence temperature at which the threshold was chosen, see [`Thresholds`].
        scores (`dict[str, float]`): Metrics of the phrase on the validation images.
    """

    phrase: str
    synonyms: list[str] = field(default_factory=list)
    threshold: float | None = None
    temperature: float = 1.0
    scores: dict[str, float] = field(default_factory=dict)


@dataclass
class ConceptInfo:
    """
    Content of `concepts.json`.

    Attributes:
        base (`str`): Hub id, folder or packaged name of the base model.
        revision (`str`, *optional*): Branch, tag or commit of the base on the Hub.
        resolution (`int`): Side of the canvas of the training, px.
        width (`int`): Channels of a token.
        digests (`dict[str, str]`): Digest of each part of the base, see [`compute_part_digests`].
        concepts (`list[ConceptEntry]`): The concepts, in the order of the tensors `concept.0`, `concept.1`, …
        version (`str`): Version of this package.
        format (`int`): Version of the file format.
    """

    base: str
    revision: str | None
    resolution: int
    width: int
    digests: dict[str, str]
    concepts: list[ConceptEntry] = field(default_factory=list)
    version: str = ""
    format: int = FORMAT


class ConceptIndex:
    """
    Index of the concept of each phrase, for collators; it contains no tensors.

    Attributes:
        phrases (`list[str]`): Phrase of each concept.
        enabled (`bool`): Whether phrases have their concepts; if not, their text features are used.
    """

    def __init__(self):
        self.phrases: list[str] = []
        self.enabled = True
        self._aliases: dict[str, int] = {}
        self._spellings: dict[str, int] = {}

    def add(self, phrase: str, synonyms: Sequence[str] = ()) -> None:
        """Add a phrase and further texts that have the same concept."""
        for text in (phrase, *synonyms):
            self._aliases.setdefault(text, len(self.phrases))
            self._spellings.setdefault(phrase_words(text), len(self.phrases))
        self.phrases.append(phrase)

    def index_of(self, text: str) -> int:
        """
        Return the index of the concept of a phrase or synonym, -1 without one or while concepts are disabled.

        As in [`Thresholds.of`], spellings that differ in case and separators only are equivalent.
        """
        return self._find(text) if self.enabled else -1

    def text_of(self, text: str) -> str:
        """Return the text to tokenize: `base:star` is "star" if that phrase has a concept."""
        plain = text.removeprefix(BASE_PREFIX)
        return plain if plain != text and self._find(plain) >= 0 else text

    def _find(self, text: str) -> int:
        return self._aliases[text] if text in self._aliases else self._spellings.get(phrase_words(text), -1)


class ConceptTokens(torch.nn.Module):
    """
    Prompt tokens of several phrases.

    Args:
        info (`ConceptInfo`): Description of the base, without concepts.
        dropout (`float`): Probability that a token is hidden in a training step. At least one token remains.

    Attributes:
        info (`ConceptInfo`): Description of base and concepts, which is saved with the tokens.
        index (`ConceptIndex`): Phrases of the concepts.
        tokens (`torch.nn.ParameterList`): Tokens `(K, C)` of each concept, float32. K may differ.
    """

    def __init__(self, info: ConceptInfo, dropout: float = 0.0):
        super().__init__()
        self.info, self.dropout, self.index = info, dropout, ConceptIndex()
        self.tokens = torch.nn.ParameterList()

    def add(self, entry: ConceptEntry, tokens: torch.Tensor) -> None:
        """
        Add a concept.

        Args:
            entry (`ConceptEntry`): Its description.
            tokens (`torch.Tensor` of shape `(K, C)`): Its tokens, K ≤ 32.

        Raises:
            `ValueError`: If phrase or synonym has a concept already, in any spelling, or the shape is not supported.
        """
        repeated = next((text for text in (entry.phrase, *entry.synonyms) if self.index.index_of(text) >= 0), None)
        if repeated is not None:  # A file with both could not be loaded.
            raise ValueError(f"the phrase {repeated!r} has two concepts. Rename or leave out one of them")
        if tokens.ndim != 2 or not 1 <= tokens.shape[0] <= MAX_TOKENS or tokens.shape[1] != self.info.width:
            raise ValueError(
                f"the concept {entry.phrase!r} has tokens of shape {tuple(tokens.shape)}; this model takes 1 to "
                f"{MAX_TOKENS} tokens of width {self.info.width}. Use the base model that it was trained on"
            )
        self.info.concepts.append(entry)
        self.index.add(entry.phrase, entry.synonyms)
        self.tokens.append(torch.nn.Parameter(tokens.detach().float().clone()))

    def insert(
        self, features: torch.Tensor, mask: torch.Tensor, indices: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Replace the text features of phrases that have a concept.

        Args:
            features (`torch.Tensor` of shape `(T, L, C)`): Text features of T phrases.
            mask (`torch.Tensor` of shape `(T, L)`, bool): `True` for valid tokens.
            indices (`list[int]` of length T): Index of the concept of each phrase, -1 without one.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: Features and mask with the tokens of the concepts.
        """
        rows = [row for row, index in enumerate(indices) if index >= 0]
        trained = [tokens for tokens in self.tokens if tokens.requires_grad]
        if self.training and trained:
            # Concepts without a phrase in the batch get zero gradients, so that no process of a group waits for one.
            features = features + 0.0 * sum(tokens.sum() for tokens in trained)
        if not rows:
            return features, mask
        length = features.shape[1]
        tokens = [self.tokens[indices[row]] for row in rows]
        padded = torch.stack([F.pad(t, (0, 0, 0, length - len(t))) for t in tokens]).to(features.dtype)
        valid = torch.stack([torch.arange(length) < len(t) for t in tokens]).to(mask.device)
        if self.training and self.dropout:
            shown = torch.rand(valid.shape, device=mask.device) >= self.dropout
            shown[:, 0] |= ~(shown & valid).any(1)
            valid = valid & shown
        where = torch.tensor(rows, device=features.device)
        return features.index_copy(0, where, padded), mask.index_copy(0, where, valid)

    def encode(self, phrases: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Return the features `(T, 32, C)` and mask `(T, 32)` of T phrases, without tokens for phrases without a concept.

        Args:
            phrases (`list[str]`): The phrases, in any spelling.
        """
        device = next(self.parameters()).device
        features = torch.zeros(len(phrases), MAX_TOKENS, self.info.width, device=device)
        mask = torch.zeros(features.shape[:2], dtype=torch.bool, device=device)
        return self.insert(features, mask, [self.index.index_of(phrase) for phrase in phrases])


def repeat_tokens(features: torch.Tensor, number: int, generator: torch.Generator) -> torch.Tensor:
    """
    Build initial tokens from features, repeated in turn, with a little noise so that repeated tokens differ.

    Args:
        features (`torch.Tensor` of shape `(M, C)`): Text features of the phrase's tokens, or exemplar tokens.
        number (`int`): Number of tokens K.
        generator (`torch.Generator`): Source of the noise.

    Returns:
        `torch.Tensor` of shape `(K, C)`.
    """
    repeated = features[torch.arange(number) % len(features)].float()
    noise = torch.randn(repeated.shape, generator=generator)
    return repeated + _NOISE * features.float().std() * noise


def build_random_tokens(features: torch.Tensor, number: int, generator: torch.Generator) -> torch.Tensor:
    """
    Build normal initial tokens with the standard deviation of features.

    Args:
        features (`torch.Tensor` of shape `(M, C)`): Text features of the phrase's tokens.
        number (`int`): Number of tokens K.
        generator (`torch.Generator`): Source of the tokens.

    Returns:
        `torch.Tensor` of shape `(K, C)`.
    """
    return features.float().std() * torch.randn(number, features.shape[1], generator=generator)
