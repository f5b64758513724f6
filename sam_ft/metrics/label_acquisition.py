"""
Label acquisition: order in which unlabelled images are worth labelling, from predictions of a committee of models.

Notation: `p(m, i, t)` is the presence probability of phrase `t` in image `i` by model `m`, `s(m, i, t, j)` the score
of detection `j`, `H(p) = -p·ln p - (1 - p)·ln(1 - p)` the binary entropy, `p̄` the mean over models, and `n(t)` the
number of labelled images that show the phrase. Each part is a sum over phrases with the weight
`w(t) = 1 / (1 + n(t))`, the derivative of `ln(1 + n)`: a phrase with nine labelled images counts a tenth of a new one.

- Presence uncertainty: `Σ_t w(t) · H(p̄(i, t))`.
- Score uncertainty: `Σ_t w(t) · mean_m Σ_j H(s(m, i, t, j))`; an image with more doubtful objects is worth more.
- Disagreement: `Σ_t w(t) · (H(v̄) - mean_k H(v_k))` over the votes `v_k` on the phrase: the entropy of the consensus
  without that of its members. It is 0 for images that all models are equally unsure about, which are often ambiguous
  ones that a label cannot explain. The votes are those of the models' presence; a single model votes with its
  presence and with its best score.
- Diversity: distance of the image's features to the nearest labelled or selected image.

The first three have different units and distributions, which change with every data set and round. Each is therefore
replaced by its Savage score, `-ln(1 - q)` of its quantile `q`, which depends on the order of the images alone and,
unlike the quantile itself, separates the first images more than those in the middle. The gain is the mean of the
three. Images are selected one by one: the next one has the highest product of gain and distance, which no unit of
either changes. The selected image then counts as labelled: as a centre for the distance, and with `p̄` in `n(t)`, so
that one phrase does not fill the selection.

Sources:
    Settles 2009, "Active Learning Literature Survey": uncertainty sampling by entropy. Brust, Käding and Denzler 2018,
    "Active Learning for Deep Object Detection": sum over the detections of an image, and weights of rare classes.
    Seung, Opper and Sompolinsky 1992: query by committee; McCallum and Nigam 1998: divergence of the members from
    their consensus. Sener and Savarese 2018, "Active Learning for Convolutional Neural Networks: A Core-Set Approach":
    greedy k-centre. Savage 1956, "Contributions to the Theory of Rank Order Statistics".
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


PARTS = ("presence", "score", "disagreement")


@dataclass
class CommitteePredictions:
    """
    Predictions of M models for N images and T phrases.

    Attributes:
        presence (`np.ndarray` of shape `(M, N, T)`): Presence probabilities.
        best (`np.ndarray` of shape `(M, N, T)`): Highest score of a detection, 0 without one.
        entropy (`np.ndarray` of shape `(M, N, T)`): Sum of the binary entropies of the scores.
    """

    presence: np.ndarray
    best: np.ndarray
    entropy: np.ndarray

    @classmethod
    def collect(
        cls, phrases: Sequence[str], members: Iterable[Iterable[tuple[dict[str, float], dict[str, list[float]]]]]
    ) -> "CommitteePredictions":
        """
        Collect the predictions of all models.

        Args:
            phrases (`Sequence[str]`): The T phrases.
            members (`Iterable[Iterable[tuple]]`): For each model and image, presence and scores by phrase. A phrase
                that is not among them counts as absent.
        """
        values = np.array(
            [
                [
                    [_summarize(presence.get(text, 0.0), scores.get(text, ())) for text in phrases]
                    for presence, scores in images
                ]
                for images in members
            ],
            dtype=float,
        )
        return cls(values[..., 0], values[..., 1], values[..., 2])

    def compute_parts(self) -> dict[str, np.ndarray]:
        """Return the parts of [`PARTS`] before the sum over phrases, each of shape `(N, T)`."""
        mean = self.presence.mean(0)
        votes = self.presence if len(self.presence) > 1 else np.stack([self.presence[0], self.best[0]])
        disagreement = binary_entropy(votes.mean(0)) - binary_entropy(votes).mean(0)
        return {
            "presence": binary_entropy(mean),
            "score": self.entropy.mean(0),
            "disagreement": np.maximum(disagreement, 0.0),
        }


@dataclass
class RankedImage:
    """
    Unlabelled image with its scores at the time of its selection.

    Attributes:
        index (`int`): Index of the image.
        parts (`dict[str, float]`): Weighted sum of each part of [`PARTS`].
        distance (`float`): Distance of the features to the nearest labelled or selected image, divided by the median
            distance of all images; 1 if there is no such image.
        score (`float`): Product of gain and distance.
    """

    index: int
    parts: dict[str, float]
    distance: float
    score: float


def binary_entropy(probability: np.ndarray) -> np.ndarray:
    """Compute `-p·ln p - (1 - p)·ln(1 - p)`, 0 at both ends."""
    p = np.clip(probability, 1e-12, 1 - 1e-12)
    return np.where((probability <= 0) | (probability >= 1), 0.0, -p * np.log(p) - (1 - p) * np.log1p(-p))


def savage_scores(values: np.ndarray) -> np.ndarray:
    """
    Compute `-ln(1 - q)` of the quantile `q = (rank - 1/2) / N`; equal values have the mean of their ranks.

    Args:
        values (`np.ndarray` of shape `(N,)`): Values of a part.
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return -np.log1p(-(ranks[inverse] - 0.5) / max(len(values), 1))


