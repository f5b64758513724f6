"""Builders of the pictures of `..readers.trees` in every schema of the Hub; each returns the options to read it."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, Features, Image, List, Value

from sam_ft.ops.masks import polygons_to_counts

from ..readers.trees import DRAWN_OBJECTS, HEIGHT, NAMES, PICTURES, WIDTH, picture, save_pictures, write_json


IMAGES = [picture(seed) for seed in range(len(PICTURES))]
CLOSED = {
    ("first", name): (sorted(t.mask.tobytes() for t in DRAWN_OBJECTS if t.label == name), True) for name in NAMES
}
CLOSED |= {("second", name): ([], True) for name in NAMES}
POLYGONS = List(List(List(Value("float32"))))
BOXES = List(List(Value("float32"), length=4))


def save(folder: Path, columns: dict, features: Features | None = None, row_group: int | None = None) -> Path:
    (folder / "data").mkdir(parents=True)
    file = folder / "data" / "train-00000.parquet"
    Dataset.from_dict(columns, features=features).to_parquet(file, batch_size=row_group)
    return folder


def as_rows(columns: dict) -> list[dict]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def objects(labels, **more) -> list[dict]:
    """Return the column `objects`, with `labels(object)` as `category`."""
    columns = {
        "bbox": [[[1, 1, 5, 5] for _ in drawn_objects] for drawn_objects in PICTURES.values()],
        "segmentation": [[t.parts for t in drawn_objects] for drawn_objects in PICTURES.values()],
        "category": [[labels(t) for t in drawn_objects] for drawn_objects in PICTURES.values()],
    }
    return as_rows(columns | more)


def numbers(value, channels: int = 1) -> list[np.ndarray]:
    """Return a mask image of each picture, with `value(number, object)` in the pixels of an object."""
    maps = []
    for drawn_objects in PICTURES.values():
        values = np.zeros((HEIGHT, WIDTH, channels), dtype=np.uint8)
        for i, t in enumerate(drawn_objects, 1):
            values[t.mask] = value(i, t)
        maps.append(values if channels > 1 else values[..., 0])
    return maps


def labels_of_things() -> list[list[str]]:
    return [[t.label for t in drawn_objects] for drawn_objects in PICTURES.values()]


def masks_of_things() -> list[list[np.ndarray]]:
    return [[t.mask.astype(np.uint8) * 255 for t in drawn_objects] for drawn_objects in PICTURES.values()]


def rle(drawn_object) -> dict:
    return {"size": [HEIGHT, WIDTH], "counts": polygons_to_counts(drawn_object.parts, HEIGHT, WIDTH)}


def polygons(folder: Path) -> dict:
    features = Features(
        {
            "image": Image(),
            "objects": {"bbox": BOXES, "segmentation": POLYGONS, "category": List(ClassLabel(names=NAMES))},
        }
    )
    save(folder, {"image": IMAGES, "objects": objects(lambda t: NAMES.index(t.label))}, features)
    return {}


def list_of_structs(folder: Path) -> dict:
    save(folder, {"image": IMAGES, "objects": [as_rows(o) for o in objects(lambda t: t.label)]})
    return {}


def rles(folder: Path) -> dict:
    features = Features(
        {
            "image": Image(),
            "rles": List({"size": List(Value("int64")), "counts": Value("string")}),
            "labels": List(Value("string")),
        }
    )
    listed = [[rle(t) for t in drawn_objects] for drawn_objects in PICTURES.values()]
    save(folder, {"image": IMAGES, "rles": listed, "labels": labels_of_things()}, features)
    return {}


def rle_lists(folder: Path) -> dict:
    """Write RLEs as a struct of sizes and counts, in a column with a dot in its name."""
    features = Features(
        {
            "image": Image(),
            "inst.rles": {"size": List(List(Value("int32"))), "counts": List(Value("string"))},
            "categories": List(ClassLabel(names=NAMES)),
        }
    )
    listed = [
        {key: [rle(t)[key] for t in drawn_objects] for key in ("size", "counts")}
        for drawn_objects in PICTURES.values()
    ]
    labels = [[NAMES.index(label) for label in labels] for labels in labels_of_things()]
    save(folder, {"image": IMAGES, "inst.rles": listed, "categories": labels}, features)
    return {}


def mask_lists(folder: Path) -> dict:
    features = Features({"image": Image(), "masks": List(Image()), "labels": List(Value("string"))})
    save(folder, {"image": IMAGES, "masks": masks_of_things(), "labels": labels_of_things()}, features)
    return {}


def red_and_green(folder: Path) -> dict:
    """Write mask images with the class in red and the object in green, as in Transformers' example."""
    maps = numbers(lambda i, t: (1 + NAMES.index(t.label), i, 0), 3)
    ids = [{"background": 0, **{name: 1 + i for i, name in enumerate(NAMES)}}] * 2
    features = Features(
        {
            "image": Image(),
            "annotation": Image(),
            "semantic_class_to_id": {n: Value("int64") for n in ("background", *NAMES)},
        }
    )
    save(folder, {"image": IMAGES, "annotation": maps, "semantic_class_to_id": ids}, features)
    return {}


