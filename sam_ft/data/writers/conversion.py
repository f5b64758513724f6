"""Conversion of rows to a COCO data set with phrases, or to parquet for the Hub and `datasets`."""

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from datasets import Dataset, Image
from datasets.table import embed_table_storage
from huggingface_hub import DatasetCard, DatasetCardData, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from PIL import ExifTags
from PIL import Image as PILImage

from ...ops.masks import decode_mask
from ...ops.outline import mask_to_polygons
from ...utils.console import progress_bar
from ...utils.drafts import check_replaceable, folder_draft
from ...utils.json_files import write_json
from ...utils.owned_files import RECORD
from ...utils.secrets import check_no_secrets
from ..conversion_info import ConversionInfo
from ..row_schema import to_rgb
from ..safe_text import to_printable
from .image_names import SUFFIXES, ImageNames, kept_suffix, source_names


SHORT_SPLITS = {"validation": "val"}  # split names of COCO folders
MARKER = ".written-by-sam-ft"  # marks a finished conversion
_KEPT_MODES = ("RGB", "L", "RGBA", "P")  # of images whose file is copied
_ARGUMENT, _KIND = "target_dir", "conversion"
CARD_TEMPLATE = Path(__file__).parent / "templates" / "dataset_card.md.j2"


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


def write_coco(
    rows: Dataset,
    folder: str | Path,
    split: str,
    *,
    polygons: bool = False,
    splits: tuple[str, ...] | None = None,
) -> Path:
    """
    Write one split as COCO: `annotations/SPLIT_coco.json` and `SPLIT_images/`.

    Categories are the phrases, and the file is marked so that its readers do not change them. An instance of several
    phrases has an annotation for each, with its number as `instance`. Images have the names and sub-folders of the
    source; `original_file_name` is that of an image whose name had to change. If the rows do not label every phrase of
    the split exhaustively, each image also has the fields `neg_category_ids` and `not_exhaustive_category_ids` of
    LVIS. Reading the files gives the same rows.

    Args:
        rows (`datasets.Dataset`): Rows as in `row_schema.py`.
        folder (`str` or `Path`): Folder of the data set.
        split (`str`): Name of the split.
        polygons (`bool`): Write masks as polygons if these are exact; RLE otherwise. Default: `False`.
        splits (`tuple[str, ...]`, *optional*): All splits of the conversion; only this one by default.

    Returns:
        `Path`: The annotation file, which is written last.
    """
    stems = _split_stems(splits or (split,))
    folder, images = Path(folder), Path(folder) / f"{stems[split]}_images"
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    images.mkdir(exist_ok=True)
    texts = sorted({phrase["text"] for phrases in rows["phrases"] for phrase in phrases})
    ids = {text: number for number, text in enumerate(texts, 1)}
    closed = all(
        len(phrases) == len(texts) and all(phrase["exhaustive"] for phrase in phrases) for phrases in rows["phrases"]
    )
    files = {name: f"{stem}_coco.json" for name, stem in stems.items()}
    coco = {
        "info": ConversionInfo(split, files).to_json(),
        "images": [],
        "annotations": [],
        "categories": [{"id": number, "name": text, "supercategory": "phrase"} for text, number in ids.items()],
    }
    saver = _ImageSaver(images)
    undecoded = rows.cast_column("image", Image(decode=False))
    named = progress_bar(zip(undecoded, source_names(rows), strict=True), total=len(rows), caption=f"writing {split}")
    for number, (row, name) in enumerate(named, 1):
        entry = {"id": number, **saver.save(row, name)}
        entry |= {"width": row["width"], "height": row["height"], "example_id": row["example_id"]}
        coco["images"].append(entry if closed else entry | _label_completeness(row["phrases"], ids))
        for phrase in row["phrases"]:
            for index in phrase["instances"]:
                annotation = _annotation(row, row["instances"][index], polygons=polygons)
                annotation |= {"id": len(coco["annotations"]) + 1, "image_id": number, "instance": index}
                annotation |= {"category_id": ids[phrase["text"]], "noun_phrase": phrase["text"]}
                coco["annotations"].append(annotation)
    return write_json(folder / "annotations" / files[split], coco)


