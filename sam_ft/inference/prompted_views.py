"""Views with their prompts: phrases, exemplar boxes in the image, and references in other images."""

from dataclasses import dataclass, field

import torch

from .exemplars import Exemplars, convert_exemplars_to_view
from .phrases import VISUAL
from .reference_canvas import ReferenceCanvas, ViewExemplars
from .references import ReferenceImage
from .tiling import View, Views


@dataclass
class PreparedReferences:
    """
    References, prepared for a model.

    Attributes:
        by_phrase (`dict[str, list[ReferenceImage]]`): References of each phrase of the prediction; may be empty lists.
        tokens (`dict[str, torch.Tensor]`): Exemplar tokens `(M, C)` by phrase; empty with `canvas`.
        canvas (`ReferenceCanvas`, *optional*): Canvas on which references are placed beside the target.
    """

    by_phrase: dict[str, list[ReferenceImage]] = field(default_factory=dict)
    tokens: dict[str, torch.Tensor] = field(default_factory=dict)
    canvas: ReferenceCanvas | None = None

    def pad_tokens(self, texts: list[str]) -> dict[str, torch.Tensor]:
        """
        Pad the exemplar tokens of phrases to one length.

        Args:
            texts (`list[str]` of length T): The phrases.

        Returns:
            `dict[str, torch.Tensor]`: `reference_tokens (T, M, C)` and `reference_mask (T, M)` of a batch; empty if no
                phrase has tokens.
        """
        tokens = [self.tokens.get(text) for text in texts]
        first = next((t for t in tokens if t is not None), None)
        if first is None:
            return {}
        rows = [first.new_zeros(0, first.shape[1]) if t is None else t for t in tokens]
        lengths = torch.tensor([len(row) for row in rows], device=first.device)
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        mask = torch.arange(padded.shape[1], device=first.device) < lengths[:, None]
        return {"reference_tokens": padded, "reference_mask": mask}


@dataclass
class PromptedView:
    """
    Input of the model: a view with its prompts, alone or beside references.

    Attributes:
        views (`Views`): The image.
        view (`View`): One of its views.
        pixels (`torch.Tensor` of shape `(3, R, R)`): Pixels of the view, or of the canvas with references; uint8.
        phrases (`list[str]`): Phrases.
        exemplars (`ViewExemplars`): Exemplar boxes in `pixels` that are added to each phrase.
        canvas (`ReferenceCanvas`, *optional*): Layout of `pixels` with references.
    """

    views: Views
    view: View
    pixels: torch.Tensor
    phrases: list[str]
    exemplars: ViewExemplars
    canvas: ReferenceCanvas | None = None


def prompt_view(
    views: Views, view: View, phrases: list[str], exemplars: Exemplars | None, references: PreparedReferences
) -> list[PromptedView]:
    """
    Build the inputs of a view: the view with all phrases, and a canvas for each phrase with references.

    Args:
        views (`Views`): The image.
        view (`View`): One of its views.
        phrases (`list[str]`): Phrases. Without phrases, the phrase is `VISUAL` if the view contains a positive
            exemplar.
        exemplars (`Exemplars`, *optional*): Exemplars of the image.
        references (`PreparedReferences`): References.
    """
    boxes = convert_exemplars_to_view(exemplars, views, view)
    if not phrases and any(label for _, label in boxes):
        phrases = [VISUAL]
    beside = [text for text in phrases if references.canvas is not None and references.by_phrase.get(text)]
    inputs = []
    if len(beside) < len(phrases) or not phrases:
        alone = [text for text in phrases if text not in beside]
        inputs.append(PromptedView(views, view, view.canvas, alone, boxes))
    for text in beside:
        canvas = references.canvas
        pixels, on_canvas = canvas.compose(view, references.by_phrase[text])
        inputs.append(PromptedView(views, view, pixels, [text], on_canvas + canvas.convert_exemplars(boxes), canvas))
    return inputs
