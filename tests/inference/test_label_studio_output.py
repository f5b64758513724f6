"""Label Studio output: geometry, labelling configuration, URLs of images, and the way back through the reader."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.image_entries import ImageEntry
from sam_ft.inference.image_list import ImageList
from sam_ft.inference.label_studio_output import LabelStudioOutput
from sam_ft.inference.label_studio_regions import MAX_POINTS, LabelTool, build_prediction
from sam_ft.inference.output_target import OutputTarget
from sam_ft.inference.prediction_job import PredictionJob
from sam_ft.inference.predictor import ImagePrediction
from sam_ft.ops.masks import decode_mask, encode_mask
from sam_ft.reporting.phrase_colors import assign_colors, css_color
from sam_ft.utils.owned_files import OwnedFiles

from ..data.readers.test_layouts import read


HEIGHT, WIDTH = 60, 80
PHRASES = ["dog", 'café "cup" <&>', "price in $"]
FOLDER = "photos & 100%"


def detection(mask: np.ndarray, score: float = 0.5) -> dict:
    rle = {"size": list(mask.shape), "counts": encode_mask(mask)}
    return {"score": score, "bbox": [0.0, 0.0, 1.0, 1.0], "segmentation": rle}


def rectangle(top: int, left: int, height: int = 8, width: int = 12) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask


def disc(radius: float) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.hypot(x - WIDTH / 2, y - HEIGHT / 2) < radius


def with_hole() -> np.ndarray:
    return disc(20) & ~disc(10)


def comb() -> np.ndarray:
    """Return one piece with more corners than a polygon may have."""
    mask = np.zeros((HEIGHT, 4 * MAX_POINTS), dtype=bool)
    mask[:4] = mask[:, ::4] = mask[:, 1::4] = True
    return mask


def examples(root) -> list[tuple[ImageEntry, ImagePrediction]]:
    """Return predictions of two images, which are written to folders, one of them without detections."""
    detections = {
        PHRASES[1]: [detection(disc(20), 0.9), detection(with_hole(), 0.75)],
        "dog": [detection(rectangle(4, 8), 0.5), detection(rectangle(2, 2) | rectangle(40, 50), 0.25)],
        "price in $": [],
    }
    images = []
    for name, found in (("a+b/été 1", detections), ("c/2", {"dog": []})):
        file = root / FOLDER / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT)).save(file)
        images.append((ImageEntry(name, str(file)), ImagePrediction(name, HEIGHT, WIDTH, found)))
    return images


def write(root, images=None):
    """Write the output and return its tasks and its configuration."""
    images = examples(root) if images is None else images
    target = OutputTarget(OwnedFiles(root / "out", "prediction"), PHRASES, str(root / FOLDER))
    with LabelStudioOutput(target, "mine 1") as output:
        for entry, prediction in images:
            output.add(entry, prediction)
    tasks, config = ((root / "out" / name).read_text("utf-8") for name in LabelStudioOutput.FILES)
    return json.loads(tasks), ElementTree.fromstring(config)


def write_regions(root, *detections, height=HEIGHT, width=WIDTH):
    entry = ImageEntry("a", str(root / FOLDER / "a.png"))
    tasks, config = write(root, [(entry, ImagePrediction("a", height, width, {"dog": list(detections)}))])
    return tasks[0]["predictions"][0]["result"], config


def test_a_task_for_each_image(tmp_path):
    tasks, _ = write(tmp_path)
    assert [task["data"] for task in tasks] == [
        {"image": "/data/local-files/?d=photos%20%26%20100%25/a%2Bb/%C3%A9t%C3%A9%201.png"},
        {"image": "/data/local-files/?d=photos%20%26%20100%25/c/2.png"},
    ]
    first, second = (task["predictions"][0] for task in tasks)
    assert (first["score"], first["model_version"]) == (0.6, "mine 1")
    assert [(region["id"], region["score"]) for region in first["result"]] == [
        ("1-1", 0.9),
        ("1-2", 0.75),
        ("1-3", 0.5),
        ("1-4", 0.25),
    ]
    assert second == {"model_version": "mine 1", "result": []}


def test_every_region_has_its_label_in_the_configuration(tmp_path):
    tasks, config = write(tmp_path)
    regions = [region for task in tasks for region in task["predictions"][0]["result"]]
    image = config.find("Image")
    assert image.get("value") == "$image"
    tools = {element.get("name"): element for element in config if element.get("toName") == image.get("name")}
    assert {name: tool.tag for name, tool in tools.items()} == {"polygon": "PolygonLabels", "brush": "BrushLabels"}
    for tool in tools.values():
        assert [label.get("value") for label in tool] == PHRASES
        assert [label.get("background") for label in tool] == [*map(css_color, assign_colors(PHRASES).values())]
    assert [region["type"] for region in regions] == [
        f"{kind}labels" for kind in ("polygon", "brush", "polygon", "brush")
    ]
    for region in regions:
        assert region["to_name"] == image.get("name")
        assert tools[region["from_name"]].tag.lower() == region["type"]
        assert region["value"][region["type"]][0] in PHRASES


def test_an_exact_outline_replaces_a_coarse_one(tmp_path):
    """An outline that deviates by 1 px is too coarse for a disc of 4 px radius, and good enough for 20 px."""
    (small, large), _ = write_regions(tmp_path, detection(disc(4)), detection(disc(20)))
    assert (small["type"], large["type"]) == ("polygonlabels", "polygonlabels")
    assert 12 <= len(large["value"]["points"]) < 40
    points = np.array(small["value"]["points"]) * [WIDTH, HEIGHT] / 100
    assert np.allclose(points, points.round()), "corners of pixels"


def test_an_outline_of_many_points_is_a_brush_mask(tmp_path):
    (region,), _ = write_regions(tmp_path, detection(comb()), height=HEIGHT, width=4 * MAX_POINTS)
    assert region["type"] == "brushlabels"
    assert region["value"]["format"] == "rle"


def test_a_detection_without_a_mask_is_a_rectangle(tmp_path):
    (region,), config = write_regions(tmp_path, {"score": 0.5, "bbox": [20.0, 6.0, 40.0, 30.0]})
    box = {"x": 25.0, "y": 10.0, "width": 50.0, "height": 50.0, "rotation": 0}
    assert region["value"] == box | {"rectanglelabels": ["dog"]}
    assert [element.tag for element in config] == ["Image", "Header", "RectangleLabels"]


def test_a_mask_without_its_best_tool(tmp_path):
    """Without brush masks each piece is a polygon, without masks a rectangle; a label without a tool is refused."""
    pieces = rectangle(2, 2) | rectangle(40, 50)
    prediction = ImagePrediction("a", HEIGHT, WIDTH, {"dog": [detection(pieces) | {"bbox": [2.0, 3.0, 60.0, 45.0]}]})
    tool = LabelTool("polygon", "outline", "picture", ("dog",))
    answer = build_prediction(prediction, [tool], "1", "x")
    assert [region["id"] for region in answer["result"]] == ["x-1", "x-2"]
    assert {(r["from_name"], r["to_name"], r["type"]) for r in answer["result"]} == {
        ("outline", "picture", "polygonlabels")
    }
    assert answer["score"] == 0.5
    (region,) = build_prediction(prediction, [LabelTool("rectangle", "box", "p", ("dog",))], "1", "x")["result"]
    expected = {"x": 2.5, "y": 5.0, "width": 75.0, "height": 75.0, "rotation": 0, "rectanglelabels": ["dog"]}
    assert region["value"] == expected
    with pytest.raises(ValueError, match="has no tool for the label 'dog'"):
        build_prediction(prediction, [LabelTool("brush", "b", "p", ("cat",))], "1", "x")
    del prediction.detections["dog"][0]["segmentation"]
    with pytest.raises(ValueError, match="has no RectangleLabels, and the model predicts boxes"):
        build_prediction(prediction, [tool], "1", "x")


def test_accepted_predictions_are_read_back(tmp_path):
    images = examples(tmp_path)
    tasks, _ = write(tmp_path, images)
    for number, task in enumerate(tasks, 1):  # as Label Studio exports annotations that started from predictions
        task |= {"id": number, "annotations": [{"id": number, "result": task.pop("predictions")[0]["result"]}]}
    (tmp_path / FOLDER / "export.json").write_text(json.dumps(tasks), "utf-8")
    rows, report = read(tmp_path / FOLDER)
    assert report.positives == {PHRASES[1]: 2, "dog": 2}
    found = {
        phrase["text"]: [
            decode_mask(rows[0]["instances"][i]["segmentation"], HEIGHT, WIDTH) for i in phrase["instances"]
        ]
        for phrase in rows[0]["phrases"]
    }
    cup, ring = found[PHRASES[1]]
    assert np.array_equal(ring, with_hole())
    assert (cup & disc(20)).sum() / (cup | disc(20)).sum() > 0.95
    assert np.array_equal(found["dog"], [rectangle(4, 8), rectangle(2, 2) | rectangle(40, 50)])
    assert len(rows) == 2
    assert not rows[1]["instances"]


def test_equal_predictions_have_equal_files(tmp_path):
    write(tmp_path)
    files = [tmp_path / "out" / name for name in LabelStudioOutput.FILES]
    before = [file.read_bytes() for file in files]
    write(tmp_path)
    assert [file.read_bytes() for file in files] == before


def test_an_interrupted_output_leaves_no_file(tmp_path):
    images = examples(tmp_path)

    def interrupt():
        yield images[0]
        raise InterruptedError

    with pytest.raises(InterruptedError):
        write(tmp_path, interrupt())
    assert not [file for file in (tmp_path / "out").rglob("*") if file.is_file()]


def test_edited_tasks_are_not_replaced(tmp_path):
    write(tmp_path)
    file = tmp_path / "out" / LabelStudioOutput.FILES[0]
    file.write_text("[]")
    with pytest.raises(ValueError, match=r"already contains label_studio/tasks.json"):
        write(tmp_path)
    assert file.read_text() == "[]"


@pytest.mark.parametrize(
    ("entry", "phrase", "message"),
    [
        (ImageEntry("a", "/t.tar", "a.jpg", (512, 9)), "dog", r"/t.tar: a.jpg is a member of a file. Extract"),
        (ImageEntry("a", "/a.jpg"), "d\x07og", r"the phrase 'd\\x07og' as a label, .* cannot contain '\\x07'"),
        (ImageEntry("a", "/a.jpg"), "a $5 bill", r"a label of Label Studio cannot contain '\$5'. Change the phrase"),
    ],
)
def test_input_that_label_studio_cannot_show_is_refused(tmp_path, entry, phrase, message):
    images = ImageList([ImageEntry("0", "/0.jpg"), entry])
    with pytest.raises(ValueError, match=message):
        PredictionJob(images, [phrase], tmp_path, ["coco", "label_studio"])
    PredictionJob(images, [phrase], tmp_path, ["coco"])
