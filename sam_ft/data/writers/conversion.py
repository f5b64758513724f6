"""Target folder of a conversion, and writer of rows as parquet for the Hub and `datasets`."""

import contextlib
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetInfo, Image
from datasets.table import embed_table_storage
from huggingface_hub import DatasetCard, DatasetCardData, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from ...utils.console import progress_bar
from ...utils.drafts import check_replaceable, folder_draft
from ...utils.owned_files import RECORD
from ...utils.parallel import mapped_chunks
from ...utils.secrets import check_no_secrets
from ...utils.text import list_some
from ..row_schema import phrase_texts
from .image_names import source_names


MARKER = ".written-by-sam-ft"  # marks a finished conversion
CARD = "README.md"
_ARGUMENT, _KIND = "target_dir", "conversion"
_BATCH = 64  # rows whose images are in memory to find their sizes
_SMALL_FILE, _LARGE_FILE = 32 << 20, 100 << 20  # bytes of images of a parquet file, which a process has in memory
_TAG = "sam-ft"  # of data sets on the Hub
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
def conversion_target(folder: Path, *, overwrite: bool, num_proc: int | None = None) -> Iterator[Path]:
    """
    Yield a temporary folder for a conversion, which becomes `folder` when the context ends without an error.

    Args:
        folder (`Path`): The target.
        overwrite (`bool`): Replace an earlier conversion, which remains until the new one is complete.
        num_proc (`int`, *optional*): Number of processes, see [`mapped_chunks`].

    Raises:
        `ValueError`: As [`check_replaceable`]; if another process converts to the same folder.
    """
    with folder_draft(folder, _KIND, _ARGUMENT, overwrite=overwrite, allowed=(MARKER,), num_proc=num_proc) as draft:
        yield draft
        (draft / MARKER).touch()


def write_rows(splits: dict[str, Dataset], folder: str | Path, source: str, num_proc: int | None = None) -> Path:
    """
    Write a data set card and files `data/SPLIT-NUMBER-of-NUMBER.parquet` with embedded images.

    `load_dataset(folder)` and `dataset_name` read the folder.

    Args:
        splits (`dict[str, datasets.Dataset]`): Rows of each split, as in `row_schema.py`.
        folder (`str` or `Path`): Folder of the data set.
        source (`str`): Source of the data, for the card.
        num_proc (`int`, *optional*): Number of processes, see [`mapped_chunks`].

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
        _write_split(rows, folder / "data", name, num_proc)
    (folder / CARD).write_text(format_card(splits, folder.resolve().name, source), encoding="utf-8")
    return folder


def _write_split(rows: Dataset, folder: Path, name: str, num_proc: int | None) -> None:
    arrow, names, parts = rows.with_format("arrow"), list(source_names(rows)), _divide(rows)

    def write(numbers: range) -> int:
        number = 0
        for i in numbers:
            part = parts[i]
            table = _embed_images(arrow[part.start : part.stop], names[part.start : part.stop])
            # Computing the fingerprint would copy all images.
            embedded = Dataset(table, info=DatasetInfo(features=rows.features), fingerprint="embedded")
            embedded.to_parquet(folder / f"{name}-{i:05}-of-{len(parts):05}.parquet")
            number += len(part)
        return number

    with (
        progress_bar(total=len(rows), caption="embedding images") as bar,
        mapped_chunks(write, len(parts), num_proc, size=1) as chunks,
    ):
        for number in chunks:
            bar.update(number)


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
        tags=["sam3", "concept-segmentation", _TAG],
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
    table = rows.select_columns(["instances", "phrases"]).with_format("arrow")[:]
    members = pc.struct_field(pc.list_flatten(table["phrases"]), "instances")
    return {
        "name": name,
        "images": len(rows),
        "instances": len(pc.list_flatten(table["instances"])),
        "phrases": len(phrase_texts(rows)),
        "absent": pc.sum(pc.equal(pc.list_value_length(members), 0)).as_py() or 0,
    }


def _divide(rows: Dataset) -> list[range]:
    """
    Divide rows into parts for one parquet file each.

    Files have about `_SMALL_FILE` bytes of images; where these would be more than 64 files, they are larger, up to
    about `_LARGE_FILE`. The division depends on the rows alone, not on the number of processes.
    """
    ends = np.cumsum([0, *_image_bytes(rows)])
    size = min(max(ends[-1] // 64, _SMALL_FILE), _LARGE_FILE)
    numbers = ends[:-1] // size  # of the file of each row
    begins = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(rows)]
    return [range(begin, end) for begin, end in itertools.pairwise(begins)]


def _image_bytes(rows: Dataset) -> Iterator[int]:
    """Yield the size of the encoded image of each row, in bytes."""
    images = rows.select_columns("image").cast_column("image", Image(decode=False)).with_format("arrow")
    for batch in images.iter(_BATCH):
        lengths = pc.fill_null(pc.binary_length(pc.struct_field(batch["image"], "bytes")), 0).to_pylist()
        for length, path in zip(lengths, pc.struct_field(batch["image"], "path").to_pylist(), strict=True):
            yield length or os.path.getsize(path)


def _embed_images(table: pa.Table, names: list[str | None]) -> pa.Table:
    """Embed the content of image files, with the names and sub-folders of the source."""
    table, remaining = embed_table_storage(table), iter(names)
    number, chunks = table.schema.get_field_index("image"), []
    field = table.schema.field(number)
    for chunk in table["image"].chunks:  # Combining them would copy all images.
        paths = pa.array(itertools.islice(remaining, len(chunk)), pa.string())
        chunks.append(pa.StructArray.from_arrays([chunk.field("bytes"), paths], ["bytes", "path"]))
    return table.set_column(number, field, pa.chunked_array(chunks, field.type))


def push_rows(folder: str | Path, repo_id: str, *, private: bool) -> None:
    """
    Push the folder of [`write_rows`] to a data set on the Hub; it replaces an earlier push.

    Args:
        folder (`str` or `Path`): Folder of the data set.
        repo_id (`str`): Repository of the data set.
        private (`bool`): Create the repository as a private one.

    Raises:
        `ValueError`: If the Hub refuses the upload, or if the repository contains a card or files of these splits that
            no conversion wrote.
    """
    check_no_secrets(file for file in Path(folder).rglob("*") if file.is_file())
    api, splits = HfApi(), {file.name.rsplit("-", 3)[0] for file in Path(folder, "data").iterdir()}
    with _explained_errors(repo_id):
        api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        names = api.list_repo_files(repo_id, repo_type="dataset")
        written = re.compile(rf"data/({'|'.join(map(re.escape, splits))})-\d{{5}}-of-\d{{5}}\.parquet")
        replaced = [name for name in names if name == CARD or written.fullmatch(name)]
        is_ours = CARD in names and _TAG in (DatasetCard.load(repo_id).data.get("tags") or [])
    if replaced and not is_ours:
        raise ValueError(
            f"`push_to_hub`: {repo_id!r} contains {list_some(replaced)}, which no conversion wrote and this one would "
            "replace. Push to another repository"
        )
    with _explained_errors(repo_id):
        api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            repo_type="dataset",
            ignore_patterns=[MARKER, RECORD],
            delete_patterns=replaced,  # A division into other files would otherwise be read together with these.
        )


@contextlib.contextmanager
def _explained_errors(repo_id: str) -> Iterator[None]:
    """Convert errors of the Hub to a `ValueError` with the remedy."""
    try:
        yield
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise ValueError(
            f"`push_to_hub`: {repo_id!r} cannot be written ({error}). Run `hf auth login`, and check the name"
        ) from error
