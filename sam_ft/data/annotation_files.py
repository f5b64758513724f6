"""COCO files that are set by `annotation_file` and `eval_annotation_file`, beside the folder of a data set or not."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from ..options.data import SYNTHETIC, SYNTHETIC_STREAM, DatasetOptions, HubSource
from .readers.coco import read_json_split
from .readers.coco_tree import CocoFiles, image_folders_of
from .sources import LocalSplit


def locate_annotation_files(options: DatasetOptions) -> DatasetOptions:
    """
    Complete the paths of annotation files and image folders that are set beside the folder `dataset_name`.

    Args:
        options (`DatasetOptions`): The data sets.

    Returns:
        `DatasetOptions`: The same options; paths that exist in the folder are paths in it.

    Raises:
        `ValueError`: If `annotation_file` is set beside a `dataset_name` that is not a folder.
    """
    folder = _data_folder(options)
    if folder is None:
        return options
    if not folder.is_dir():
        raise ValueError(
            f"`annotation_file` is {options.annotation_file!r} and `dataset_name` is {options.dataset_name!r}, which "
            "is not a folder. Set `dataset_name` to the folder of the data set, or remove it"
        )
    names = ("annotation_file", "image_folder", "eval_annotation_file", "eval_image_folder")
    values = {name: getattr(options, name) for name in names}
    return replace(
        options, **{name: str(folder / v) for name, v in values.items() if v is not None and (folder / v).exists()}
    )


def _data_folder(options: DatasetOptions) -> Path | None:
    """Return the folder of `dataset_name` if it is set beside `annotation_file`."""
    if not options.annotation_file or options.dataset_name in (None, SYNTHETIC, SYNTHETIC_STREAM):
        return None
    return Path(options.dataset_name)


def find_annotation_splits(options: DatasetOptions) -> dict[str, LocalSplit]:
    """
    Return the splits of annotation files.

    Args:
        options (`DatasetOptions`): The data sets, with complete paths; see [`locate_annotation_files`].

    Returns:
        `dict[str, LocalSplit]`: The training split, and the evaluation split if `eval_annotation_file` is set.

    Raises:
        `ValueError`: If an image folder does not exist, or another key has no effect.
    """
    if options.layout is not None or replace(options.hub, streaming=False) != HubSource():
        raise ValueError(
            "`layout`, `column_mapping` and other keys of folders and Hub data sets have no effect on "
            "`annotation_file`; remove them"
        )
    train = options.train_split
    splits = {train: _coco_split(options, train, options.annotation_file, options.image_folder, "image_folder")}
    if options.eval_annotation_file:
        if options.eval_split == train:
            raise ValueError(
                f"`eval_split` and `train_split` are both {train!r} beside two annotation files; set `eval_split: "
                "validation`"
            )
        folder = options.eval_image_folder or options.image_folder
        splits[options.eval_split] = _coco_split(
            options, options.eval_split, options.eval_annotation_file, folder, "eval_image_folder"
        )
    return splits


def _coco_split(options: DatasetOptions, split: str, name: str, image_folder: str | None, argument: str) -> LocalSplit:
    file, root = Path(name), _data_folder(options)
    if image_folder is None and root is not None:
        folders = image_folders_of(root, file, split)
    else:
        folders = [Path(image_folder) if image_folder else file.parent]
        if not folders[0].is_dir():
            raise ValueError(f"`{argument}`: there is no folder {str(folders[0])!r}")
    roots = [*folders, file.parent, *([root] if root is not None else [])]
    return LocalSplit(partial(read_json_split, CocoFiles(file, folders)), "coco", roots)
