"""What is shown of each image, from JSON files: SAM 3's exemplar boxes, SAM 2's clicks and boxes."""

import itertools
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

from .sam3_predictor import Exemplars


UNNAMED = "object"  # what a prompt without a label names


@dataclass
class ObjectPrompt:
    """
    One object, shown to SAM 2.

    Attributes:
        points (`list[list[float]]`): `[x, y, 1]` in it, `[x, y, 0]` outside it, px of the image.
        box (`list[float]`, *optional*): `[x, y, w, h]` around it, px.
        label (`str`): what it is called in the results.
    """

    points: list[list[float]] = field(default_factory=list)
    box: list[float] | None = None
    label: str = UNNAMED


def check_prompts(prompts: list[ObjectPrompt], name: str, size: tuple[int, int]) -> None:
    """Raises `ValueError` for prompts that are none, or lie outside their image of height and width `size`; names image and object."""
    height, width = size
    for number, one in enumerate(prompts):

        def refuse(problem: str, number=number):
            raise ValueError(f"prompts of {name!r}, object {number}: {problem}")

        if not one.points and one.box is None:
            refuse("it has neither points nor a box; give at least one")
        for point in one.points:
            if not (
                isinstance(point, list | tuple)
                and len(point) == 3
                and all(map(_is_number, point))
                and point[2] in (0, 1)
            ):
                refuse(f"the point {point!r} is not [x, y, 1] (in the object) or [x, y, 0] (outside it)")
            if not (0 <= point[0] < width and 0 <= point[1] < height):
                refuse(f"the point {list(point)} lies outside the image of {width}×{height} px")
        if one.box is None:
            continue
        if not (
            isinstance(one.box, list | tuple)
            and len(one.box) == 4
            and all(map(_is_number, one.box))
            and min(one.box[2:]) > 0
        ):
            refuse(f"the box {one.box!r} is not [x, y, w, h] in px with an area")
        x, y, w, h = one.box
        if x >= width or y >= height or x + w <= 0 or y + h <= 0:
            refuse(f"the box {list(one.box)} lies outside the image of {width}×{height} px")


def read_prompts(file: str, files: dict[str, str]) -> dict[str, list[ObjectPrompt]]:
    """
    Prompts of SAM 2 from a JSON file `{"image": [{"points": [[x, y, 1], …], "box": [x, y, w, h], "label": "cat"}, …]}`, or from a COCO file, each
    annotation's `bbox` being a prompt and its category the label. An image is called by its name, with or without suffix.

    Raises:
        `ValueError`: naming file and entry.
    """
    content = _read(file, "prompt_file")
    if not isinstance(content, dict):
        raise ValueError(
            f'`prompt_file`: {file} holds a {type(content).__name__}; expected {{"image": [{{"box": [x, y, w, h]}}, …]}}'
        )
    if isinstance(content.get("images"), list) and isinstance(content.get("annotations"), list):
        return _of_coco(content, file, files)
    names, read = _Names(file, "prompt_file", files), {}
    for image, listed in content.items():
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise ValueError(
                f"`prompt_file`: {file}, {image!r} is {listed!r}; expected a list of objects with `points` or `box`"
            )
        for number, one in enumerate(listed):
            unknown = sorted(one.keys() - {"points", "box", "label"})
            if unknown:
                raise ValueError(
                    f"`prompt_file`: {file}, {image!r}, object {number} has {unknown[0]!r}; it may have points, box and label"
                )
        read[names.of(image)] = [
            ObjectPrompt(one.get("points") or [], one.get("box"), str(one.get("label") or UNNAMED)) for one in listed
        ]
    return read