def select_images(
    predictions: CommitteePredictions,
    number: int,
    *,
    phrase_counts: np.ndarray,
    features: np.ndarray | None = None,
    labelled_features: np.ndarray | None = None,
) -> list[RankedImage]:
    """
    Select the images to label next, most useful first.

    Args:
        predictions (`CommitteePredictions`): Predictions for the N unlabelled images.
        number (`int`): Number of images; all N if it is larger.
        phrase_counts (`np.ndarray` of shape `(T,)`): Number of labelled images that show each phrase.
        features (`np.ndarray` of shape `(N, C)`, *optional*): Pooled features of the unlabelled images; without them,
            all distances are 1.
        labelled_features (`np.ndarray` of shape `(L, C)`, *optional*): Those of the labelled images.

    Returns:
        `list[RankedImage]`: The selected images.
    """
    parts, mean = predictions.compute_parts(), predictions.presence.mean(0)
    counts, num_images = np.asarray(phrase_counts, dtype=float).copy(), mean.shape[0]
    distance, unit = _measure_distances(features, labelled_features, num_images)
    is_left, selected = np.ones(num_images, dtype=bool), []
    for _ in range(min(number, num_images)):
        weights = 1 / (1 + counts)
        sums = {name: part @ weights for name, part in parts.items()}
        score = np.mean([savage_scores(values) for values in sums.values()], axis=0) * distance / unit
        best = int(np.where(is_left, score, -1.0).argmax())
        of_image = {name: float(values[best]) for name, values in sums.items()}
        selected.append(RankedImage(best, of_image, float(distance[best] / unit), float(score[best])))
        is_left[best] = False
        counts += mean[best]
        if features is not None:
            distance = np.minimum(distance, np.linalg.norm(features - features[best], axis=1))
    return selected


def _measure_distances(
    features: np.ndarray | None, labelled: np.ndarray | None, number: int
) -> tuple[np.ndarray, float]:
    """Return the distance of each image to the nearest labelled one, and the median as the unit."""
    if features is None:
        return np.ones(number), 1.0
    centres = features.mean(0, keepdims=True) if labelled is None or not len(labelled) else labelled
    distance = np.full(number, np.inf)
    for centre in centres:
        distance = np.minimum(distance, np.linalg.norm(features - centre, axis=1))
    return distance, float(np.median(distance)) or 1.0


def _summarize(presence: float, scores: Iterable[float]) -> tuple[float, float, float]:
    """Return presence, best score and sum of the entropies of a phrase in an image."""
    values = np.asarray(list(scores), dtype=float)
    return presence, float(values.max(initial=0.0)), float(binary_entropy(values).sum())
