"""Builders of the two pictures of `trees.py` as exports of annotation platforms; each returns the options to read it."""

import base64
import io
import json
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from .trees import HEIGHT, NAMES, PICTURES, WIDTH, save_pictures, write_json


def supervisely(folder: Path) -> dict:
    """Write a project with polygons, a bitmap for the object with two parts, and a tag of each image."""
    save_pictures(folder / "train" / "img")
    classes = [{"title": name, "shape": "any", "color": "#FF0000"} for name in NAMES]
    write_json(folder / "meta.json", {"classes": classes, "tags": [{"name": "outside", "value_type": "none"}]})
    for name, drawn_objects in PICTURES.items():
        objects = []
        for t in drawn_objects:
            tags = [{"name": key, "value": value} for key, value in t.attributes.items()]
            entry = {"classTitle": t.label, "tags": tags}
            if len(t.parts) == 1:
                points = {"exterior": np.reshape(t.parts[0], (-1, 2)).tolist(), "interior": []}
                objects.append(entry | {"geometryType": "polygon", "points": points})
            else:
                objects.append(entry | {"geometryType": "bitmap", "bitmap": bitmap(t.mask)})
        content = {"description": "", "tags": [{"name": "outside", "value": None}], "objects": objects}
        content["size"] = {"width": WIDTH, "height": HEIGHT}
        write_json(folder / "train" / "ann" / f"{name}.png.json", content)
    return {}


def bitmap(mask: np.ndarray) -> dict:
    """Encode a mask as Supervisely does: a palette PNG whose first colour is transparent."""
    ys, xs = np.nonzero(mask)
    image = Image.fromarray(mask[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].astype(np.uint8))
    image.putpalette([0, 0, 0, 255, 255, 255])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=0, optimize=0)
    data = base64.b64encode(zlib.compress(buffer.getvalue())).decode()
    return {"origin": [int(xs.min()), int(ys.min())], "data": data}


def darwin(folder: Path) -> dict:
    """Write a dataset of `darwin-py`: polygons, and a mask in a raster layer for the object with two parts."""
    save_pictures(folder / "images")
    for name, drawn_objects in PICTURES.items():
        annotations, numbers, mapping = [{"id": "t", "name": "outside", "tag": {}}], np.zeros((HEIGHT, WIDTH), int), {}
        for i, t in enumerate(drawn_objects):
            entry = {"id": f"a{i}", "name": t.label, "slot_names": ["0"], "attributes": [t.attributes["color"]]}
            if len(t.parts) == 1:
                entry["polygon"] = {"paths": [to_points(t.parts[0])]}
            else:
                entry["mask"] = {}
                mapping[entry["id"]] = i
                numbers[t.mask] = i
            annotations.append(entry)
        if mapping:
            flat = numbers.ravel()
            starts = np.flatnonzero(np.diff(flat, prepend=-1))
            rle = np.stack([flat[starts], np.diff([*starts, flat.size])], axis=1).ravel().tolist()
            layer = {"dense_rle": rle, "mask_annotation_ids_mapping": mapping, "total_pixels": flat.size}
            annotations.append({"id": "r", "name": "__raster_layer__", "raster_layer": layer})
        slot = {"type": "image", "slot_name": "0", "width": WIDTH, "height": HEIGHT}
        item = {"name": f"{name}.png", "path": "/", "slots": [slot]}
        content = {"version": "2.0", "item": item, "annotations": annotations}
        write_json(folder / "releases" / "latest" / "annotations" / f"{name}.json", content)
    return {}


def to_points(part: list[float]) -> list[dict]:
    return [{"x": x, "y": y} for x, y in np.reshape(part, (-1, 2)).tolist()]


def labelbox(folder: Path) -> dict:
    save_pictures(folder / "images")
    lines = []
    for name, drawn_objects in PICTURES.items():
        objects = [
            {"feature_id": str(i), "name": label, "annotation_kind": "ImagePolygon", "polygon": to_points(part)}
            for i, (label, part) in enumerate((t.label, part) for t in drawn_objects for part in t.parts)
        ]
        annotations = {"objects": objects, "classifications": [{"name": "place", "radio_answer": {"name": "outside"}}]}
        row = {
            "data_row": {"id": name, "external_id": f"{name}.png", "row_data": f"https://images/{name}.png"},
            "media_attributes": {"height": HEIGHT, "width": WIDTH},
            "projects": {"p1": {"name": "fruit", "labels": [{"label_kind": "Default", "annotations": annotations}]}},
        }
        lines.append(json.dumps(row))
    (folder / "export.ndjson").write_text("\n".join(lines) + "\n")
    return {}


def openimages(folder: Path) -> dict:
    """Write the masks of `validation`; people verified that the second picture has no pear."""
    save_pictures(folder / "images", ".jpg")
    masks = folder / "masks" / "validation-masks-0"
    masks.mkdir(parents=True)
    ids = {name: f"/m/0{name}" for name in NAMES}
    lines = ["MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks"]
    for name, drawn_objects in PICTURES.items():
        for i, t in enumerate(drawn_objects):
            file = f"{name}_m0{t.label}_{i}.png"
            Image.fromarray(t.mask.astype(np.uint8) * 255).save(masks / file)
            ys, xs = np.nonzero(t.mask)
            box = xs.min() / WIDTH, (xs.max() + 1) / WIDTH, ys.min() / HEIGHT, (ys.max() + 1) / HEIGHT
            lines.append(",".join([file, name, ids[t.label], str(i), *(f"{v:f}" for v in box), "0.9", ""]))
    (folder / "validation-annotations-object-segmentation.csv").write_text("\n".join(lines) + "\n")
    (folder / "class-descriptions.csv").write_text("".join(f"{ids[name]},{name}\n" for name in NAMES))
    labels = (
        f"ImageID,Source,LabelName,Confidence\nsecond,verification,{ids['pear']},0\nfirst,machine,{ids['pear']},0.8\n"
    )
    (folder / "validation-annotations-human-imagelabels.csv").write_text(labels)
    return {}


def roboflow_masks(folder: Path) -> dict:
    save_pictures(folder / "train", ".jpg")
    for name, drawn_objects in PICTURES.items():
        values = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        for t in drawn_objects:
            values[t.mask] = 1 + NAMES.index(t.label)
        Image.fromarray(values).save(folder / "train" / f"{name}_mask.png")
    rows = "".join(f"{i}, {name}\n" for i, name in enumerate(["background", *NAMES]))
    (folder / "train" / "_classes.csv").write_text(f"Pixel Value, Class\n{rows}")
    return {"mask_values": "components"}


EXPORT_TREES = {
    "supervisely": supervisely,
    "darwin": darwin,
    "labelbox": labelbox,
    "openimages": openimages,
    "roboflow_masks": roboflow_masks,
}