def _of_coco(content: dict, file: str, files: dict[str, str]) -> dict[str, list[ObjectPrompt]]:
    """The boxes of a COCO file, of the images that are asked; one is that whose path ends most like the file's own."""

    def likeness(listed: str, path: str) -> int:
        pairs = zip(reversed(Path(listed).parts), reversed(Path(path).resolve().parts), strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

    try:
        labels = {one["id"]: one["name"] for one in content.get("categories", [])}
        listed = {one["id"]: str(one["file_name"]) for one in content["images"]}
        boxes = [
            (one["image_id"], one["bbox"], labels.get(one.get("category_id")))
            for one in content["annotations"]
            if not one.get("iscrowd")
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"`prompt_file`: {file} is no COCO file ({type(error).__name__}: {error})") from error
    by_name: dict[str, list] = {}
    for number, path in listed.items():
        by_name.setdefault(Path(path).name, []).append((number, path))
    meant: dict = {}  # id in the COCO file -> name
    for name, path in files.items():
        alike = sorted(
            ((likeness(own, path), number) for number, own in by_name.get(Path(path).name, [])),
            key=lambda pair: -pair[0],
        )
        if len(alike) > 1 and alike[0][0] == alike[1][0]:
            raise ValueError(
                f"`prompt_file`: {file} lists several images that may be {path}, such as {listed[alike[0][1]]!r} and {listed[alike[1][1]]!r}"
            )
        if alike and alike[0][1] in meant:
            raise ValueError(
                f"`prompt_file`: {file}: its image {listed[alike[0][1]]!r} may be {files[meant[alike[0][1]]]} or {path}; ask them apart"
            )
        if alike:
            meant[alike[0][1]] = name
    if not meant:
        raise ValueError(
            f"`prompt_file`: {file} names none of the images that are asked, such as {Path(min(files.values())).name}"
        )
    found: dict[str, list[ObjectPrompt]] = {name: [] for name in meant.values()}
    for number, box, label in boxes:
        if number in meant:
            found[meant[number]].append(ObjectPrompt(box=box, label=str(label or UNNAMED)))
    return found


def read_exemplars(file: str, files: dict[str, str]) -> dict[str, Exemplars]:
    """
    Exemplar boxes from a JSON file `{"image": [[x, y, w, h], [x, y, w, h, 0], …]}`, px; a fifth number 0 says "none such". An image is
    called by its name, with or without suffix.

    Raises:
        `ValueError`: naming file and entry.
    """
    content = _read(file, "exemplar_file")
    if not isinstance(content, dict):
        raise ValueError(
            f'`exemplar_file`: {file} holds a {type(content).__name__}; expected {{"image": [[x, y, w, h], …]}}'
        )
    names, read = _Names(file, "exemplar_file", files), {}
    for image, boxes in content.items():
        fine = isinstance(boxes, list) and all(
            isinstance(box, list) and len(box) in (4, 5) and all(map(_is_number, box)) for box in boxes
        )
        if not fine or not boxes:
            raise ValueError(f"`exemplar_file`: {file}, {image!r} is {boxes!r}; expected [[x, y, w, h], …] in px")
        read[names.of(image)] = Exemplars(
            [box[:4] for box in boxes], [int(box[4]) if len(box) == 5 else 1 for box in boxes]
        )
    return read


class _Names:
    """Finds the image that a file means."""

    def __init__(self, file: str, key: str, files: dict[str, str]):
        self.file, self.key, self.files = file, key, files
        self.places: dict[str, list[str]] = {}
        self.used: dict[str, str] = {}
        for name, path in files.items():
            for called in {name, Path(path).name, Path(path).stem}:
                self.places.setdefault(called, []).append(name)

    def of(self, image: str) -> str:
        named = [image] if image in self.files else self.places.get(image, [image])
        if len(named) > 1:
            raise ValueError(
                f"`{self.key}`: {self.file}, {image!r} may be {' or '.join(map(repr, named[:3]))}; say which"
            )
        if named[0] in self.used:
            raise ValueError(
                f"`{self.key}`: {self.file} names one image twice, {self.used[named[0]]!r} and {image!r}; put both together"
            )
        self.used[named[0]] = image
        return named[0]


def _read(file: str, key: str):
    try:
        return json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"`{key}`: {file} is no JSON file ({error})") from error


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
