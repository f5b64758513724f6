"""Reference images: exemplar boxes in other images than those that are predicted."""

import hashlib
from dataclasses import asdict, dataclass, replace

from PIL import Image

from ..data.row_schema import to_rgb
from .exemplars import Exemplars, check_exemplars, clip_to_image
from .phrases import VISUAL, check_phrases


@dataclass
class ReferenceImage:
    """
    Image with exemplar boxes of one phrase, which are prompts for other images.

    Attributes:
        image (`PIL.Image.Image`): The image.
        exemplars (`Exemplars`): Boxes, at least one of them positive.
        phrase (`str`, *optional*): Phrase of the boxes. Default: the only phrase of the prediction, or "visual"
            without phrases.
        name (`str`): Name for errors, "reference" by default.
    """

    image: Image.Image
    exemplars: Exemplars
    phrase: str | None = None
    name: str = "reference"

    def __post_init__(self) -> None:
        self.image = to_rgb(self.image)
        check_exemplars(self.exemplars, self.name, self.image.size[::-1])
        if not any(self.exemplars.labels):
            raise ValueError(f"exemplars of {self.name!r}: all boxes are negative. Give at least one positive box")
        boxes = [list(clip_to_image(box, self.image.size[::-1])) for box in self.exemplars.boxes]
        self.exemplars = Exemplars(boxes, self.exemplars.labels)

    def describe(self) -> dict:
        """Describe pixels, boxes and phrase, to compare references of two predictions."""
        pixels = hashlib.sha256(self.image.tobytes()).hexdigest()[:16]
        return {"name": self.name, "pixels": pixels, "phrase": self.phrase, **asdict(self.exemplars)}


def assign_phrases(references: list[ReferenceImage], phrases: list[str]) -> dict[str, list[ReferenceImage]]:
    """
    Assign references to the phrases of a prediction.

    Args:
        references (`list[ReferenceImage]`): The references.
        phrases (`list[str]`): Phrases of the prediction; may be empty.

    Returns:
        `dict[str, list[ReferenceImage]]`: References of each phrase of the prediction, an empty list for a phrase
            without any. Without `phrases`, the phrases are those of the references, or "visual".

    Raises:
        `ValueError`: If there is no reference, or the phrase of a reference is missing or not among `phrases`.
    """
    if not references:
        raise ValueError("`exemplar_images` is empty; give at least one reference image")
    named = [reference.phrase for reference in references if reference.phrase is not None]
    texts = check_phrases(phrases or named) or [VISUAL]
    by_phrase: dict[str, list[ReferenceImage]] = {text: [] for text in texts}
    for reference in references:
        if reference.phrase is None and len(texts) > 1:
            raise ValueError(
                f"`exemplar_images`: {reference.name!r} has no phrase, but there are {len(texts)} phrases. Give it "
                f"one of {', '.join(texts)}"
            )
        text = texts[0] if reference.phrase is None else reference.phrase.strip()
        if text not in by_phrase:
            raise ValueError(
                f"`exemplar_images`: {reference.name!r} has the phrase {text!r}, which is not among `phrases`, "
                f"{', '.join(texts)}. Add it to `phrases`"
            )
        by_phrase[text].append(replace(reference, phrase=text))
    return by_phrase
