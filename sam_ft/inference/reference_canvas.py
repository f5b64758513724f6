"""Canvas with references beside the target: composition, and the way back to the target's coordinates."""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from ..data.samples.transforms import Geometry
from ..models.outputs import PairPrediction
from .exemplars import Exemplars
from .references import ReferenceImage
from .tiling import View


MAX_REFERENCES = 5  # cells beside the target
_CONTEXT = 0.5  # margin around the boxes of a reference, as a share of the larger side of the rectangle around them
_MIN_INSIDE = 0.5  # share of its area with which a detection belongs to the target

ViewExemplars = list[tuple[list[float], int]]  # boxes `(cx, cy, w, h)` in `[0, 1]`, and labels


class ReferenceCanvas:
    """
    Square canvas in three rows and columns: the target fills two of each, the references the cells around it.

    Target and references keep their aspect ratio relative to each other. Borders lie on borders of ViT patches, so
    that the part of the mask logits that belongs to the target is cut out exactly.

    Args:
        resolution (`int`): Side of the canvas, px.
        patch (`int`): Side of a ViT patch, px.

    Attributes:
        target (`int`): Side of the target on the canvas, px.
        cell (`int`): Side of a cell, px.
    """

    def __init__(self, resolution: int, patch: int):
        self.resolution, self.cell = resolution, resolution // patch // 3 * patch
        self.target = resolution - self.cell

    def compose(self, view: View, references: list[ReferenceImage]) -> tuple[torch.Tensor, ViewExemplars]:
        """
        Place a view and references on one canvas.

        Args:
            view (`View`): The target.
            references (`list[ReferenceImage]`): At most `MAX_REFERENCES` references.

        Returns:
            `tuple[torch.Tensor, ViewExemplars]`: Canvas `(3, R, R)`, uint8, and the exemplars of the references on it.
        """
        target, cell = self.target, self.cell
        canvas = torch.zeros_like(view.canvas)
        shrunk = F.interpolate(
            view.canvas[None].float(), (target, target), mode="bilinear", align_corners=False, antialias=True
        )
        canvas[:, :target, :target] = shrunk[0].round().clamp(0, 255).to(torch.uint8)
        exemplars: ViewExemplars = []
        corners = ((target, 0), (0, target), (target, target), (target, cell), (cell, target))
        for (left, top), reference in zip(corners, references, strict=False):
            pixels, boxes = self._place(reference, view.window[2:])
            canvas[:, top : top + cell, left : left + cell] = torch.from_numpy(pixels)
            for (cx, cy, w, h), label in boxes:
                box = [(left + cx) / self.resolution, (top + cy) / self.resolution]
                exemplars.append(([*box, w / self.resolution, h / self.resolution], label))
        return canvas, exemplars

    def _place(self, reference: ReferenceImage, target: tuple[int, int]) -> tuple[np.ndarray, ViewExemplars]:
        """Fit the surroundings of the boxes into a cell; return its pixels, and boxes in px of the cell."""
        image = reference.image
        x, y, w, h = _surround(reference.exemplars, image.size)
        # canvas px per target px differ between the axes
        across, down = self.target / target[0], self.target / target[1]
        scale = min(self.cell / (w * across), self.cell / (h * down))
        width, height = (max(1, round(side)) for side in (w * across * scale, h * down * scale))
        geometry = Geometry((x, y, w, h), False, (0, 0, width, height), self.cell)
        boxes = [
            ([(bx + bw / 2 - x) * width / w, (by + bh / 2 - y) * height / h, bw * width / w, bh * height / h], label)
            for (bx, by, bw, bh), label in zip(reference.exemplars.boxes, reference.exemplars.labels, strict=True)
        ]
        return geometry.image(image), boxes

    def convert_exemplars(self, exemplars: ViewExemplars) -> ViewExemplars:
        """Convert exemplars of the target to coordinates of the canvas."""
        scale = self.target / self.resolution
        return [([value * scale for value in box], label) for box, label in exemplars]

    def cut_out_target(self, prediction: PairPrediction) -> PairPrediction:
        """
        Convert a prediction to coordinates of the target; detections outside it are dropped.

        Args:
            prediction (`PairPrediction`): Prediction of the canvas.

        Returns:
            `PairPrediction`: Prediction of the target. Its presence is that of the canvas.
        """
        boxes = prediction.boxes_xyxy * (self.resolution / self.target)
        clipped = boxes.clamp(0, 1)
        inside = _compute_areas(clipped) >= _MIN_INSIDE * _compute_areas(boxes)
        masks = prediction.masks
        if masks is not None:
            side = round(masks.shape[-1] * self.target / self.resolution)
            masks = masks[inside, :side, :side]
        return replace(prediction, scores=prediction.scores[inside], boxes_xyxy=clipped[inside], masks=masks)


def _surround(exemplars: Exemplars, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Compute the window `(x, y, w, h)` of an image around its boxes, with context."""
    lefts, tops, widths, heights = np.array(exemplars.boxes, dtype=float).T
    left, top, right, bottom = lefts.min(), tops.min(), (lefts + widths).max(), (tops + heights).max()
    margin = _CONTEXT * max(right - left, bottom - top)
    x, y = max(0, int(left - margin)), max(0, int(top - margin))
    return x, y, min(size[0], int(np.ceil(right + margin))) - x, min(size[1], int(np.ceil(bottom + margin))) - y


def _compute_areas(boxes: torch.Tensor) -> torch.Tensor:
    """Compute the areas of boxes `(n, 4)`, corners."""
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)
