"""CVAT output: a file that the reader reads back with equal phrases, masks and boxes."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.image_entries import ImageEntry
from sam_ft.data.loading import find_phrase_splits
from sam_ft.data.sources import read_splits
from sam_ft.inference.coco_output import CocoOutput
from sam_ft.inference.cvat_output import CvatOutput
from sam_ft.inference.output_target import OutputTarget
from sam_ft.inference.predictor import ImagePrediction
from sam_ft.ops.masks import decode_mask, encode_mask
from sam_ft.options.data import DatasetOptions, ReadOptions
from sam_ft.reporting.phrase_colors import assign_colors, css_color
from sam_ft.utils.owned_files import OwnedFiles

from ..data.readers.trees import cvat
from ..data.writers.test_round_trip import read as read_rows


PHRASES = ["dog", 'a "café" cup & <saucer>', "cat"]
HEIGHT, WIDTH = 9, 12
NAMES = ("street & <1>/é.png", "b.png")


def draw_masks() -> list[np.ndarray]:
    """Draw the whole image, a ring, an instance of two parts, and the last pixel."""
    whole, (ring, parts, pixel) = np.ones((HEIGHT, WIDTH), bool), np.zeros((3, HEIGHT, WIDTH), bool)
    ring[2:7, 3:9] = True
    ring[4, 5:7] = False
    parts[0, 0] = parts[8, 10:] = True
    pixel[8, 11] = True
    return [whole, ring, parts, pixel]


def segment(mask: np.ndarray) -> dict:
    rle = {"size": list(mask.shape), "counts": encode_mask(mask)}
    return {"score": 0.9, "bbox": [0.0, 0.0, 1.0, 1.0], "segmentation": rle}


def write(folder, *predictions: dict[str, list[dict]]):
    """Write the predictions of images below `images/`, and draw the images."""
    folder.mkdir(exist_ok=True)
    with CvatOutput(OutputTarget(OwnedFiles(folder, "prediction"), PHRASES, str(folder / "images"))) as output:
        for name, detections in zip(NAMES, predictions, strict=False):
            file = folder / "images" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (WIDTH, HEIGHT)).save(file)
            output.add(ImageEntry(name, str(file)), ImagePrediction(name, HEIGHT, WIDTH, detections))
    return folder / "cvat" / "annotations.xml"


def read(file) -> dict[str, dict[str, list[dict]]]:
    """Read instances by image and phrase."""
    splits, _ = find_phrase_splits(DatasetOptions(str(file.rename(file.parents[1] / file.name).parent)))
    rows, _ = read_splits(splits, ReadOptions(), only=["train"])["train"]
    return {
        row["example_id"]: {p["text"]: [row["instances"][n] for n in p["instances"]] for p in row["phrases"]}
        for row in rows
    }


def test_the_reader_reads_equal_phrases_masks_and_boxes(tmp_path):
    masks = draw_masks()
    box = {"score": 0.5, "bbox": [-0.5, 1.25, 4.0, 20.0]}  # partly outside the image
    detections = {PHRASES[0]: list(map(segment, masks)), PHRASES[1]: [segment(masks[1])], PHRASES[2]: [box]}
    rows = read(write(tmp_path, detections, {PHRASES[0]: [], PHRASES[2]: []}))
    assert {name: [*phrases] for name, phrases in rows.items()} == dict.fromkeys(NAMES, PHRASES)
    assert not any(rows["b.png"].values())
    first, second, (cat,) = rows[NAMES[0]].values()
    for instance, mask in zip([*first, *second], [*masks, masks[1]], strict=True):
        assert (decode_mask(instance["segmentation"], HEIGHT, WIDTH) == mask).all()
    assert cat["segmentation"] is None
    assert cat["bbox"] == [0.0, 1.25, 3.5, 7.75]


def test_elements_of_the_document(tmp_path):
    box = {"score": 0.5, "bbox": [1.0, 2.0, 3.0, 4.125]}
    root = ElementTree.parse(write(tmp_path, {"dog": [segment(draw_masks()[1])]}, {"cat": [box]})).getroot()
    assert root.findtext("version") == "1.1"
    labels = [[label.findtext(key) for key in ("name", "color", "type")] for label in root.iter("label")]
    assert labels == [[phrase, css_color(color), "any"] for phrase, color in assign_colors(PHRASES).items()]
    first, second = root.iter("image")
    assert first.attrib == {"id": "0", "name": NAMES[0], "width": "12", "height": "9"}
    assert [shape.tag for shape in (*first, *second)] == ["mask", "box"]
    common = {"source": "auto", "occluded": "0", "z_order": "0"}
    rle = "0, 14, 2, 14"
    place = {"left": "3", "top": "2", "width": "6", "height": "5"}
    assert first[0].attrib == {"label": "dog", "rle": rle, **place, **common}
    assert second[0].attrib == {"label": "cat", "xtl": "1.00", "ytl": "2.00", "xbr": "4.00", "ybr": "6.12", **common}


def test_shapes_without_pixels_are_left_out(tmp_path):
    outside = {"score": 0.5, "bbox": [WIDTH + 1.0, 0.0, 3.0, 3.0]}
    file = write(tmp_path, {"dog": [segment(np.zeros((HEIGHT, WIDTH), bool)), outside]})
    assert len(list(ElementTree.parse(file).iter("image"))) == 1
    assert not list(ElementTree.parse(file).iter("mask"))
    assert not list(ElementTree.parse(file).iter("box"))


def test_characters_that_xml_cannot_contain_become_escapes(tmp_path):
    phrase, name = "bell \x07\x00", "a\x1b\udcff.png"
    with CvatOutput(OutputTarget(OwnedFiles(tmp_path, "prediction"), [phrase], "/photos")) as output:
        prediction = ImagePrediction(name, HEIGHT, WIDTH, {phrase: [segment(draw_masks()[0])]})
        output.add(ImageEntry(name, f"/photos/{name}"), prediction)
    root = ElementTree.parse(tmp_path / "cvat" / "annotations.xml").getroot()
    assert root.find("image").get("name") == r"a\x1b\udcff.png"
    assert root.find("image/mask").get("label") == root.findtext("meta//label/name") == r"bell \x07\x00"


def test_equal_predictions_result_in_equal_bytes_and_other_files_are_not_replaced(tmp_path):
    detections = {"dog": [segment(mask) for mask in draw_masks()]}
    content = write(tmp_path / "first", detections).read_bytes()
    file = write(tmp_path / "second", detections)
    assert file.read_bytes() == content
    write(tmp_path / "second", detections)  # its own file
    assert file.read_bytes() == content
    write(tmp_path / "second")  # without an image, nothing is written
    assert file.read_bytes() == content
    file.write_text("edited")
    with pytest.raises(ValueError, match="already contains cvat/annotations.xml"):
        write(tmp_path / "second", detections)
    assert file.read_text() == "edited"
    assert sorted(path.name for path in file.parent.iterdir()) == ["annotations.xml"]


@pytest.mark.parametrize("output", ["cvat", "coco"])
def test_rows_of_a_cvat_file_are_written_and_read_again(tmp_path, output):
    """Labels of a CVAT task, imported back into CVAT as `CVAT 1.1` or `COCO 1.0`."""
    cvat(tmp_path / "source")
    rows = read_rows(tmp_path / "source")["train"]
    phrases = sorted({phrase["text"] for row in rows for phrase in row["phrases"]})
    writer = {"cvat": CvatOutput, "coco": CocoOutput}[output]
    with writer(OutputTarget(OwnedFiles(tmp_path, "prediction"), phrases, str(tmp_path / "images"))) as written:
        for row in rows:
            size = row["height"], row["width"]
            detections = {
                phrase["text"]: [
                    {"score": 1.0, "bbox": instance["bbox"],
                     "segmentation": {"size": list(size), "counts": instance["segmentation"]}}
                    for instance in (row["instances"][index] for index in phrase["instances"])
                ]
                for phrase in row["phrases"]
            }  # fmt: skip
            file = tmp_path / "images" / f"{Path(row['example_id']).stem}.png"
            file.parent.mkdir(exist_ok=True)
            row["image"].save(file)
            written.add(ImageEntry(file.name, str(file)), ImagePrediction(file.name, *size, detections))
    found = tmp_path / (CvatOutput.FILES[0] if output == "cvat" else "coco.json")
    found.rename(tmp_path / "images" / found.name)
    again = read_rows(tmp_path / "images")["train"]
    assert summarize(again) == summarize(rows)
    assert sum(len(row["instances"]) for row in again) == 3


def summarize(rows) -> list[dict]:
    """Return the masks and boxes of each phrase, image by image."""
    return [
        {
            phrase["text"]: sorted(
                (row["instances"][i]["segmentation"], row["instances"][i]["bbox"]) for i in phrase["instances"]
            )
            for phrase in row["phrases"]
        }
        for row in rows
    ]