def panoptic(folder: Path) -> dict:
    """Write panoptic segments, with a background of stuff (a table)."""
    maps = numbers(lambda i, t: (7, i, 0), 3)
    maps[0][(maps[0] == 0).all(axis=-1)] = (9, 0, 0)
    segments = [
        [
            {"id": 7 + 256 * i, "category_id": NAMES.index(t.label), "isthing": True}
            for i, t in enumerate(drawn_objects, 1)
        ]
        for drawn_objects in PICTURES.values()
    ]
    segments[0].append({"id": 9, "category_id": 2, "isthing": False})
    segment = {"id": Value("int64"), "category_id": Value("int64"), "isthing": Value("bool")}
    features = Features({"image": Image(), "label": Image(), "segments_info": List(segment)})
    save(folder, {"image": IMAGES, "label": maps, "segments_info": segments}, features)
    write_json(folder / "id2label.json", dict(enumerate([*NAMES, "table"])))
    return {}


def class_maps(folder: Path) -> dict:
    features = Features({"pixel_values": Image(), "label": Image()})
    maps = numbers(lambda i, t: 1 + NAMES.index(t.label))
    save(folder, {"pixel_values": IMAGES, "label": maps}, features)
    write_json(folder / "id2label.json", {str(i): name for i, name in enumerate(NAMES, 1)})
    return {"mask_values": "components"}


def in_bytes(image, name: str | None = None) -> dict:
    """Return an image in the encoding of parquet files."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": name}


def phrase_rows(folder: Path, names: tuple[str, ...] = tuple(PICTURES), row_group: int = 1) -> dict:
    """Write one row for each phrase, `row_group` rows in a row group; the images have names."""
    features = Features({"image": Image(), "caption": Value("string"), "mask": List(Image())})
    columns = {name: [] for name in features}
    for image, name, drawn_objects in zip(IMAGES, names, PICTURES.values(), strict=True):
        for text in NAMES:
            columns["image"].append(in_bytes(image, f"{name}.png"))
            columns["caption"].append(text)
            columns["mask"].append([t.mask.astype(np.uint8) * 255 for t in drawn_objects if t.label == text])
    save(folder, columns, features, row_group=row_group)
    return {}


def foreign(folder: Path) -> dict:
    """Write a parquet file without `datasets`."""
    (folder / "data").mkdir(parents=True)
    contents = [in_bytes(image) for image in IMAGES]
    drawn = [[t.parts for t in drawn_objects] for drawn_objects in PICTURES.values()]
    table = pa.table({"image": contents, "label_names": labels_of_things(), "segmentation": drawn})
    pq.write_table(table, folder / "data" / "train.parquet", row_group_size=1)
    return {}


def image_folder(folder: Path) -> dict:
    save_pictures(folder / "train")
    lines = [
        json.dumps({"file_name": f"{name}.png", "objects": row})
        for name, row in zip(PICTURES, objects(lambda t: t.label), strict=True)
    ]
    (folder / "train" / "metadata.jsonl").write_text("\n".join(lines))
    return {}


def web_dataset(folder: Path) -> dict:
    """Write shards of images with JSON of SA-1B."""
    save_pictures(folder / "one")
    with tarfile.open(folder / "train-0000.tar", "w") as tar:
        for name, drawn_objects in PICTURES.items():
            annotations = [{"segmentation": rle(t), "bbox": [1.0, 1.0, 5.0, 5.0]} for t in drawn_objects]
            content = {"image": {"file_name": f"{name}.png"}, "annotations": annotations}
            tar.add(folder / "one" / f"{name}.png", f"{name}.png")
            tar.add(write_json(folder / "one" / f"{name}.json", content), f"{name}.json")
    for file in (folder / "one").iterdir():
        file.unlink()
    (folder / "one").rmdir()
    return {"class_name": "apple"}


MADE = {
    "polygons": polygons,
    "list_of_structs": list_of_structs,
    "rles": rles,
    "rle_lists": rle_lists,
    "mask_lists": mask_lists,
    "red_and_green": red_and_green,
    "panoptic": panoptic,
    "class_maps": class_maps,
    "phrase_rows": phrase_rows,
    "foreign": foreign,
    "image_folder": image_folder,
    "web_dataset": web_dataset,
}
