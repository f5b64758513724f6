"""Other programs' results in COCO's format, checked before they are scored."""

import json
import math
from pathlib import Path

from ..ops.masks import polygons_to_counts, rle_to_counts


def read_results(file: str, truth: dict) -> list[dict]:
    """
    Results of pairs that were asked; of others nobody knows what is right.

    Args:
        file (`str`): a JSON list. truth (`dict`): of [`coco_ground_truth`].

    Raises:
        `ValueError`: naming file, record and field.
    """

    def refuse(record: str, problem: str):
        raise ValueError(f"`compare`: {file}, {record}: {problem}")

    try:
        results = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"`compare`: {file} is not JSON ({error})") from error
    if not isinstance(results, list):
        refuse("the whole file", "expected a list of COCO results")
    sizes = {one["id"]: (one["height"], one["width"]) for one in truth["images"]}
    categories = {one["id"] for one in truth["categories"]}
    for i, one in enumerate(results):
        if not isinstance(one, dict) or not _is_box(one.get("bbox")) or not _is_number(one.get("score")):
            refuse(f"result {i}", "expected image_id, category_id, a score, bbox [x, y, w, h] in px, and segmentation")
        for key, known in (("image_id", sizes), ("category_id", categories)):
            if one.get(key) not in known:
                shown = ", ".join(map(str, sorted(known)[:6]))
                refuse(f"result {i}", f"`{key}` is {one.get(key)!r}; the evaluation has {shown}, …")
        if "segmentation" in one:
            try:
                height, width = sizes[one["image_id"]]
                one["segmentation"] = {
                    "size": [height, width],
                    "counts": _counts_of(one["segmentation"], height, width),
                }
            except (ValueError, TypeError, KeyError) as error:
                refuse(f"result {i}", f"`segmentation` cannot be read ({error})")
    asked = {(pair["image_id"], pair["category_id"]) for pair in truth["pairs"]}
    return [one for one in results if (one["image_id"], one["category_id"]) in asked]


def _counts_of(segmentation, height: int, width: int) -> str:
    if isinstance(segmentation, dict):
        return rle_to_counts(segmentation, height, width)
    return polygons_to_counts(segmentation, height, width)


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_box(value) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))
