"""Builders of Pascal VOC, of exports in its layout, and of classes that are no objects, in the way of `trees.py`."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from .trees import HEIGHT, NAMES, PICTURES, WIDTH, box_of, cvat, labelme, save_pictures


def voc(folder: Path) -> dict:
    """Write images with VOC's palette, where void pixels surround each object, as CVAT names their classes."""
    save_pictures(folder / "JPEGImages", ".jpg")
    for name in ("SegmentationClass", "SegmentationObject", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    (folder / "ImageSets" / "Segmentation" / "train.txt").write_text("\n".join(PICTURES))
    lines = ["background:0,0,0::", "apple:128,0,0::", "pear:0,128,0::"]
    (folder / "labelmap.txt").write_text("\n".join(["# label:color_rgb:parts:actions", *lines]))
    for name, drawn_objects in PICTURES.items():
        classes, objects = (np.zeros((HEIGHT, WIDTH), dtype=np.uint8) for _ in range(2))
        for t in drawn_objects:
            classes[ndimage.binary_dilation(t.mask)] = objects[ndimage.binary_dilation(t.mask)] = 255
        for i, t in enumerate(drawn_objects, 1):
            classes[t.mask], objects[t.mask] = 1 + NAMES.index(t.label), i
        save_palette_image(classes, folder / "SegmentationClass" / f"{name}.png")
        save_palette_image(objects, folder / "SegmentationObject" / f"{name}.png")
    return {}


def save_palette_image(values: np.ndarray, file: Path) -> None:
    """Save values as an image with the palette of Pascal VOC."""
    bits = [[v >> (3 * i + channel) & 1 for channel in range(3)] for v in range(256) for i in range(8)]
    palette = (np.reshape(bits, (256, 8, 3)) << np.arange(7, -1, -1)[:, None]).sum(axis=1)
    image = Image.fromarray(values)
    image.putpalette(palette.astype(np.uint8).tobytes())
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file)


def voc_boxes(folder: Path) -> dict:
    """Write boxes alone, as VOC's detection data."""
    save_pictures(folder / "JPEGImages", ".jpg")
    (folder / "Annotations").mkdir()
    for name, drawn_objects in PICTURES.items():
        objects = ""
        for t in drawn_objects:
            x, y, width, height = map(int, box_of(t))
            sides = {"xmin": x + 1, "ymin": y + 1, "xmax": x + width, "ymax": y + height}
            box = "".join(f"<{side}>{value}</{side}>" for side, value in sides.items())
            objects += f"<object><name>{t.label}</name><difficult>0</difficult><bndbox>{box}</bndbox></object>"
        size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
        text = f"<annotation><filename>{name}.jpg</filename>{size}{objects}</annotation>"
        (folder / "Annotations" / f"{name}.xml").write_text(text)
    return {}


def voc_colors(folder: Path) -> dict:
    """Write masks in the colors of a label map, without a palette, as Datumaro exports them."""
    voc(folder)
    colors = {"background": (0, 0, 0), "apple": (250, 50, 83), "pear": (61, 61, 245), "ignored": (224, 224, 192)}
    lines = [f"{name}:{','.join(map(str, color))}::" for name, color in colors.items()]
    (folder / "labelmap.txt").write_text("\n".join(lines))
    table = np.zeros((256, 3), dtype=np.uint8)
    table[[0, 1, 2, 255]] = list(colors.values())
    for file in (folder / "SegmentationClass").iterdir():
        Image.fromarray(table[np.asarray(Image.open(file))]).save(file)
    for file in (folder / "SegmentationObject").iterdir():
        Image.open(file).convert("RGB").save(file)
    return {}


def voc_classes(folder: Path) -> dict:
    """Write images of classes alone, whose names are those of VOC: aeroplane and bicycle."""
    voc(folder)
    (folder / "labelmap.txt").unlink()
    for file in (folder / "SegmentationObject").iterdir():
        file.unlink()
    return {}


def voc_years(folder: Path) -> dict:
    """Write two years of VOC below `VOCdevkit`, the second with other names and without lists."""
    for year in ("VOC2007", "VOC2012"):
        voc(folder / "VOCdevkit" / year)
    root = folder / "VOCdevkit" / "VOC2012"
    (root / "ImageSets" / "Segmentation" / "train.txt").unlink()
    for file in [
        f for name in ("JPEGImages", "SegmentationClass", "SegmentationObject") for f in (root / name).iterdir()
    ]:
        file.rename(file.with_name(f"2012_{file.name}"))
    return {}


def cvat_tags(folder: Path) -> dict:
    """Write tags: of the type `tag`, of any type, and one with the label of objects."""
    cvat(folder)
    file = folder / "annotations.xml"
    labels = "<label><name>sunny</name><type>tag</type></label><label><name>blurred</name><type>any</type></label>"
    tags = "".join(f'<tag label="{name}" source="manual"></tag>' for name in ("sunny", "blurred", "pear"))
    text = file.read_text().replace("</labels>", f"{labels}</labels>")
    head, marker, last = text.partition('name="second.png"')
    file.write_text(head + marker + last.replace("</image>", f"{tags}</image>", 1))
    return {}


def labelme_ignored(folder: Path) -> dict:
    """Write a region to ignore and a region of background into the first picture."""
    labelme(folder)
    file = folder / "first.json"
    content = json.loads(file.read_text())
    for label, left in (("__ignore__", 30), ("_background_", 35)):
        points = [[left, 20], [left + 4, 20], [left + 4, 28], [left, 28]]
        content["shapes"].append({"label": label, "points": points, "shape_type": "polygon", "group_id": None})
    file.write_text(json.dumps(content))
    return {}


VOC_TREES = {"voc": voc, "voc_colors": voc_colors}
PARTIAL_TREES = {  # Rows that differ from those of `trees.py`.
    "voc_classes": voc_classes,
    "voc_years": voc_years,
    "voc_boxes": voc_boxes,
    "cvat_tags": cvat_tags,
    "labelme_ignored": labelme_ignored,
}
