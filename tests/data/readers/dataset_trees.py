"""Builders of the two pictures of `trees.py` in layouts of tools and benchmarks; each returns the options to read it."""

from pathlib import Path

import numpy as np
from PIL import Image

from sam_ft.data.readers.brush_rle import encode_brush_rle
from sam_ft.ops.masks import polygons_to_counts

from .trees import DRAWN_OBJECTS, HEIGHT, NAMES, PICTURES, WIDTH, box_of, save_pictures, write_json


def label_studio(folder: Path) -> dict:
    """Write an export with polygons, a brush for the object with two parts, a choice of the image and a prediction."""
    save_pictures(folder / "images")
    tasks = []
    for number, (name, drawn_objects) in enumerate(PICTURES.items(), 1):
        (folder / "images" / f"{name}.png").rename(folder / "images" / f"0a1b2c3{number}-{name}.png")
        results = [region(t, i) for i, t in enumerate(drawn_objects)]
        results.append({"id": "c", "type": "choices", "from_name": "light", "value": {"choices": ["day"]}})
        annotation = {"id": number, "was_cancelled": False, "result": results, "updated_at": "2026-01-02T00:00:00Z"}
        data = {"image": f"/data/upload/4/0a1b2c3{number}-{name}.png"}
        tasks.append({"id": number, "data": data, "annotations": [annotation], "predictions": [{"result": []}]})
    write_json(folder / "project-4-at-2026-01-02.json", tasks)
    return {}


def region(drawn_object, number: int) -> dict:
    result = {
        "id": f"r{number}",
        "from_name": "label",
        "to_name": "image",
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
    }
    if len(drawn_object.parts) == 1:
        points = np.reshape(drawn_object.parts[0], (-1, 2)) / [WIDTH, HEIGHT] * 100
        value = {"points": points.tolist(), "closed": True, "polygonlabels": [drawn_object.label]}
        return result | {"type": "polygonlabels", "value": value}
    value = {"format": "rle", "rle": encode_brush_rle(drawn_object.mask), "brushlabels": [drawn_object.label]}
    return result | {"type": "brushlabels", "value": value}


def coco_panoptic(folder: Path) -> dict:
    """Write a panoptic file whose stuff fills the background of the first picture."""
    save_pictures(folder / "train2017", ".png")
    (folder / "annotations" / "panoptic_train2017").mkdir(parents=True)
    annotations = []
    for number, (name, drawn_objects) in enumerate(PICTURES.items(), 1):
        ids, segments = np.zeros((HEIGHT, WIDTH), int), []
        if drawn_objects:
            ids[:] = 99
            segments.append({"id": 99, "category_id": 200, "iscrowd": 0})
        for i, t in enumerate(drawn_objects, 1):
            ids[t.mask] = 70_001 * i
            category = 1 + NAMES.index(t.label)
            area, box = int(t.mask.sum()), box_of(t)
            segments.append({"id": 70_001 * i, "category_id": category, "iscrowd": 0, "bbox": box, "area": area})
        rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
        Image.fromarray(rgb).save(folder / "annotations" / "panoptic_train2017" / f"{name}.png")
        annotations.append({"image_id": number, "file_name": f"{name}.png", "segments_info": segments})
    images = [
        {"id": i, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT} for i, name in enumerate(PICTURES, 1)
    ]
    categories = [{"id": i, "name": name, "isthing": 1} for i, name in enumerate(NAMES, 1)]
    categories.append({"id": 200, "name": "sky", "isthing": 0})
    write_json(
        folder / "annotations" / "panoptic_train2017.json",
        {"images": images, "annotations": annotations, "categories": categories},
    )
    return {}


def cityscapes(folder: Path) -> dict:
    """Write a file of polygons for each picture, on a road and behind the own vehicle."""
    place = save_pictures(folder / "leftImg8bit" / "train" / "town")
    for name in PICTURES:
        (place / f"{name}.png").rename(place / f"{name}_leftImg8bit.png")
    for name, drawn_objects in PICTURES.items():
        objects = [{"label": "road", "polygon": [[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]]}]
        for t in drawn_objects:
            objects += [{"label": t.label, "polygon": outline(part)} for part in t.parts]
        objects.append({"label": "ego vehicle", "polygon": [[30, 28], [39, 28], [39, 29], [30, 29]]})
        content = {"imgWidth": WIDTH, "imgHeight": HEIGHT, "objects": objects if drawn_objects else objects[:1]}
        write_json(folder / "gtFine" / "train" / "town" / f"{name}_gtFine_polygons.json", content)
    return {}


def outline(part: list[float]) -> list[list[int]]:
    """Return the pixels at both ends of each row of a part, a polygon that Pillow fills with the pixels of the part."""
    mask = type(DRAWN_OBJECTS[0])("", [part], {}).mask
    rows = [(int(y), np.flatnonzero(mask[y])) for y in np.flatnonzero(mask.any(axis=1))]
    return [[int(xs[0]), y] for y, xs in rows] + [[int(xs[-1]), y] for y, xs in reversed(rows)]


def isat(folder: Path) -> dict:
    save_pictures(folder / "images")
    for name, drawn_objects in PICTURES.items():
        objects = [
            {
                "category": t.label,
                "group": i,
                "layer": float(i),
                "segmentation": np.reshape(part, (-1, 2)).tolist(),
                "area": 1.0,
                "bbox": None,
                "iscrowd": False,
                "note": "",
            }
            for i, t in enumerate(drawn_objects, 1)
            for part in t.parts
        ]
        info = {"description": "ISAT", "folder": "elsewhere", "name": f"{name}.png"}
        info |= {"width": WIDTH, "height": HEIGHT, "depth": 3, "note": ""}
        write_json(folder / "labels" / f"{name}.json", {"info": info, "objects": objects})
    return {}


def datumaro(folder: Path) -> dict:
    """Write an export with a mask, a polygon of two parts and a polygon with its box."""
    save_pictures(folder / "images" / "train")
    items = []
    for name, drawn_objects in PICTURES.items():
        annotations = [{"id": 0, "type": "caption", "caption": "fruit", "group": 0}]
        for group, t in enumerate(drawn_objects, 1):
            entry = {"label_id": NAMES.index(t.label), "group": group, "attributes": t.attributes, "z_order": 0}
            if group == 1:
                rle = {"counts": polygons_to_counts(t.parts, HEIGHT, WIDTH), "size": [HEIGHT, WIDTH]}
                annotations.append(entry | {"type": "mask", "rle": rle})
            else:
                annotations += [entry | {"type": "polygon", "points": part} for part in t.parts]
                annotations.append(entry | {"type": "bbox", "bbox": box_of(t)})
        image = {"path": f"{name}.png", "size": [HEIGHT, WIDTH]}
        items.append({"id": name, "annotations": annotations, "image": image})
    labels = [{"name": name, "parent": "", "attributes": []} for name in NAMES]
    categories = {"label": {"labels": labels, "label_groups": [], "attributes": []}}
    content = {"dm_format_version": "1.0", "media_type": 2, "infos": {}, "categories": categories, "items": items}
    write_json(folder / "annotations" / "train.json", content)
    return {}


DATASET_TREES = {
    "label_studio": label_studio,
    "coco_panoptic": coco_panoptic,
    "cityscapes": cityscapes,
    "isat": isat,
    "datumaro": datumaro,
}
