"""
Builders of the same two pictures in every layout; each returns the options to read it.

The first picture has three objects of two classes, one of them with two parts; the second has no object.
"""

import base64
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sam_ft.ops.masks import decode_mask, polygons_to_counts


WIDTH, HEIGHT = 40, 30
NAMES = ["apple", "pear"]


@dataclass
class DrawnObject:
    """
    Object of a picture.

    Attributes:
        label (`str`): Class name.
        parts (`list[list[float]]`): Polygons `[x1, y1, …]`, px.
        attributes (`dict[str, str]`): Attributes, such as `{"color": "red"}`.
    """

    label: str
    parts: list[list[float]]
    attributes: dict[str, str]

    @property
    def mask(self) -> np.ndarray:
        return decode_mask(polygons_to_counts(self.parts, HEIGHT, WIDTH), HEIGHT, WIDTH)


DRAWN_OBJECTS = [
    DrawnObject("apple", [[2, 2, 10, 2, 10, 12, 2, 12]], {"color": "red", "ripeness": "ripe"}),
    DrawnObject(
        "apple", [[15, 4, 25, 4, 25, 14, 15, 14], [28, 4, 34, 4, 34, 10]], {"color": "green", "ripeness": "ripe"}
    ),
    DrawnObject("pear", [[5, 18, 20, 18, 20, 28, 5, 28]], {"color": "green"}),
]
PICTURES = {"first": DRAWN_OBJECTS, "second": []}


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def save_pictures(folder: Path, suffix: str = ".png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(PICTURES):
        picture(seed).save(folder / f"{name}{suffix}")
    return folder


def write_json(file: Path, content) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def yolo(folder: Path) -> dict:
    save_pictures(folder / "train" / "images")
    (folder / "train" / "labels").mkdir()
    lines = []
    for drawn_object in DRAWN_OBJECTS:
        # A line of YOLO has one polygon, so each part is an object.
        for part in drawn_object.parts:
            values = [v / (HEIGHT if i % 2 else WIDTH) for i, v in enumerate(part)]
            lines.append(" ".join(map(repr, [NAMES.index(drawn_object.label), *values])))
    (folder / "train" / "labels" / "first.txt").write_text("\n".join(lines))
    (folder / "train" / "labels" / "second.txt").write_text("")
    (folder / "data.yaml").write_text(f"train: ../train/images\nval: ../valid/images\nnames: {NAMES}\n")
    return {}


def yolo_classes(folder: Path) -> dict:
    """Write an export of Label Studio, which has classes.txt and notes.json instead of data.yaml."""
    yolo(folder)
    for name in ("images", "labels"):
        (folder / "train" / name).rename(folder / name)
    (folder / "train").rmdir()
    (folder / "data.yaml").unlink()
    (folder / "classes.txt").write_text("\n".join(NAMES) + "\n")
    write_json(folder / "notes.json", {"categories": [{"id": i, "name": name} for i, name in enumerate(NAMES)]})
    return {}


def labelme(folder: Path) -> dict:
    save_pictures(folder)
    for name, drawn_objects in PICTURES.items():
        shapes = [
            {"label": t.label, "points": np.reshape(part, (-1, 2)).tolist(), "shape_type": "polygon", "group_id": i}
            for i, t in enumerate(drawn_objects)
            for part in t.parts
        ]
        content = {
            "shapes": shapes,
            "imagePath": f"{name}.png",
            "imageData": None,
            "imageWidth": WIDTH,
            "imageHeight": HEIGHT,
        }
        write_json(folder / f"{name}.json", content)
    return {}


def labelme_inside(folder: Path) -> dict:
    """Write LabelMe files with embedded pictures, and masks instead of polygons."""
    for seed, (name, drawn_objects) in enumerate(PICTURES.items()):
        shapes = [
            {"label": t.label, "points": [[0, 0], [WIDTH, HEIGHT]], "shape_type": "mask", "mask": png(t.mask)}
            for t in drawn_objects
        ]
        content = {"shapes": shapes, "imagePath": f"{name}.png", "imageData": png(np.asarray(picture(seed)))}
        write_json(folder / f"{name}.json", content)
    return {}


def png(values: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(values.astype(np.uint8) * (255 if values.dtype == bool else 1)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def via(folder: Path) -> dict:
    save_pictures(folder / "train")
    entries = {}
    for name, drawn_objects in PICTURES.items():
        regions = {
            str(i): {
                "shape_attributes": {"name": "polygon", "all_points_x": part[::2], "all_points_y": part[1::2]},
                "region_attributes": {"fruit": label},
            }
            for i, (label, part) in enumerate((t.label, part) for t in drawn_objects for part in t.parts)
        }
        entries[f"{name}.png123"] = {"filename": f"{name}.png", "size": 123, "regions": regions, "file_attributes": {}}
    write_json(folder / "train" / "via_region_data.json", entries)
    return {}


def via2(folder: Path) -> dict:
    """Write a saved project of VIA 2: a list of regions, with a second attribute."""
    via(folder)
    entries = json.loads((folder / "train" / "via_region_data.json").read_text())
    for entry in entries.values():
        entry["regions"] = list(entry["regions"].values())
        for region in entry["regions"]:
            region["region_attributes"] |= {"quality": {"good": True, "hidden": False}}
    write_json(folder / "train" / "via_region_data.json", {"_via_settings": {}, "_via_img_metadata": entries})
    return {"class_attribute": "fruit"}


def cvat(folder: Path) -> dict:
    save_pictures(folder / "images")
    images = []
    for number, (name, drawn_objects) in enumerate(PICTURES.items()):
        shapes = ""
        for t in drawn_objects:
            ys, xs = np.nonzero(t.mask)
            piece = t.mask[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
            flat = np.concatenate([[False], piece.ravel()])
            edges = np.flatnonzero(flat[1:] != flat[:-1])
            runs = np.diff([0, *edges, piece.size]).tolist()
            shapes += (
                f'<mask label="{t.label}" left="{xs.min()}" top="{ys.min()}" '
                f'width="{piece.shape[1]}" height="{piece.shape[0]}" '
                f'rle="{", ".join(map(str, runs))}"><attribute name="color">{t.attributes["color"]}</attribute></mask>'
            )
        images.append(f'<image id="{number}" name="{name}.png" width="{WIDTH}" height="{HEIGHT}">{shapes}</image>')
    labels = "".join(f"<label><name>{name}</name></label>" for name in NAMES)
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    text = f'<?xml version="1.0"?><annotations>{meta}{"".join(images)}</annotations>'
    (folder / "annotations.xml").write_text(text)
    return {}


def polygons(folder: Path) -> dict:
    save_pictures(folder / "train" / "images")
    for name, drawn_objects in PICTURES.items():
        instances = [
            {"instance_id": i, "label": t.label, "segmentation": {"polygon": t.parts}, "attributes": t.attributes}
            for i, t in enumerate(drawn_objects)
        ]
        content = {"image_id": name, "width": WIDTH, "height": HEIGHT, "instances": instances}
        write_json(folder / "train" / "annotations" / f"{name}.json", content)
    return {}


def sa1b(folder: Path) -> dict:
    save_pictures(folder)
    for name, drawn_objects in PICTURES.items():
        annotations = [
            {"segmentation": {"size": [HEIGHT, WIDTH], "counts": polygons_to_counts(t.parts, HEIGHT, WIDTH)}}
            for t in drawn_objects
        ]
        image = {"file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT}
        write_json(folder / f"{name}.json", {"image": image, "annotations": annotations})
    return {"class_name": "apple"}


def mask_files(folder: Path) -> dict:
    for seed, (name, drawn_objects) in enumerate(PICTURES.items()):
        (folder / name / "images").mkdir(parents=True)
        (folder / name / "masks").mkdir()
        picture(seed).save(folder / name / "images" / f"{name}.png")
        for i, t in enumerate(drawn_objects):
            Image.fromarray(t.mask.astype(np.uint8) * 255).save(folder / name / "masks" / f"{i}.png")
    return {"class_name": "apple"}


def mask_values(folder: Path) -> dict:
    """Write 16-bit mask images, which a reader must not truncate to 8 bits."""
    save_pictures(folder / "PNGImages")
    (folder / "PedMasks").mkdir()
    for name, drawn_objects in PICTURES.items():
        values = np.zeros((HEIGHT, WIDTH), dtype=np.uint16)
        for i, t in enumerate(drawn_objects):
            values[t.mask] = 300 + i
        Image.fromarray(values).save(folder / "PedMasks" / f"{name}_mask.png")
    return {"class_name": "apple", "mask_values": "instances"}


def class_masks(folder: Path) -> dict:
    save_pictures(folder / "images")
    (folder / "masks").mkdir()
    for name, drawn_objects in PICTURES.items():
        values = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        for t in drawn_objects:
            values[t.mask] = 1 + NAMES.index(t.label)
        Image.fromarray(values).save(folder / "masks" / f"{name}.png")
    write_json(folder / "id2label.json", {str(i): name for i, name in enumerate(NAMES, 1)})
    return {"mask_values": "components"}


def lvis(folder: Path) -> dict:
    save_pictures(folder / "train2017", ".jpg")
    images = [
        {
            "id": i,
            "coco_url": f"http://images/train2017/{name}.jpg",
            "width": WIDTH,
            "height": HEIGHT,
            "neg_category_ids": [3] * (i == 1),
            "not_exhaustive_category_ids": [1] * (i == 1),
        }
        for i, name in enumerate(PICTURES, 1)
    ]
    annotations = [
        {
            "id": i,
            "image_id": 1,
            "category_id": 1 + NAMES.index(t.label),
            "segmentation": t.parts,
            "bbox": box_of(t),
            "area": 1,
        }
        for i, t in enumerate(DRAWN_OBJECTS, 1)
    ]
    categories = [{"id": i, "name": name} for i, name in enumerate([*NAMES, "plum"], 1)]
    write_json(
        folder / "annotations" / "lvis_v1_train.json",
        {"images": images, "annotations": annotations, "categories": categories},
    )
    return {}


def box_of(drawn_object) -> list[float]:
    ys, xs = np.nonzero(drawn_object.mask)
    return [float(v) for v in (xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1)]


def saco(folder: Path) -> dict:
    save_pictures(folder / "images")
    entries, annotations = [], []
    for number, (name, text) in enumerate((n, t) for n in PICTURES for t in (*NAMES, "plum")):
        exhaustive = int(text != "pear")
        entries.append(
            {
                "id": number,
                "file_name": f"{name}.png",
                "text_input": text,
                "width": WIDTH,
                "height": HEIGHT,
                "is_instance_exhaustive": exhaustive,
            }
        )
        for t in PICTURES[name]:
            if t.label == text:
                rle = {"size": [HEIGHT, WIDTH], "counts": polygons_to_counts(t.parts, HEIGHT, WIDTH)}
                annotations.append(
                    {
                        "id": len(annotations),
                        "image_id": number,
                        "segmentation": rle,
                        "bbox": [v / side for v, side in zip(box_of(t), [WIDTH, HEIGHT] * 2, strict=True)],
                        "category_id": 1,
                    }
                )
    write_json(
        folder / "annotations" / "gold_merged_a_release_test.json",
        {"images": entries, "annotations": annotations, "categories": []},
    )
    return {}


TREES = {
    "yolo": yolo,
    "yolo_classes": yolo_classes,
    "labelme": labelme,
    "labelme_inside": labelme_inside,
    "via": via,
    "via2": via2,
    "cvat": cvat,
    "polygons": polygons,
    "sa1b": sa1b,
    "mask_files": mask_files,
    "mask_values": mask_values,
    "class_masks": class_masks,
    "lvis": lvis,
    "saco": saco,
}
