"""Tiny SAM 3 and SAM 2 models and random batches for tests, without a download, in seconds on the CPU."""

import numpy as np
import torch

from .data.samples.collators import tokenize_phrases
from .data.samples.object_prompts import collate_prompts, draw_prompts
from .models.loading import load_model
from .models.processors import load_processor
from .models.sam3.config import TINY_SIDE
from .ops.prompts import padding_exemplars
from .options.model import ModelOptions
from .options.model_names import RANDOM_TINY, RANDOM_TINY_SAM2
from .options.objects import ClickOptions


def tiny_sam3(**options):
    """Build an untrained SAM 3 of 1.8 M parameters; keyword arguments as in [`ModelOptions`]."""
    return load_model(ModelOptions(RANDOM_TINY, **options))


def tiny_sam2(**options):
    """Build an untrained SAM 2 of 1.0 M parameters; keyword arguments as in [`ModelOptions`]."""
    return load_model(ModelOptions(RANDOM_TINY_SAM2, **options))


def random_prompts(
    objects: list[int],
    *,
    resolution: int = TINY_SIDE,
    rounds: int = 1,
    mixed: bool = False,
    mask_prompts: bool = False,
    seed: int = 0,
) -> dict:
    """
    Build a batch of noise images with rectangular objects, in the format of SAM 2's collator.

    Args:
        objects (`list[int]`): Number of objects of each image.
        resolution (`int`): Side of the square images, px.
        rounds (`int`): Rounds of prompts, default 1.
        mixed (`bool`): Prompt every other image with boxes and the others with one click, default false.
        mask_prompts (`bool`): Also prompt the first image with masks, default false.
        seed (`int`): Random seed, default 0.

    Returns:
        `dict`: Arguments of [`Sam2ForPromptSegmentation.forward`].
    """
    rng = np.random.default_rng(seed)
    labels, prompts = [], []
    for image, number in enumerate(objects):
        masks = np.zeros((number, resolution, resolution), dtype=bool)
        for mask in masks:
            x, y = rng.integers(0, resolution * 3 // 4, size=2)
            w, h = rng.integers(resolution // 8, resolution // 2, size=2)
            mask[y : y + h, x : x + w] = True
        options = ClickOptions(
            "box" if mixed and image % 2 else "point",
            mask_prompt_probability=float(mask_prompts and image == 0),
            n_rounds=rounds,
        )
        prompts.append(draw_prompts(masks, rng, options))
        labels.append({"masks": torch.from_numpy(masks), "example_id": f"noise-{image}"})
    pixels = rng.integers(0, 256, (len(objects), 3, resolution, resolution), dtype=np.uint8)
    return {"pixel_values": torch.from_numpy(pixels), "prompts": collate_prompts(prompts), "labels": labels}


def random_batch(
    pairs: list[tuple[int, str, int]],
    *,
    resolution: int = TINY_SIDE,
    instances_per_image: int = 4,
    seed: int = 0,
    exemplars: bool = False,
) -> dict:
    """
    Build a batch of noise images in the format of SAM 3's collator.

    Args:
        pairs (`list[tuple[int, str, int]]`): (image, phrase, number of instances) of each pair.
        resolution (`int`): Side of the square images, px.
        instances_per_image (`int`): Minimum number of distinct instances per image, default 4.
        seed (`int`): Random seed, default 0.
        exemplars (`bool`): Add one exemplar box to every other pair, default false.

    Returns:
        `dict`: Arguments of [`Sam3ForConceptSegmentation.forward`].
    """
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.rand(*shape, generator=generator)

    num_images = 1 + max(image for image, _, _ in pairs)
    phrases = list(dict.fromkeys(phrase for _, phrase, _ in pairs))
    tokens = tokenize_phrases(load_processor(RANDOM_TINY).tokenizer, phrases)
    labels = []
    for image in range(num_images):
        count = max([instances_per_image, *(n for i, _, n in pairs if i == image)])
        labels.append(
            {**_random_instances(count, resolution, rand), "example_id": f"noise-{image}", "phrases": phrases}
        )
    boxes, box_labels = padding_exemplars(len(pairs))
    if exemplars:
        boxes[::2, 0] = torch.cat([0.3 + 0.4 * rand(len(boxes[::2]), 2), 0.2 + 0.2 * rand(len(boxes[::2]), 2)], -1)
        box_labels[::2] = 1
    return {
        "pixel_values": (256 * rand(num_images, 3, resolution, resolution)).to(torch.uint8),
        "input_ids": tokens.input_ids,
        "attention_mask": tokens.attention_mask,
        "pair_image": [image for image, _, _ in pairs],
        "pair_phrase": [phrases.index(phrase) for _, phrase, _ in pairs],
        "input_boxes": boxes,
        "input_boxes_labels": box_labels,
        "geometry_token": torch.ones(len(pairs), dtype=torch.bool),
        "pair_instances": [list(range(n)) for _, _, n in pairs],
        "pair_ignore": [[] for _ in pairs],
        "pair_exhaustive": [True for _ in pairs],
        "labels": labels,
    }


def _random_instances(count: int, resolution: int, rand) -> dict:
    """Draw labels of rectangular instances."""
    centre, size = 0.25 + 0.5 * rand(count, 2), 0.1 + 0.3 * rand(count, 2)
    grid = (torch.arange(resolution) + 0.5) / resolution
    inside = [((grid - centre[:, k, None]).abs() < size[:, k, None] / 2) for k in (0, 1)]
    return {
        "boxes": torch.cat([centre, size], -1),
        "masks": inside[1][:, :, None] & inside[0][:, None, :],
        "has_mask": [True] * count,
        "ignore": None,
    }
