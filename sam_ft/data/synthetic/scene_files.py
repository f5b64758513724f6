"""Synthetic scenes as data: endless rows drawn when asked for, or a COCO data set on disk."""

import contextlib
import hashlib
import itertools
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from datasets import IterableDataset

from ...ops.masks import mask_area, mask_box_xywh
from ..keyed_random import keyed_draws
from ..row_schema import FEATURES
from .scene_phrases import PLAIN_LEVELS, levels_of, scene_phrases
from .scenes import SceneOptions, check_choice, draw_scene


# ---- Rows, drawn when asked for


def scene_row(options: SceneOptions, split: str, index: int) -> dict:
    """
    Row `index` of an endless split (see `example.py`): always the same for the same options, whoever asks and when.

    Args:
        options (`SceneOptions`). split (`str`): `train`, `validation`: no scene is in two.
        index (`int`): from 0.
    """
    example_id = f"{split}-{index:09d}"
    rng = keyed_draws(options.seed, 0, example_id, "scene")
    plain = split == "train" and index < options.ramp and rng.random() < 1 - index / options.ramp
    image, things = draw_scene(rng, options.plain() if plain else options)
    size = options.height, options.width
    counts = [thing.rle() for thing in things]
    return {
        "example_id": example_id,
        "image": image,
        "width": options.width,
        "height": options.height,
        "instances": [
            {"bbox": mask_box_xywh(c, *size), "segmentation": c, "area": float(mask_area(c, *size)), "is_crowd": False}
            for c in counts
        ],
        "phrases": scene_phrases(things, rng, levels=PLAIN_LEVELS if plain else levels_of(options), world=options),
    }


class SceneRows:
    """
    Rows of a split, drawn when asked for, without a file: by index, so that a resumed run and every process draws only what it
    sees. A training run reads them in order (`in_order`), since shuffling what is never the same would only undo the ramp,
    and goes on behind the last in its next epoch (`row`).

    Args:
        options (`SceneOptions`), split (`str`): as in [`scene_row`].
        length (`int`): rows that count as one epoch.
    """

    in_order = True

    def __init__(self, options: SceneOptions, split: str, length: int):
        self.options, self.split, self.length = options, split, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        return self.row(index)

    def row(self, index: int) -> dict:
        """Any row of the endless split."""
        return scene_row(self.options, self.split, index)


_SHARD_ROWS = 256


def stream_scenes(options: SceneOptions, split: str = "train", *, num_rows: int = 2**24) -> IterableDataset:
    """
    The same rows, in the same order, as a `datasets.IterableDataset`, sixteen million of them if nobody stops. Shards of
    256 rows are shared by workers and nodes without doubling, and a `state_dict` resumes; what was seen of one shard is drawn
    again.
    """
    shards = [range(i, min(i + _SHARD_ROWS, num_rows)) for i in range(0, num_rows, _SHARD_ROWS)]
    return IterableDataset.from_generator(
        _stream, features=FEATURES, gen_kwargs={"options": options, "split": split, "shards": shards}
    )


def _stream(options: SceneOptions, split: str, shards: list[range]) -> Iterator[dict]:
    for index in itertools.chain(*shards):
        yield scene_row(options, split, index)


# ---- A COCO data set on disk


@dataclass
class SceneFiles:
    """
    A data set of scenes as files.

    Attributes:
        scenes (`SceneOptions`): what they look like.
        num_train, num_validation (`int`): images of the two splits.
        train_labels (`list[str]`, *optional*): shapes that the training split labels; the others are in its pictures
            unnamed, as in data of a person who cares for some things only. The validation split labels all.
    """

    scenes: SceneOptions = field(default_factory=SceneOptions)
    num_train: int = 20
    num_validation: int = 5
    train_labels: list[str] | None = None

    def __post_init__(self):
        if self.train_labels is not None:
            check_choice("train_labels", self.train_labels, self.scenes.shapes)


def write_shape_scenes(folder: str | Path, files: SceneFiles | None = None) -> Path:
    """
    Writes `annotations/instances_train.json`, `annotations/instances_val.json`, `train/` and `val/`.

    Categories are the shapes; each annotation also has a `noun_phrase` with its colour ("red circle"), so
    `phrase_source: both` trains attributes too. Masks are the visible parts, as compressed RLE.

    Args:
        folder (`str` or `Path`): written anew; what is there of the same names is replaced.
        files (`SceneFiles`, *optional*).

    Returns:
        `Path`: the folder.
    """
    files, folder = files or SceneFiles(), Path(folder)
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    counts = {"train": files.num_train, "val": files.num_validation}
    for split, count in counts.items():
        (folder / split).mkdir(exist_ok=True)
        text = json.dumps(_write_split(folder / split, split, count, files))
        (folder / "annotations" / f"instances_{split}.json").write_text(text, encoding="utf-8")
    return folder


def _write_split(folder: Path, split: str, count: int, files: SceneFiles) -> dict:
    options = files.scenes
    size = {"width": options.width, "height": options.height}
    labels = files.train_labels if split == "train" and files.train_labels is not None else options.shapes
    numbers = {shape: i for i, shape in enumerate(options.shapes, 1)}
    coco = {
        "info": {"description": "sam-ft synthetic shapes", "options": asdict(files)},
        "images": [],
        "annotations": [],
        "categories": [
            {"id": i, "name": shape, "supercategory": "shape"} for shape, i in numbers.items() if shape in labels
        ],
    }
    for image_id in range(1, count + 1):
        image, things = draw_scene(keyed_draws(options.seed, 0, f"{split}-{image_id}", "file"), options)
        name = f"{image_id:05d}.png"
        image.save(folder / name)
        coco["images"].append({"id": image_id, "file_name": name, **size})
        for thing in things:
            if thing.shape not in labels:
                continue
            counts = thing.rle()
            coco["annotations"].append(
                {
                    "id": len(coco["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": numbers[thing.shape],
                    "noun_phrase": f"{thing.color} {thing.shape}",
                    "segmentation": {"size": [options.height, options.width], "counts": counts},
                    "bbox": mask_box_xywh(counts, options.height, options.width),
                    "area": mask_area(counts, options.height, options.width),
                    "iscrowd": 0,
                }
            )
    return coco


def were_written_with(folder: str | Path, files: SceneFiles) -> bool:
    """Whether a folder contains the scenes of exactly these options."""
    file = Path(folder) / "annotations" / "instances_val.json"
    if not file.is_file():
        return False
    try:
        return json.loads(file.read_text(encoding="utf-8")).get("info", {}).get("options") == asdict(files)
    except ValueError:
        return False


def write_scenes_once(root: str | Path, files: SceneFiles) -> Path:
    """
    Write the scenes of these options into a folder of their own, unless they are there.

    The folder is named by a digest of the options and appears complete, so that runs at the same time share it or have another one.

    Args:
        root (`str` or `Path`): Folder of all sets of scenes.
        files (`SceneFiles`): Options of the scenes.

    Returns:
        `Path`: The folder of this set.

    Raises:
        `ValueError`: If the folder exists and contains something else.
    """
    options = json.dumps(asdict(files), sort_keys=True)
    folder = Path(root) / hashlib.blake2b(options.encode(), digest_size=6).hexdigest()
    if not folder.exists():
        Path(root).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".scenes-") as draft:
            written = write_shape_scenes(Path(draft) / "scenes", files)
            with contextlib.suppress(OSError):  # another process was faster
                written.rename(folder)
    if not were_written_with(folder, files):
        raise ValueError(
            f"`dataset_name`: {folder} should contain the synthetic scenes of these options and does not. Move it away, and they are written again"
        )
    return folder
