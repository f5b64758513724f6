"""Builder of the pictures of `trees.py` as the tables of a prediction."""

from pathlib import Path

from sam_ft.data.image_entries import ImageEntry
from sam_ft.inference.parquet_output import ParquetOutput
from sam_ft.inference.predictor import ImagePrediction
from sam_ft.ops.masks import encode_mask
from sam_ft.utils.owned_files import OwnedFiles

from .trees import HEIGHT, NAMES, PICTURES, WIDTH, box_of, save_pictures


def write_tables(folder: Path, entries: list[ImageEntry], predictions: list[ImagePrediction], phrases=NAMES) -> Path:
    """Write `parquet/` to a folder of predictions, and return it."""
    with ParquetOutput(OwnedFiles(folder, "prediction"), list(phrases)) as output:
        for entry, prediction in zip(entries, predictions, strict=True):
            output.add(entry, prediction)
    return folder / "parquet"


def predictions_of_pictures() -> list[ImagePrediction]:
    """Return predictions that equal the drawn objects; every picture is prompted with all phrases."""
    predictions = []
    for name, drawn_objects in PICTURES.items():
        prediction = ImagePrediction(name, HEIGHT, WIDTH, {label: [] for label in NAMES}, dict.fromkeys(NAMES, 0.5))
        for drawn_object in drawn_objects:
            mask = {"size": [HEIGHT, WIDTH], "counts": encode_mask(drawn_object.mask)}
            detection = {"score": 0.9, "bbox": box_of(drawn_object), "segmentation": mask}
            prediction.detections[drawn_object.label].append(detection)
        predictions.append(prediction)
    return predictions


def detections(folder: Path) -> dict:
    """Write the tables, with the images beside them."""
    pictures = save_pictures(folder / "pictures")
    entries = [ImageEntry(name, str(pictures / f"{name}.png")) for name in PICTURES]
    tables = write_tables(folder, entries, predictions_of_pictures())
    for table in tables.iterdir():
        table.rename(folder / table.name)
    tables.rmdir()
    return {}


DETECTION_TREES = {"detections": detections}
