"""Benchmark of data loading: rows per second of CPU time, against the official package's loader on the same files.

    python benchmarks/data.py                            # scenes of 640×480, eight objects each, JPEG
    python benchmarks/data.py --folder path/to/coco      # a COCO tree with annotations/instances_train*.json

A row is an image with all its phrases and masks, decoded, resized to a random square of 480 to 992 px, padded to
1008 px and collated alone. Both loaders return every category, without flips and colour changes. One process, one
thread.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

from benchmarks.measure import device_name, seconds  # noqa: E402
from sam_ft.data.loading import load_phrase_dataset  # noqa: E402
from sam_ft.data.readers.coco_tree import find_coco_splits  # noqa: E402
from sam_ft.data.row_schema import open_image_value, to_rgb  # noqa: E402
from sam_ft.data.samples.collators import Sam3Collator  # noqa: E402
from sam_ft.data.samples.pipeline import TrainingSamples  # noqa: E402
from sam_ft.data.samples.sample import make_sample  # noqa: E402
from sam_ft.data.samples.transforms import OFFICIAL_SIDES, Geometry, jitter_colors  # noqa: E402
from sam_ft.data.synthetic.scene_files import write_shape_scenes  # noqa: E402
from sam_ft.models.processors import load_processor  # noqa: E402
from sam_ft.options.augmentation import TransformOptions  # noqa: E402
from sam_ft.options.data import (
    DatasetOptions,  # noqa: E402
    ReadOptions,  # noqa: E402
)
from sam_ft.options.phrases import (
    PhraseOptions,  # noqa: E402
    PromptOptions,  # noqa: E402
)
from sam_ft.options.scenes import (  # noqa: E402
    ALL_SHAPES,
    SceneFiles,  # noqa: E402
    SceneOptions,
)


RESOLUTION, ROUNDS = 1008, 3


def write_photos(folder: Path, number: int = 24) -> Path:
    """Write scenes in the size and the format of photographs.

    Args:
        folder (`Path`): Folder of the COCO tree.
        number (`int`): Number of scenes.
    """
    scenes = SceneOptions(width=640, height=480, shapes=list(ALL_SHAPES), min_shapes=8, max_shapes=8)
    write_shape_scenes(folder, SceneFiles(scenes, num_train=number, num_validation=1))
    for file in (folder / "train").glob("*.png"):
        Image.open(file).save(file.with_suffix(".jpg"), quality=90)
        file.unlink()
    annotations = folder / "annotations" / "instances_train.json"
    annotations.write_text(annotations.read_text().replace(".png", ".jpg"))
    return folder


def our_loader(folder: Path) -> tuple[Callable[[int], object], TrainingSamples]:
    """Build this package's loader of one row by index, and its samples."""
    rows = load_phrase_dataset(DatasetOptions(str(folder)), ReadOptions()).train
    samples = TrainingSamples(
        rows,
        seed=0,
        phrases=PhraseOptions(negatives_per_image=1000, max_phrases_per_image=1000),
        transforms=TransformOptions(RESOLUTION, flip_probability=0.0, color_jitter=0.0),
        prompts=PromptOptions(),
    )
    collator = Sam3Collator(load_processor("sam-ft/tiny").tokenizer)
    return lambda index: collator([samples[(0, index)]]), samples


def official_loader(folder: Path) -> Callable[[int], object]:
    """Build the `sam3` package's loader of one row by index."""
    from sam3.train.data.coco_json_loaders import COCO_FROM_JSON
    from sam3.train.data.collator import collate_fn_api
    from sam3.train.data.sam3_image_dataset import Sam3ImageDataset
    from sam3.train.transforms import basic_for_api as basic
    from sam3.train.transforms.filter_query_transforms import FilterCrowds, FlexibleFilterFindGetQueries
    from sam3.train.transforms.segmentation import DecodeRle

    files = find_coco_splits(folder)["train"]
    transforms = basic.ComposeAPI(
        [
            FlexibleFilterFindGetQueries(FilterCrowds()),
            DecodeRle(),
            basic.RandomResizeAPI(list(OFFICIAL_SIDES), consistent_transform=False, square=True),
            basic.PadToSizeAPI(RESOLUTION, consistent_transform=False),
            basic.ToTensorAPI(),
            basic.NormalizeAPI(mean=[0.5] * 3, std=[0.5] * 3),
        ]
    )
    dataset = Sam3ImageDataset(
        img_folder=str(files.image_folders[0]),
        ann_file=str(files.annotation_file),
        transforms=[transforms],
        max_ann_per_img=500,
        multiplier=1,
        training=True,
        load_segmentation=True,
        max_train_queries=1000,
        use_caching=False,
        coco_json_loader=COCO_FROM_JSON,
    )
    return lambda index: collate_fn_api([dataset[index]], dict_key="all", with_seg_masks=True)


