"""Samples: inputs and targets of one image on the canvas of the model."""

from dataclasses import dataclass, field

import numpy as np
import torch

from ...ops.boxes import box_xyxy_to_cxcywh
from ..phrases.sampling import PromptedPhrase
from .canvas import draw_region, limit_masks, move_instance
from .transforms import Geometry


@dataclass
class SamplePhrase:
    """Phrase of a sample; `instances` are indices into its boxes, `ignore` into its crowd regions."""

    text: str
    instances: list[int]
    ignore: list[int]
    exhaustive: bool
    geometry_token: bool
    exemplar_cxcywh: list[float] | None = None


@dataclass
class ImageSample:
    """
    Image and instances of one row, on the canvas of side R.

    Attributes:
        example_id (`str`): Identifier of the row.
        original_size (`tuple[int, int]`): Height and width of the image, px.
        image (`torch.Tensor` of shape `(3, R, R)` or `None`): Pixels, uint8; `None` if `features` replaces them.
        boxes (`torch.Tensor` of shape `(N, 4)`): Normalised `(cx, cy, w, h)`, of the masks if there are any.
        masks (`torch.Tensor` of shape `(N, R, R)` or `None`): Masks, bool; zeros where `has_mask` is false.
        has_mask (`list[bool]` of length N): Whether each instance has a mask.
        instances (`list[int]` of length N): Index of each instance in the row.
        features (`torch.Tensor` or `None`): Cached features of the frozen image encoder.
    """

    example_id: str
    original_size: tuple[int, int]
    image: torch.Tensor | None
    boxes: torch.Tensor
    masks: torch.Tensor | None
    has_mask: list[bool]
    instances: list[int] = field(default_factory=list)
    features: torch.Tensor | None = None


@dataclass
class Sample(ImageSample):
    """
    [`ImageSample`] with prompted phrases.

    Attributes:
        ignore (`torch.Tensor` of shape `(C, R, R)` or `None`): Crowd regions, bool.
        phrases (`list[SamplePhrase]`): Labelled phrases.
        distill_phrases (`list[SamplePhrase]`): Unlabelled phrases for which the teacher predicts the targets.
    """

    ignore: torch.Tensor | None = None
    phrases: list[SamplePhrase] = field(default_factory=list)
    distill_phrases: list[SamplePhrase] = field(default_factory=list)


def place_instances(
    row: dict, instances: list[int], geometry: Geometry, *, with_masks: bool, min_visible: float, num_regions: int = 0
) -> ImageSample:
    """
    Move instances of a row onto the canvas; those that vanish (cropped away, or smaller than a pixel) are left out.

    Args:
        row (`dict`): A row as in `row_schema.py`; its image is not read.
        instances (`list[int]`): Indices of the instances.
        geometry (`Geometry`): Map from the image to the canvas.
        with_masks (`bool`): Decode masks; otherwise the sample has boxes alone.
        min_visible (`float`): Visible share below which an instance counts as vanished.
        num_regions (`int`): Number of further masks of the sample, for the memory limit.

    Raises:
        `ValueError`: If the masks of the row would take more than `MAX_MASK_BYTES`.
    """
    canvas = geometry.canvas
    limit_masks(row, (len(instances) if with_masks else 0) + num_regions, canvas)
    boxes: list = []
    has_mask, visible = [], []
    # One allocation of zeros: memory pages that no mask covers are never touched.
    masks = np.zeros((len(instances), canvas, canvas), dtype=bool) if with_masks else None
    for i in instances:
        box, is_mask = move_instance(row, i, geometry, None if masks is None else masks[len(boxes)], min_visible)
        if box is None:
            continue
        visible.append(i)
        boxes.append(box)
        has_mask.append(is_mask and with_masks)
    return ImageSample(
        example_id=row["example_id"],
        original_size=(row["height"], row["width"]),
        image=None,
        boxes=box_xyxy_to_cxcywh(torch.from_numpy(np.array(boxes, dtype=np.float32).reshape(-1, 4)) / canvas),
        masks=None if masks is None else torch.from_numpy(masks[: len(boxes)]),
        has_mask=has_mask,
        instances=visible,
    )


def make_sample(
    row: dict,
    prompted: list[PromptedPhrase],
    geometry: Geometry,
    with_masks: bool,
    min_visible: float,
    *,
    with_all_phrases: bool = False,
) -> Sample:
    """
    Build a sample without its image: move the instances of the prompted phrases onto the canvas.

    An instance that vanishes (cropped away, or smaller than a pixel) is removed from its phrase, which is then no
    longer exhaustive. A phrase without a visible instance is dropped because it is neither present nor absent.

    Args:
        row (`dict`): A row as in `row_schema.py`; its image is not read.
        prompted (`list[PromptedPhrase]`): Phrases of the sample.
        geometry (`Geometry`): Map from the image to the canvas.
        with_masks (`bool`): Decode masks; otherwise the sample has boxes alone.
        min_visible (`float`): Visible share below which an instance counts as vanished.
        with_all_phrases (`bool`): Keep phrases without a visible instance, for evaluation. Default: `False`.

    Raises:
        `ValueError`: If the masks of the row would take more than `MAX_MASK_BYTES`.
    """
    objects = sorted({i for phrase in prompted for i in phrase.instances})
    crowds = sorted({i for phrase in prompted for i in phrase.crowds})
    placed = place_instances(
        row, objects, geometry, with_masks=with_masks, min_visible=min_visible, num_regions=len(crowds)
    )
    regions = [draw_region(row, i, geometry) for i in crowds]
    sample = Sample(**vars(placed), ignore=torch.from_numpy(np.stack(regions)) if regions else None)
    object_index = {i: index for index, i in enumerate(sample.instances)}
    region_index = {i: index for index, i in enumerate(crowds)}
    phrases = (_move_phrase(phrase, object_index, region_index) for phrase in prompted)
    sample.phrases = [
        moved
        for moved, phrase in zip(phrases, prompted, strict=True)
        if moved.instances or not phrase.instances or with_all_phrases
    ]
    return sample


def _move_phrase(phrase: PromptedPhrase, object_index: dict[int, int], region_index: dict[int, int]) -> SamplePhrase:
    """Convert the indices of a phrase from those of the row to those of the sample, without vanished instances."""
    visible = [object_index[i] for i in phrase.instances if i in object_index]
    is_complete = len(visible) == len(phrase.instances)
    ignored = [region_index[i] for i in phrase.crowds]
    return SamplePhrase(phrase.text, visible, ignored, phrase.exhaustive and is_complete, geometry_token=True)
