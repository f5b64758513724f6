"""Reader of SA-Co Gold and Silver: one `images` entry for each (image, phrase), including negative phrases."""

from ...options.data import ReadOptions
from ...utils.text import short_repr
from ..phrases.vocabulary import normalize_phrase
from ..row_schema import DatasetFormatError
from .coco_tree import CocoFiles
from .images import count_bare_names, find_image_or_error
from .records import Record, Shape, Split


def is_saco(content) -> bool:
    """Return whether the content of a JSON file is in the format of SA-Co."""
    images = content.get("images") if isinstance(content, dict) else None
    return isinstance(images, list) and bool(images) and isinstance(images[0], dict) and "text_input" in images[0]


def read_saco_content(content: dict, files: CocoFiles, _options: ReadOptions) -> Split:
    """
    Build the records of a SA-Co file; only its verified negative phrases are absent.

    Args:
        content (`dict`): Content of the file of one annotator.
        files (`CocoFiles`): The file and the folders of its images.
        _options (`ReadOptions`): Unused; SA-Co defines phrases and absences itself.

    Returns:
        `Split`: The records, one for each image.

    Raises:
        `DatasetFormatError`: If an entry is incomplete; contains the file and the record.
    """
    file, split = str(files.annotation_file), Split(str(files.annotation_file), [], {})
    if not isinstance(content.get("annotations"), list):
        raise DatasetFormatError(
            f"`annotations` must be a list, found {short_repr(content.get('annotations'))}", file=file
        )
    annotations: dict = {}
    for i, annotation in enumerate(content["annotations"]):
        if not isinstance(annotation, dict):
            raise DatasetFormatError(
                f"expected an object, found {short_repr(annotation)}", file=file, record=f"annotations[{i}]"
            )
        annotations.setdefault(str(annotation.get("image_id")), []).append(annotation)
    names = (entry.get("file_name") for entry in content["images"] if isinstance(entry, dict))
    name_counts = count_bare_names(name for name in names if isinstance(name, str))
    records: dict[str, Record] = {}
    for i, entry in enumerate(content["images"]):
        _check_entry(entry, file, i)
        name, text = entry["file_name"], " ".join(entry["text_input"].split())
        split.labels[text] = text
        record = records.get(name)
        if record is None:
            size = (entry.get("width"), entry.get("height"))
            record = records[name] = Record(
                name, f"image {name}", find_image_or_error(name, files.image_folders, name_counts), [], size, absent=[]
            )
        record.absent.append(text)
        if str(entry.get("is_instance_exhaustive", 1)) in ("0", "False", "false"):
            record.not_exhaustive |= {text}
        record.shapes += [_shape(a, text) for a in annotations.pop(str(entry["id"]), [])]
    if annotations:
        raise DatasetFormatError(
            f"annotations refer to {len(annotations)} image ids that `images` does not list", file=file,
            record=f"image_id {next(iter(annotations))}",
        )  # fmt: skip
    split.records = list(records.values())
    split.notes.append(
        f"SA-Co: {len(content['images'])} (image, phrase) pairs of {len(records)} images; absent phrases are verified"
    )
    return split


def _check_entry(entry, file: str, index: int) -> None:
    """Check one entry of `images`."""
    is_complete = (
        isinstance(entry, dict)
        and isinstance(entry.get("file_name"), str)
        and isinstance(entry.get("text_input"), str)
        and normalize_phrase(entry["text_input"])
        and entry.get("id") is not None
    )
    if not is_complete:
        raise DatasetFormatError(
            f"an entry needs `id`, `file_name` and `text_input`, found {short_repr(entry)}",
            file=file,
            record=f"images[{index}]",
        )


def _shape(annotation: dict, text: str) -> Shape:
    rle, box = annotation.get("segmentation"), annotation.get("bbox")
    shape = Shape(f"annotation id {annotation.get('id')}", text, box=box, relative_box=True)
    shape.is_crowd = str(annotation.get("iscrowd", annotation.get("is_crowd", 0))) in ("1", "True", "true")
    if isinstance(rle, dict):
        shape.rle = rle
    elif isinstance(rle, list):
        shape.polygons = rle or None
    if shape.rle is None and shape.polygons is None and box is None:
        shape.problem = f"`segmentation` is {short_repr(rle)} and there is no `bbox`"
    return shape
