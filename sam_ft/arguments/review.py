"""Keys of the label review."""

from typing import ClassVar

from ..options.review import ReviewOptions
from .base import Keys, with_keys_of


@with_keys_of(ReviewOptions)
class ReviewArguments(Keys):
    """Folds, findings and outputs of the label review."""

    key_topic: ClassVar[str] = "Review"