def _label_completeness(phrases: list[dict], ids: dict[str, int]) -> dict[str, list[int]]:
    """Return the fields of LVIS for the absent phrases and for those that are not exhaustive."""
    return {
        "neg_category_ids": [ids[p["text"]] for p in phrases if not p["instances"] and p["exhaustive"]],
        "not_exhaustive_category_ids": [ids[p["text"]] for p in phrases if not p["exhaustive"]],
    }


def _split_stems(splits: tuple[str, ...]) -> dict[str, str]:
    """Return the beginning of the file names of each split, without characters that a file name may not have."""
    names = ImageNames()
    stems = (re.sub(r"[^\w.-]+", "_", SHORT_SPLITS.get(split, split)) for split in splits)
    return {split: names.assign(stem, "") for split, stem in zip(splits, stems, strict=True)}


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


class _ImageSaver:
    """
    Writer of the images of one split.

    Args:
        folder (`Path`): Folder of the images.
    """

    def __init__(self, folder: Path):
        self.folder, self.names = folder, ImageNames()
        self._entries: dict[str, dict] = {}  # by path: rows may share an image file

    def save(self, row: dict, name: str | None) -> dict[str, str]:
        """
        Save the image of a row: the original bytes if they are upright and 8 bits, otherwise as PNG.

        Args:
            row (`dict`): The row, with an undecoded image.
            name (`str`, *optional*): Name of the image in the source. Default: the id of the row.

        Returns:
            `dict[str, str]`: `file_name`, and `original_file_name` if it differs.
        """
        value = row["image"]
        path = None if value["bytes"] else value["path"]
        if path in self._entries:
            return self._entries[path]
        content = value["bytes"] or Path(path).read_bytes()
        preferred = name or re.sub(r"[^\w.-]+", "_", row["example_id"]) + ".png"
        with PILImage.open(io.BytesIO(content)) as image:
            is_upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
            is_kept = is_upright and image.mode in _KEPT_MODES and image.format in SUFFIXES
            file_name = self.names.assign(preferred, kept_suffix(preferred, image) if is_kept else ".png")
            file = self.folder / file_name
            file.parent.mkdir(parents=True, exist_ok=True)
            if is_kept:
                file.write_bytes(content)
            else:
                to_rgb(image).save(file)
        entry = {"file_name": file_name}
        if name is not None and name != file_name:
            entry["original_file_name"] = to_printable(name)
        if path is not None:
            self._entries[path] = entry
        return entry


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

    Raises:
        `ValueError`: If `datasets` cannot read a split of one of the names.
    """
    folder = Path(folder)
    for name in splits:
        if name == "all" or not re.fullmatch(r"\w+(\.\w+)*", name):
            raise ValueError(
                f"`output_format` is 'rows', but `datasets` cannot read a split named {name!r}; it accepts letters, "
                "digits, `_` and `.`, but not `all`. Set `output_format: coco`, or rename the split in the source"
            )
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
    Embed the content of image files in rows, with the names and sub-folders of the source.

    Args:
        rows (`datasets.Dataset`): Rows as in `row_schema.py`.
    """
    arrow = rows.with_format("arrow").map(
        _embed_images,
        batched=True,
        with_indices=True,
        batch_size=16,
        fn_kwargs={"names": list(source_names(rows))},
        desc="embedding images",
    )
    return arrow.with_format(None)


def _embed_images(table: pa.Table, indices: list[int], names: list[str | None]) -> pa.Table:
    table = embed_table_storage(table)
    column, number = table["image"].combine_chunks(), table.schema.get_field_index("image")
    parts = [column.field("bytes"), pa.array([names[i] for i in indices], pa.string())]
    return table.set_column(number, table.schema.field(number), pa.StructArray.from_arrays(parts, ["bytes", "path"]))


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
