"""Prompt files in JSON: exemplar boxes and reference images of SAM 3, and clicks and boxes of SAM 2."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..utils.json_files import read_json_file
from .exemplars import Exemplars
from .references import ReferenceImage
from .tiling import open_trusted_image


UNNAMED = "object"  # label of a prompt without one


@dataclass
class ObjectPrompt:
    """
    Prompt for one object of SAM 2: clicks, a box, or both.

    Attributes:
        points (`list[list[float]]`): Clicks, px of the image: `[x, y, 1]` in the object, `[x, y, 0]` outside it.
        box (`list[float]`, *optional*): Box `[x, y, w, h]` around the object, px.
        label (`str`): Label of the object in the results, "object" by default.
    """

    points: list[list[float]] = field(default_factory=list)
    box: list[float] | None = None
    label: str = UNNAMED


def check_prompts(prompts: list[ObjectPrompt], name: str, size: tuple[int, int]) -> None:
    """
    Check the prompts of an image.

    Args:
        prompts (`list[ObjectPrompt]`): The prompts.
        name (`str`): Name of the image, for errors.
        size (`tuple[int, int]`): Height and width of the image, px.

    Raises:
        `ValueError`: If a prompt is malformed or lies outside the image; names image and object.
    """
    height, width = size
    for number, prompt in enumerate(prompts):

        def refuse(problem: str, number=number):
            raise ValueError(f"prompts of {name!r}, object {number}: {problem}")

        if not prompt.points and prompt.box is None:
            refuse("it has neither points nor a box; give at least one")
        for point in prompt.points:
            if not (
                isinstance(point, list | tuple)
                and len(point) == 3
                and all(map(_is_number, point))
                and point[2] in (0, 1)
            ):
                refuse(f"the point {point!r} is not [x, y, 1] (in the object) or [x, y, 0] (outside it)")
            if not (0 <= point[0] < width and 0 <= point[1] < height):
                refuse(f"the point {list(point)} lies outside the image of {width}×{height} px")
        if prompt.box is None:
            continue
        if not (
            isinstance(prompt.box, list | tuple)
            and len(prompt.box) == 4
            and all(map(_is_number, prompt.box))
            and min(prompt.box[2:]) > 0
        ):
            refuse(f"the box {prompt.box!r} is not [x, y, w, h] in px with an area")
        x, y, w, h = prompt.box
        if x >= width or y >= height or x + w <= 0 or y + h <= 0:
            refuse(f"the box {list(prompt.box)} lies outside the image of {width}×{height} px")


def read_prompts(file: str, files: dict[str, str]) -> dict[str, list[ObjectPrompt]]:
    """
    Read prompts of SAM 2 from a JSON file, or from a COCO file.

    The JSON file is `{"image": [{"points": [[x, y, 1], …], "box": [x, y, w, h], "label": "cat"}, …]}`, where an image
    is given by its name, with or without its suffix. In a COCO file the `bbox` of each annotation is a prompt, and its
    category the label.

    Args:
        file (`str`): The file.
        files (`dict[str, str]`): Image file by name.

    Returns:
        `dict[str, list[ObjectPrompt]]`: Prompts by image name.

    Raises:
        `ValueError`: If an entry is malformed or names no image; names file and entry.
    """
    content = _read_json(file, "prompt_file")
    if not isinstance(content, dict):
        raise ValueError(
            f"`prompt_file`: {file} contains a {type(content).__name__}; "
            'expected {"image": [{"box": [x, y, w, h]}, …]}'
        )
    if _is_coco(content):
        return _read_coco_prompts(content, file, files)
    names, prompts = _ImageNames(file, "prompt_file", files), {}
    for image, entries in content.items():
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(
                f"`prompt_file`: {file}, {image!r} is {entries!r}; expected a list of objects with `points` or `box`"
            )
        for number, entry in enumerate(entries):
            unknown = sorted(entry.keys() - {"points", "box", "label"})
            if unknown:
                raise ValueError(
                    f"`prompt_file`: {file}, {image!r}, object {number} has {unknown[0]!r}; "
                    "it may have points, box and label"
                )
        prompts[names.resolve(image)] = [
            ObjectPrompt(entry.get("points") or [], entry.get("box"), str(entry.get("label") or UNNAMED))
            for entry in entries
        ]
    return prompts


def _read_coco_prompts(content: dict, file: str, files: dict[str, str]) -> dict[str, list[ObjectPrompt]]:
    """Read the boxes of a COCO file; an image is matched by the longest common end of its path."""

    def count_common_parts(file_name: str, path: str) -> int:
        pairs = zip(reversed(Path(file_name).parts), reversed(Path(path).resolve().parts), strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

    try:
        labels = {category["id"]: category["name"] for category in content.get("categories", [])}
        file_names = {image["id"]: str(image["file_name"]) for image in content["images"]}
        boxes = [
            (annotation["image_id"], annotation["bbox"], labels.get(annotation.get("category_id")))
            for annotation in content["annotations"]
            if not annotation.get("iscrowd")
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"`prompt_file`: {file} is no COCO file ({type(error).__name__}: {error})") from error
    by_name: dict[str, list] = {}
    for image_id, file_name in file_names.items():
        by_name.setdefault(Path(file_name).name, []).append((image_id, file_name))
    matched: dict = {}  # name by the image id of the COCO file
    for name, path in files.items():
        candidates = sorted(
            ((count_common_parts(other, path), image_id) for image_id, other in by_name.get(Path(path).name, [])),
            key=lambda pair: -pair[0],
        )
        if len(candidates) > 1 and candidates[0][0] == candidates[1][0]:
            raise ValueError(
                f"`prompt_file`: {file} contains several images that may be {path}, such as "
                f"{file_names[candidates[0][1]]!r} and {file_names[candidates[1][1]]!r}. Use paths that differ"
            )
        if candidates and candidates[0][1] in matched:
            image_id = candidates[0][1]
            raise ValueError(
                f"`prompt_file`: {file}: its image {file_names[image_id]!r} may be {files[matched[image_id]]} or "
                f"{path}. Predict them in separate calls"
            )
        if candidates:
            matched[candidates[0][1]] = name
    if not matched:
        raise ValueError(
            f"`prompt_file`: {file} contains none of `images`, such as {Path(min(files.values())).name}. "
            "Check its `file_name` entries"
        )
    prompts: dict[str, list[ObjectPrompt]] = {name: [] for name in matched.values()}
    for image_id, box, label in boxes:
        if image_id in matched:
            prompts[matched[image_id]].append(ObjectPrompt(box=box, label=str(label or UNNAMED)))
    return prompts


def read_exemplars(file: str, files: dict[str, str]) -> dict[str, Exemplars]:
    """
    Read exemplar boxes from a JSON file `{"image": [[x, y, w, h], [x, y, w, h, 0], …]}`, px.

    A fifth number 0 marks a negative exemplar. An image is given by its name, with or without its suffix.

    Args:
        file (`str`): The file.
        files (`dict[str, str]`): Image file by name.

    Returns:
        `dict[str, Exemplars]`: Exemplars by image name.

    Raises:
        `ValueError`: If an entry is malformed or names no image; names file and entry.
    """
    content = _read_json(file, "exemplar_file")
    if not isinstance(content, dict):
        raise ValueError(
            f'`exemplar_file`: {file} contains a {type(content).__name__}; expected {{"image": [[x, y, w, h], …]}}'
        )
    names, exemplars = _ImageNames(file, "exemplar_file", files), {}
    for image, boxes in content.items():
        exemplars[names.resolve(image)] = _parse_exemplars(boxes, f"`exemplar_file`: {file}, {image!r}")
    return exemplars


def read_exemplar_images(file: str, targets: dict[str, str], channels: Sequence[int] = ()) -> list[ReferenceImage]:
    """
    Read reference images and their boxes from a JSON file, or from a COCO file.

    The JSON file is `{"pothole": {"a.jpg": [[x, y, w, h], …]}}`, or without a phrase `{"a.jpg": [[x, y, w, h], …]}`,
    with boxes as in [`read_exemplars`]. In a COCO file the phrases are the categories. Paths of images are relative to
    the folder of the file.

    Args:
        file (`str`): The file.
        targets (`dict[str, str]`): Files of the images to predict, by name.
        channels (`Sequence[int]`): Three channels of the images, from 1; see [`open_trusted_image`].

    Returns:
        `list[ReferenceImage]`: The references.

    Raises:
        `ValueError`: If there is no reference, an entry is malformed, an image cannot be read or is among `targets`,
            or a box lies outside its image; names file and entry.
    """
    content = _read_json(file, "exemplar_images")
    if not isinstance(content, dict) or not content:
        problem = f"contains a {type(content).__name__}" if content else "has no reference image"
        raise ValueError(f'`exemplar_images`: {file} {problem}; expected {{"phrase": {{"image": [[x, y, w, h], …]}}}}')
    content = _group_coco_boxes(content, file) if _is_coco(content) else content
    predicted = {Path(path).resolve(): path for path in targets.values()}
    references = []
    for key, value in content.items():
        phrase, images = (key, value) if isinstance(value, dict) else (None, {key: value})
        if not images:
            raise ValueError(f"`exemplar_images`: {file}, {phrase!r} has no reference image; give at least one")
        for name, boxes in images.items():
            exemplars = _parse_exemplars(boxes, f"`exemplar_images`: {file}, {name!r}")
            path = Path(file).parent / name
            if path.resolve() in predicted:
                raise ValueError(
                    f"`exemplar_images`: {file}, {name!r} is also among `images`. Leave it out of `images`, or give "
                    "its boxes in `exemplar_file`"
                )
            try:
                references.append(ReferenceImage(open_trusted_image(str(path), channels), exemplars, phrase, name))
            except ValueError as error:
                raise ValueError(f"`exemplar_images`: {file}: {error}") from error
    return references


def _is_coco(content: dict) -> bool:
    return isinstance(content.get("images"), list) and isinstance(content.get("annotations"), list)


def _group_coco_boxes(content: dict, file: str) -> dict[str, dict[str, list]]:
    """Group the boxes of a COCO file by category and image; crowds are left out."""
    grouped: dict[str, dict[str, list]] = {}
    try:
        names = {category["id"]: category["name"] for category in content["categories"]}
        file_names = {image["id"]: str(image["file_name"]) for image in content["images"]}
        for annotation in content["annotations"]:
            if not annotation.get("iscrowd"):
                images = grouped.setdefault(names[annotation["category_id"]], {})
                images.setdefault(file_names[annotation["image_id"]], []).append(annotation["bbox"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"`exemplar_images`: {file} is no COCO file: {error} is missing in it") from error
    if not grouped:
        raise ValueError(f"`exemplar_images`: {file} has no annotation; give at least one reference image")
    return grouped


def _parse_exemplars(boxes, where: str) -> Exemplars:
    """Parse the boxes of an image, `[x, y, w, h]` or `[x, y, w, h, label]`."""
    is_valid = isinstance(boxes, list) and all(
        isinstance(box, list) and len(box) in (4, 5) and all(map(_is_number, box)) and box[4:] in ([], [0], [1])
        for box in boxes
    )
    if not is_valid or not boxes:
        raise ValueError(
            f"{where} is {boxes!r}; expected [[x, y, w, h], …] in px, with 0 as a fifth number for a negative box"
        )
    return Exemplars([box[:4] for box in boxes], [int(box[4]) if len(box) == 5 else 1 for box in boxes])


class _ImageNames:
    """Image names as a prompt file may write them: the full name, the file name, or the file name without suffix."""

    def __init__(self, file: str, key: str, files: dict[str, str]):
        self.file, self.key, self.files = file, key, files
        self.candidates: dict[str, list[str]] = {}
        self.used: dict[str, str] = {}
        for name, path in files.items():
            for alias in {name, Path(path).name, Path(path).stem}:
                self.candidates.setdefault(alias, []).append(name)

    def resolve(self, image: str) -> str:
        names = [image] if image in self.files else self.candidates.get(image, [image])
        if len(names) > 1:
            raise ValueError(
                f"`{self.key}`: {self.file}, {image!r} may be {' or '.join(map(repr, names[:3]))}. Use the full name"
            )
        if names[0] in self.used:
            raise ValueError(
                f"`{self.key}`: {self.file} names one image twice, {self.used[names[0]]!r} and {image!r}. "
                "Merge both entries"
            )
        self.used[names[0]] = image
        return names[0]


def _read_json(file: str, key: str):
    return read_json_file(file, key, remedy="Pass a JSON file")


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
