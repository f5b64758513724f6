"""Conversion of rows to a COCO data set with phrases, or to parquet for the Hub and `datasets`."""

import contextlib
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from datasets import Dataset, Image
from datasets.table import embed_table_storage
from huggingface_hub import DatasetCard, DatasetCardData, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from PIL import ExifTags
from PIL import Image as PILImage

from ...ops.masks import decode_mask
from ...ops.outline import mask_to_polygons
from ...utils.drafts import check_replaceable, folder_draft
from ...utils.json_files import write_json
from ...utils.owned_files import RECORD
from ...utils.secrets import check_no_secrets
from ..row_schema import to_rgb


SHORT_SPLITS = {"validation": "val"}  # split names of COCO folders
MARKER = ".written-by-sam-ft"  # marks a finished conversion
_ARGUMENT, _KIND = "target_dir", "conversion"
CARD_TEMPLATE = Path(__file__).parent / "templates" / "dataset_card.md.j2"
_MAX_NAME = 200  # bytes; file systems allow 255


def check_target(folder: Path, sources: list[str], *, overwrite: bool) -> None:
    """
    Check the target of a conversion before anything is read.

    Args:
        folder (`Path`): The target.
        sources (`list[str]`): Files and folders that are read.
        overwrite (`bool`): Replace an earlier conversion.

    Raises:
        `ValueError`: If the folder contains a source or lies in one, and as [`check_replaceable`].
    """
    target = folder.resolve()
    for source in map(Path, sources):
        path = source.resolve()
        if path.exists() and (target == path or target in path.parents or path in target.parents):
            raise ValueError(
                f"`target_dir` is {str(folder)!r}, which overlaps the source {str(source)!r}: the source would be "
                "overwritten. Choose a folder outside the source"
            )
    check_replaceable(folder, _KIND, _ARGUMENT, overwrite=overwrite, allowed=(MARKER,))


@contextlib.contextmanager
def conversion_target(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """
    Yield a temporary folder for a conversion, which becomes `folder` when the context ends without an error.

    Args:
        folder (`Path`): The target.
        overwrite (`bool`): Replace an earlier conversion, which remains until the new one is complete.

    Raises:
        `ValueError`: As [`check_replaceable`]; if another process converts to the same folder.
    """
    with folder_draft(folder, _KIND, _ARGUMENT, overwrite=overwrite, allowed=(MARKER,)) as draft:
        yield draft
        (draft / MARKER).touch()


def write_coco(rows: Dataset, folder: str | Path, split: str, *, polygons: bool = False) -> Path:
    """
    Write one split as COCO: `annotations/SPLIT_coco.json` and `SPLIT_images/`.

    Categories are the phrases; an instance of several phrases has an annotation for each. If the rows do not label
    every phrase of the split exhaustively, each image also has the fields `neg_category_ids` and
    `not_exhaustive_category_ids` of LVIS, so that reading the files gives the same rows.

    Args:
        rows (`datasets.Dataset`): Rows as in `row_schema.py`.
        folder (`str` or `Path`): Folder of the data set.
        split (`str`): Name of the split.
        polygons (`bool`): Write masks as polygons if these are exact; RLE otherwise. Default: `False`.

    Returns:
        `Path`: The annotation file, which is written last.
    """
    folder, short = Path(folder), SHORT_SPLITS.get(split, split)
    images = folder / f"{short}_images"
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    images.mkdir(exist_ok=True)
    texts = sorted({phrase["text"] for phrases in rows["phrases"] for phrase in phrases})
    ids = {text: number for number, text in enumerate(texts, 1)}
    closed = all(
        len(phrases) == len(texts) and all(phrase["exhaustive"] for phrase in phrases) for phrases in rows["phrases"]
    )
    coco = {
        "info": {"description": "written by sam-ft"},
        "images": [],
        "annotations": [],
        "categories": [{"id": number, "name": text, "supercategory": "phrase"} for text, number in ids.items()],
    }
    used: Counter = Counter()
    for number, row in enumerate(rows.cast_column("image", Image(decode=False)), 1):
        name = _save_image(row, images, used)
        entry = {
            "id": number,
            "file_name": name,
            "width": row["width"],
            "height": row["height"],
            "example_id": row["example_id"],
        }
        if not closed:
            entry["neg_category_ids"] = [
                ids[p["text"]] for p in row["phrases"] if not p["instances"] and p["exhaustive"]
            ]
            entry["not_exhaustive_category_ids"] = [ids[p["text"]] for p in row["phrases"] if not p["exhaustive"]]
        coco["images"].append(entry)
        for phrase in row["phrases"]:
            for index in phrase["instances"]:
                annotation = _annotation(row, row["instances"][index], polygons=polygons)
                annotation |= {
                    "id": len(coco["annotations"]) + 1,
                    "image_id": number,
                    "category_id": ids[phrase["text"]],
                }
                coco["annotations"].append(annotation | {"noun_phrase": phrase["text"]})
    file = folder / "annotations" / f"{short}_coco.json"
    return write_json(file, coco)


def _annotation(row: dict, instance: dict, *, polygons: bool) -> dict:
    counts, outlines = instance["segmentation"], None
    if counts is not None and polygons and not instance["is_crowd"]:
        outlines = mask_to_polygons(decode_mask(counts, row["height"], row["width"]))
    segmentation = [] if counts is None else {"size": [row["height"], row["width"]], "counts": counts}
    return {
        "segmentation": outlines or segmentation,
        "bbox": instance["bbox"],
        "area": instance["area"],
        "iscrowd": int(instance["is_crowd"]),
    }


def _save_image(row: dict, folder: Path, used: Counter) -> str:
    """Save the image of a row under its id: the original bytes if they are upright and 8 bits, otherwise as PNG."""
    value = row["image"]
    content = value["bytes"] or Path(value["path"]).read_bytes()
    with PILImage.open(io.BytesIO(content)) as image:
        is_plain = image.getexif().get(ExifTags.Base.Orientation, 1) == 1 and image.mode in ("RGB", "L", "RGBA", "P")
        suffix = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}.get(image.format) if is_plain else None
        stem = base = _shorten(re.sub(r"[^\w.-]+", "_", row["example_id"])) or "image"
        while used[stem]:
            used[base] += 1
            stem = f"{base}-{used[base]}"
        used[stem] += 1
        if suffix:
            (folder / f"{stem}{suffix}").write_bytes(content)
            return f"{stem}{suffix}"
        to_rgb(image).save(folder / f"{stem}.png")
        return f"{stem}.png"