def rows_per_second(loaders: list[Callable[[int], object]], number: int, rounds: int = ROUNDS) -> list[float]:
    """Measure the rows per second of CPU time of each loader.

    Args:
        loaders (`list[Callable[[int], object]]`): Loaders of one row by index. They take turns row by row.
        number (`int`): Rows of a round; the first round is the warm-up.
        rounds (`int`): Rounds after it.
    """
    times = [0.0] * len(loaders)
    for round_ in range(rounds + 1):
        for index in range(number):
            for i, load in enumerate(loaders):
                begin = time.process_time()
                load(index)
                times[i] += (time.process_time() - begin) * (round_ > 0)
    return [rounds * number / time_ for time_ in times]


def time_of_steps(samples: TrainingSamples, number: int) -> dict[str, float]:
    """Measure the milliseconds of CPU time per row of each step of loading."""
    from sam_ft.data.phrases.sampling import all_phrases

    spent = dict.fromkeys(["decoding the image", "resizing it", "masks and boxes"], 0.0)
    light = samples.rows.remove_columns("image")
    for index in range(number):
        row = light[index]
        geometry = samples._geometry(row, 0)
        begin = time.process_time()
        image = to_rgb(samples.rows[index]["image"])
        spent["decoding the image"] += time.process_time() - begin
        begin = time.process_time()
        geometry.image(image)
        spent["resizing it"] += time.process_time() - begin
        begin = time.process_time()
        make_sample(row, all_phrases(row), geometry, True, 0.1)
        spent["masks and boxes"] += time.process_time() - begin
    return {name: 1000 * seconds / number for name, seconds in spent.items()}


def compare(folder: Path, number: int = 24, rounds: int = ROUNDS) -> dict[str, float]:
    """Measure both loaders on the same files with one thread.

    Args:
        folder (`Path`): COCO tree.
        number (`int`): Rows of a round, at most.
        rounds (`int`): Measured rounds.

    Returns:
        `dict[str, float]`: Rows per second of both loaders, their ratio, and ms of each step of ours.
    """
    torch.set_num_threads(1)
    random.seed(0)
    ours, samples = our_loader(folder)
    number = min(len(samples), number)
    rate, official_rate = rows_per_second([ours, official_loader(folder)], number, rounds)
    steps = {f"{step} ms": milliseconds for step, milliseconds in time_of_steps(samples, number).items()}
    return {"ours rows/s": rate, "official rows/s": official_rate, "ratio": rate / official_rate, **steps}


def time_of_drafts(folder: Path, width: int = 4032, height: int = 3024, jitter: float = 0.2) -> dict[str, float]:
    """Measure the image of a large JPEG on the canvas, decoded whole and with `draft_decoding`.

    Args:
        folder (`Path`): Folder of the JPEG, smooth waves with noise.
        width (`int`): Width of the image, px.
        height (`int`): Height of the image, px.
        jitter (`float`): `color_jitter`.

    Returns:
        `dict[str, float]`: Milliseconds of CPU time of both, their ratio, and the mean difference of their pixels in
            grey levels.
    """
    y, x = np.indices((height, width), dtype=np.float32)
    waves = np.stack([1 + np.sin(y / 40) * np.cos(x / 60), 1 + np.cos(y / 25), 1 + np.sin((x + y) / 33)], -1)
    noise = np.random.default_rng(0).normal(0, 6, waves.shape)
    Image.fromarray((127 * waves + noise).clip(0, 255).astype(np.uint8)).save(folder / "large.jpg", quality=92)
    geometry = Geometry((0, 0, width, height), False, (0, 0, 736, 736), RESOLUTION)

    def load(max_reduction):
        image = open_image_value(str(folder / "large.jpg"), max_reduction)
        reduction = round(width / image.width)
        return geometry.image(jitter_colors(to_rgb(image), np.random.default_rng(0), jitter), reduction)

    difference = np.abs(load(1.0).astype(int) - load(geometry.reduction))[:, :736, :736].mean()
    calls = (lambda: load(1.0)), (lambda: load(geometry.reduction))
    whole, draft = seconds(*calls, repeats=3, clock=time.process_time)
    return {"ms whole": 1000 * whole, "ms draft": 1000 * draft, "ratio": whole / draft, "grey levels": difference}


def main():
    """Print the rows per second of both loaders, and the time of each step of ours."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="a COCO tree")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        result = compare(Path(args.folder) if args.folder else write_photos(Path(name) / "photos"))
        print(f"{device_name()}, one thread")
        for key, value in result.items():
            print(f"  {key}: {value:.1f}")
        for jitter in (0.2, 0.0):
            drafts = [f"{key} {value:.1f}" for key, value in time_of_drafts(Path(name), jitter=jitter).items()]
            print(f"JPEG of 12 megapixels, color_jitter {jitter}: {', '.join(drafts)}")


if __name__ == "__main__":
    main()
