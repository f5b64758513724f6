"""What is scored: one (image, phrase) pair with its truth and what a model found, the same for every metric."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from pycocotools import mask as coco_mask


SCORE = 0.5  # from which on a detection counts, and a presence says yes; as SA-Co's evaluator (`cgf1_eval.py`)


@dataclass
class Pair:
    """
    Attributes:
        image_id, phrase (`str`): what was asked of which image. size (`tuple[int, int]`): height and width, px.
        truth (`list[dict]`): COCO annotations with `bbox`, `iscrowd`, and `segmentation` where there is a mask.
        found (`list[dict]`): COCO results, best first, with `score`, `bbox`, `segmentation`.
        exhaustive (`bool`): whether all instances are labelled.
        presence (`float`, *optional*): probability that the phrase is in the image.
        others (`list[list[dict]]`): truths of further annotators, as `truth`.
    """

    image_id: int
    phrase: str
    size: tuple[int, int]
    truth: list[dict] = field(default_factory=list)
    found: list[dict] = field(default_factory=list)
    exhaustive: bool = True
    presence: float | None = None
    others: list[list[dict]] = field(default_factory=list)

    @property
    def objects(self) -> list[dict]:
        """The truth without crowds."""
        return [one for one in self.truth if not one.get("iscrowd")]

    @property
    def is_present(self) -> bool:
        return bool(self.objects)

    @property
    def is_absent(self) -> bool:
        """Known to be: nothing is labelled, no crowd either, and all would be."""
        return not self.truth and self.exhaustive

    def has(self, kind: str) -> bool:
        """Whether every object can be scored by `mask` or `box`."""
        return kind == "box" or all("segmentation" in one for one in self.objects)

    def kept(self, threshold: float = SCORE) -> list[dict]:
        return [one for one in self.found if one["score"] >= threshold]


def pairs_of(ground_truth: dict, results: Iterable[dict], presence: dict | None = None) -> list[Pair]:
    """
    Args:
        ground_truth (`dict`): of [`coco_ground_truth`]: its `pairs` say what was asked.
        results (`Iterable[dict]`): COCO results; those of no pair are left out.
        presence (`dict[tuple[int, int], float]`, *optional*): (image id, category id) -> probability.

    Returns:
        `list[Pair]`: in the order of `pairs`.
    """
    names = {category["id"]: category["name"] for category in ground_truth["categories"]}
    sizes = {image["id"]: (image["height"], image["width"]) for image in ground_truth["images"]}
    pairs = {}
    for asked in ground_truth["pairs"]:
        image, category = key = asked["image_id"], asked["category_id"]
        pairs[key] = Pair(image, names[category], sizes[image], exhaustive=asked["exhaustive"])
        pairs[key].presence = None if presence is None else presence.get(key)
    for annotation in ground_truth["annotations"]:
        pairs[annotation["image_id"], annotation["category_id"]].truth.append(annotation)
    _put(pairs, results, lambda result: (result["image_id"], result["category_id"]))
    return list(pairs.values())


def pairs_of_saco(ground_truths: list[dict], results: Iterable[dict]) -> list[Pair]:
    """
    Pairs of SA-Co files, in which an entry of `images` is an (image, phrase) pair.

    Args:
        ground_truths (`list[dict]`): a file's content for each annotator, with the same entries; entries that one of them calls not
            exhaustive are left out, as in `cgf1_eval.py`.
        results (`Iterable[dict]`): `image_id` is the entry's.
    """
    doubtful = {i["id"] for truth in ground_truths for i in truth["images"] if not i["is_instance_exhaustive"]}
    listed = []
    for truth in ground_truths:
        listed.append({})
        for annotation in truth["annotations"]:
            listed[-1].setdefault(annotation["image_id"], []).append(annotation)
    pairs = {}
    for entry in ground_truths[0]["images"]:
        if entry["id"] not in doubtful:
            first, *others = (truth.get(entry["id"], []) for truth in listed)
            size = (entry["height"], entry["width"])
            pairs[entry["id"]] = Pair(entry["id"], entry["text_input"], size, first, others=others)
    _put(pairs, results, lambda result: result["image_id"])
    return list(pairs.values())


def _put(pairs: dict, results: Iterable[dict], key_of) -> None:
    for result in results:
        if key_of(result) in pairs:
            pairs[key_of(result)].found.append(result)
    for pair in pairs.values():
        pair.found.sort(key=lambda result: -result["score"])


def overlaps(found: list[dict], truth: list[dict], kind: str) -> np.ndarray:
    """
    IoU of each detection with each object; with a crowd, the share of the detection that lies in it.

    Args:
        found, truth (`list[dict]`): with `bbox` `(x, y, w, h)`, or `segmentation`, an RLE. kind (`str`): `mask` or `box`.

    Returns:
        `np.ndarray` of shape `(len(found), len(truth))`.
    """
    if not found or not truth:
        return np.zeros((len(found), len(truth)))
    name = "segmentation" if kind == "mask" else "bbox"
    crowds = [int(one.get("iscrowd", 0)) for one in truth]
    return np.asarray(coco_mask.iou([one[name] for one in found], [one[name] for one in truth], crowds))


def by_phrase(pairs: Iterable[Pair]) -> dict[str, list[Pair]]:
    """Phrase -> its pairs."""
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.phrase, []).append(pair)
    return groups