def _shorten(name: str) -> str:
    """Shorten a file name to 200 bytes, so that a number and a suffix fit; a digest replaces the rest."""
    encoded = name.encode()
    if len(encoded) <= _MAX_NAME:
        return name
    digest = hashlib.blake2b(encoded, digest_size=6).hexdigest()
    return encoded[: _MAX_NAME - len(digest) - 1].decode(errors="ignore") + f"-{digest}"


def write_rows(splits: dict[str, Dataset], folder: str | Path, source: str) -> Path:
    """
    Write a data set card and `data/SPLIT-00000-of-00001.parquet` with embedded images.

    `load_dataset(folder)` and `dataset_name` read the folder.

    Args:
        splits (`dict[str, datasets.Dataset]`): Rows of each split, as in `row_schema.py`.
        folder (`str` or `Path`): Folder of the data set.
        source (`str`): Source of the data, for the card.

    Returns:
        `Path`: The folder.
    """
    folder = Path(folder)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for name, rows in splits.items():
        embedded(rows).to_parquet(folder / "data" / f"{name}-00000-of-00001.parquet")
    (folder / "README.md").write_text(format_card(splits, folder.resolve().name, source), encoding="utf-8")
    return folder


def format_card(splits: dict[str, Dataset], title: str, source: str) -> str:
    """
    Format a data set card.

    Args:
        splits (`dict[str, datasets.Dataset]`): Rows of each split.
        title (`str`): Title.
        source (`str`): Source of the data.

    Returns:
        `str`: Markdown with a YAML header of metadata.
    """
    data = DatasetCardData(
        pretty_name=title,
        task_categories=["image-segmentation"],
        tags=["sam3", "concept-segmentation"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": name, "path": f"data/{name}-*.parquet"} for name in splits],
            }
        ],
    )
    counts = [_count_split(name, rows) for name, rows in splits.items()]
    card = DatasetCard.from_template(data, template_path=str(CARD_TEMPLATE), title=title, splits=counts, source=source)
    return card.content.rstrip() + "\n"


def _count_split(name: str, rows: Dataset) -> dict[str, str | int]:
    phrases = [phrase for row_phrases in rows["phrases"] for phrase in row_phrases]
    return {
        "name": name,
        "images": len(rows),
        "instances": sum(map(len, rows["instances"])),
        "phrases": len({phrase["text"] for phrase in phrases}),
        "absent": sum(not phrase["instances"] for phrase in phrases),
    }


def embedded(rows: Dataset) -> Dataset:
    """
    Embed the content of image files in rows.

    Args:
        rows (`datasets.Dataset`): Rows as in `row_schema.py`.
    """
    arrow = rows.with_format("arrow").map(embed_table_storage, batched=True, batch_size=16, desc="embedding images")
    return arrow.with_format(None)


def push_rows(folder: str | Path, repo_id: str, *, private: bool) -> None:
    """
    Push the folder of [`write_rows`] to a data set on the Hub.

    Args:
        folder (`str` or `Path`): Folder of the data set.
        repo_id (`str`): Repository of the data set.
        private (`bool`): Create the repository as a private one.

    Raises:
        `ValueError`: If the Hub refuses the upload.
    """
    check_no_secrets(file for file in Path(folder).rglob("*") if file.is_file())
    api = HfApi()
    try:
        api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder, repo_type="dataset", ignore_patterns=[MARKER, RECORD])
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise ValueError(
            f"`push_to_hub`: {repo_id!r} cannot be written ({error}). Run `hf auth login`, and check the name"
        ) from error
