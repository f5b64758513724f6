"""Rows to files: a COCO data set with phrases, or parquet that the Hub and `datasets` read."""

import contextlib
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from datasets import Dataset, Image
from datasets.table import embed_table_storage
from huggingface_hub import HfApi
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


SHORT_SPLITS = {"validation": "val"}  # as COCO trees name them
MARKER = ".written-by-sam-ft"  # marks a finished conversion
_ARGUMENT, _KIND = "target_dir", "conversion"
_MAX_NAME = 200  # bytes; file systems take 255


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
    here = folder.resolve()
    for source in map(Path, sources):
        there = source.resolve()
        if there.exists() and (here == there or here in there.parents or there in here.parents):
            raise ValueError(
                f"`target_dir` is {str(folder)!r}, and {str(source)!r} is read: one contains the other, and the source would be "
                "overwritten. Give a folder beside it"
            )
    check_replaceable(folder, _KIND, _ARGUMENT, overwrite=overwrite, allowed=(MARKER,))


@contextlib.contextmanager
def conversion_target(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """
    Yield a temporary folder to write a conversion to; it becomes `folder`, complete and marked, when the context ends without an error.

    Args:
        folder (`Path`): The target.
        overwrite (`bool`): Replace an earlier conversion, which stays until the new one is complete.

    Raises:
        `ValueError`: As [`check_replaceable`]; if another process converts to the same folder.
    """
    with folder_draft(folder, _KIND, _ARGUMENT, overwrite=overwrite, allowed=(MARKER,)) as draft:
        yield draft
        (draft / MARKER).touch()


def write_coco(rows: Dataset, folder: str | Path, split: str, *, polygons: bool = False) -> Path:
    """
    Writes `annotations/SPLIT_coco.json` and `SPLIT_images/`.

    Categories are the phrases; an instance of several phrases is annotated under each. Where a row does not prove every other
    phrase of the split absent, each image lists the absences and doubts that it has, in LVIS's `neg_category_ids` and
    `not_exhaustive_category_ids`, so that reading the files gives the same rows.

    Args:
        rows (`datasets.Dataset`): see `example.py`.
        folder (`str` or `Path`), split (`str`).
        polygons (`bool`): masks as polygons, where they can say them exactly; RLE otherwise.

    Returns:
        `Path`: the annotation file, written last.
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
    counts, parts = instance["segmentation"], None
    if counts is not None and polygons and not instance["is_crowd"]:
        parts = mask_to_polygons(decode_mask(counts, row["height"], row["width"]))
    segmentation = [] if counts is None else {"size": [row["height"], row["width"]], "counts": counts}
    return {
        "segmentation": parts or segmentation,
        "bbox": instance["bbox"],
        "area": instance["area"],
        "iscrowd": int(instance["is_crowd"]),
    }


def _save_image(row: dict, folder: Path, used: Counter) -> str:
    """Saves a row's image under a name made of its id: its own bytes where they are upright and 8 bits, else as PNG."""
    value = row["image"]
    content = value["bytes"] or Path(value["path"]).read_bytes()
    with PILImage.open(io.BytesIO(content)) as image:
        as_it_is = image.getexif().get(ExifTags.Base.Orientation, 1) == 1 and image.mode in ("RGB", "L", "RGBA", "P")
        suffix = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}.get(image.format) if as_it_is else None
        stem = wanted = _short(re.sub(r"[^\w.-]+", "_", row["example_id"])) or "image"
        while used[stem]:
            used[wanted] += 1
            stem = f"{wanted}-{used[wanted]}"
        used[stem] += 1
        if suffix:
            (folder / f"{stem}{suffix}").write_bytes(content)
            return f"{stem}{suffix}"
        to_rgb(image).save(folder / f"{stem}.png")
        return f"{stem}.png"


def _short(name: str) -> str:
    """Shorten a file name to 200 bytes, so that a number and a suffix fit; the rest becomes a digest."""
    encoded = name.encode()
    if len(encoded) <= _MAX_NAME:
        return name
    digest = hashlib.blake2b(encoded, digest_size=6).hexdigest()
    return encoded[: _MAX_NAME - len(digest) - 1].decode(errors="ignore") + f"-{digest}"


CARD = """---
pretty_name: {title}
task_categories:
- image-segmentation
tags:
- sam3
- concept-segmentation
configs:
- config_name: default
  data_files:
{files}
---

# {title}

Images with noun phrases and the masks of all their instances, in the row form of sam-ft: `image`, `instances` (box `xywh` in px, compressed
COCO RLE, crowd flag) and `phrases` (text, indices of its instances, whether all are labelled; no index: the phrase is absent).

| split | images | instances | phrases | absent (image, phrase) pairs |
|---|---|---|---|---|
{table}

Converted from {source}. Its licence holds for this copy; name it above (`license:`) before you publish it.
"""


def write_rows(splits: dict[str, Dataset], folder: str | Path, source: str) -> Path:
    """
    Writes `data/SPLIT-00000-of-00001.parquet` with images inside and a data set card, which `load_dataset(folder)` and `dataset_name` read.

    Args:
        splits (`dict[str, datasets.Dataset]`): rows of `example.py`. folder (`str` or `Path`). source (`str`): for the card.

    Returns:
        `Path`: the folder.
    """
    folder = Path(folder)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for name, rows in splits.items():
        embedded(rows).to_parquet(folder / "data" / f"{name}-00000-of-00001.parquet")
    (folder / "README.md").write_text(card(splits, folder.resolve().name, source), encoding="utf-8")
    return folder


def card(splits: dict[str, Dataset], title: str, source: str) -> str:
    """The text of a data set card."""
    table = "\n".join(_card_line(name, rows) for name, rows in splits.items())
    files = "\n".join(f"  - split: {name}\n    path: data/{name}-*.parquet" for name in splits)
    return CARD.format(title=title, files=files, table=table, source=source)


def _card_line(name: str, rows: Dataset) -> str:
    phrases = [phrase for listed in rows["phrases"] for phrase in listed]
    instances = sum(map(len, rows["instances"]))
    absent = sum(not phrase["instances"] for phrase in phrases)
    return f"| {name} | {len(rows)} | {instances} | {len({p['text'] for p in phrases})} | {absent} |"


def embedded(rows: Dataset) -> Dataset:
    """The same rows with the content of image files inside."""
    arrow = rows.with_format("arrow").map(
        embed_table_storage, batched=True, batch_size=16, desc="images into the rows"
    )
    return arrow.with_format(None)


def push_rows(folder: str | Path, repo_id: str, *, private: bool) -> None:
    """
    Pushes what [`write_rows`] wrote to a data set of the Hub.

    Raises:
        `ValueError`: where the Hub refuses; says what to do.
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
