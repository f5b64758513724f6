"""Builders of data that are hard to convert without loss; each returns the options to read it."""

from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from sam_ft.ops.masks import polygons_to_counts
from sam_ft.options.phrases import PhraseMap

from ..readers.trees import DRAWN_OBJECTS, HEIGHT, WIDTH, box_of, picture, save_pictures, write_json


PHRASES = ["t-shirt", "bat (animal)", "Traffic_Light", "_background_", "void", "a/b", "café"]


def _write_coco(folder: Path, images: list[dict], annotations: list[dict], names: list[str], split: str = "train"):
    content = {
        "images": images,
        "annotations": [{"id": i, "iscrowd": 0, **annotation} for i, annotation in enumerate(annotations, 1)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names, 1)],
    }
    write_json(folder / "annotations" / f"instances_{split}.json", content)


def _image(number: int, name: str, size: tuple[int, int] = (WIDTH, HEIGHT), **fields) -> dict:
    return {"id": number, "file_name": name, "width": size[0], "height": size[1], **fields}


def unusual_phrases(folder: Path) -> dict:
    """Write phrases that a normalizer would change or leave out."""
    save_pictures(folder / "train")
    names = [f"c{i}" for i, _ in enumerate(PHRASES)]
    annotations = [
        {"image_id": 1, "category_id": 1 + i, "segmentation": DRAWN_OBJECTS[i % 3].parts}
        for i in range(len(names) - 1)
    ]
    _write_coco(folder, [_image(1, "first.png"), _image(2, "second.png")], annotations, names)
    return {"phrase_map": PhraseMap(dict(zip(names, PHRASES, strict=True)))}


def shared_instances(folder: Path) -> dict:
    """Write objects of several phrases, two objects with the same mask, and noun phrases without absences."""
    save_pictures(folder / "train")
    annotations = [
        {"image_id": 1, "category_id": 1 + i % 2, "segmentation": t.parts, "noun_phrase": text}
        for i, (t, text) in enumerate(
            [(DRAWN_OBJECTS[0], "red fruit"), (DRAWN_OBJECTS[0], "red fruit"), (DRAWN_OBJECTS[2], "big-fruit")]
        )
    ]
    _write_coco(folder, [_image(1, "first.png"), _image(2, "second.png")], annotations, ["apple", "pear"])
    return {"phrase_source": "both", "noun_phrases": "open"}


def crowds_and_boxes(folder: Path) -> dict:
    """Write crowd regions alone in one split; boxes without a mask, one of them tiny, in the other."""
    for split in ("train", "val"):
        save_pictures(folder / split)
    images = [_image(1, "first.png"), _image(2, "second.png")]
    rle = {"size": [HEIGHT, WIDTH], "counts": polygons_to_counts(DRAWN_OBJECTS[0].parts, HEIGHT, WIDTH)}
    _write_coco(
        folder,
        images,
        [
            {"image_id": 1, "category_id": 1, "segmentation": rle, "iscrowd": 1},
            {"image_id": 2, "category_id": 1, "segmentation": DRAWN_OBJECTS[2].parts},
        ],
        ["apple", "pear"],
    )
    boxes = [[0.0, 0.0, 1.0, 1.0], box_of(DRAWN_OBJECTS[2]), [1.3, 2.7, 10.1, 11.9]]
    _write_coco(
        folder, images, [{"image_id": 1, "category_id": 2, "bbox": b} for b in boxes], ["apple", "pear"], "val"
    )
    return {}


def rotated_tiff(folder: Path) -> dict:
    """Write a TIFF file with an EXIF rotation, whose listed size is that of the upright image."""
    (folder / "train").mkdir(parents=True)
    image = picture(0)
    exif = image.getexif()
    exif[ExifTags.Base.Orientation] = 6
    for name in ("a.tif", "b.jpg", "c.png"):
        image.save(folder / "train" / name, exif=exif)
    images = [_image(i, name, (HEIGHT, WIDTH)) for i, name in enumerate(("a.tif", "b.jpg", "c.png"), 1)]
    part = [1, 1, 9, 1, 9, 35, 1, 35]
    _write_coco(
        folder, images, [{"image_id": i, "category_id": 1, "segmentation": [part]} for i in (1, 2, 3)], ["cat"]
    )
    return {}


def image_names(folder: Path) -> dict:
    """Write images with sub-folders, equal names, other formats and unusual characters."""
    names = ["b/0.jpg", "a/0.jpg", "a/0.tif", "a/0-1.png", "a/IMG_1.JPG", "a/two words é.webp", "a/x.png"]
    for number, name in enumerate(names):
        (folder / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / "train" / name)
    deep = np.arange(WIDTH * HEIGHT, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 50
    Image.fromarray(deep).save(folder / "train" / "a" / "x.png")
    images = [_image(100 + i, name) for i, name in enumerate(names)]
    shapes = [{"image_id": i["id"], "category_id": 1, "segmentation": DRAWN_OBJECTS[0].parts} for i in images]
    _write_coco(folder, images, shapes, ["cat"])
    return {}


CONVERSION_TREES = {
    "unusual_phrases": unusual_phrases,
    "shared_instances": shared_instances,
    "crowds_and_boxes": crowds_and_boxes,
    "rotated_tiff": rotated_tiff,
    "image_names": image_names,
}
