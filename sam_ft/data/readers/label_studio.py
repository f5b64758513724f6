"""Reader of Label Studio: one JSON export of all tasks. `label_studio_regions.py` converts the regions of a task."""

import re
from collections import Counter
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from ...options.data import ReadOptions
from ...utils.text import list_some, short_repr
from ..row_schema import DatasetFormatError
from .files import folder_of_file, image_suffixes, split_of_folder, split_of_name
from .images import ImageError, find_image
from .json_files import read_json
from .label_studio_regions import Region, group_regions, region_shapes
from .records import Record, Split


FORM = "a JSON export of Label Studio (tasks with `data` and `annotations`) beside its images, or beside images/"
_UPLOAD_HASH = re.compile(r"[0-9a-f]{8}-(?=.)")  # Label Studio writes it in front of the names of uploaded files.
_MAX_PARTS = 16  # of the path of an image, from its end, that are searched


def find(folder: Path) -> dict[str, partial] | None:
    """Return a function that reads each split of a folder of Label Studio exports; `None` for another layout."""
    splits: dict[str, list[Path]] = {}
    for file in sorted([*folder.glob("*.json"), *folder.glob("*/*.json")]):
        if not file.name.startswith(".") and _is_export(file):
            splits.setdefault(split_of_name(file.stem) or split_of_folder(file, folder), []).append(file)
    return {split: partial(_read, folder, files) for split, files in splits.items()} or None


def find_file(file: Path) -> dict[str, partial] | None:
    """Return a function that reads a Label Studio export as training data; `None` for another file."""
    is_export = file.suffix == ".json" and _is_export(file)
    return {"train": partial(_read, folder_of_file(file), [file])} if is_export else None


def _is_export(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open(encoding="utf-8-sig", errors="replace") as stream:
        if not stream.read(1000).lstrip().startswith("["):
            return False
    try:
        content = read_json(file, "Label Studio")
    except DatasetFormatError:
        return False
    task = content[0] if isinstance(content, list) and content else None
    if not isinstance(task, dict):
        return False
    if "data" not in task and {"annotation_id", "annotator", "lead_time"} <= task.keys():
        raise DatasetFormatError(
            "this is Label Studio's export `JSON-MIN`, which has no list of annotations; export the project again as "
            "`JSON`",
            file=str(file),
        )
    return isinstance(task.get("data"), dict) and ("annotations" in task or "completions" in task)


def _read(folder: Path, files: list[Path], _options: ReadOptions) -> Split:
    return _ExportReader(folder, files).split


class _ExportReader:
    """Conversion of the tasks of Label Studio exports to a `Split`."""

    def __init__(self, folder: Path, files: list[Path]):
        self.split = Split(str(files[0] if len(files) == 1 else folder), [], {}, has_inferred_labels=True)
        tasks = [(file, number, task) for file in files for number, task in enumerate(_tasks(file))]
        paths = {path for _, _, task in tasks for path in _image_paths(task["data"]).values()}
        self.tail_counts = Counter(tail for path in paths for tail in _tails(path))
        self.folder, self.unlabelled, self.sources = folder, 0, {}
        for file, number, task in tasks:
            self._add(file, f"{file.name}, task {task.get('id', number)}", task)
        labels = {shape.label for record in self.split.records for shape in record.shapes if shape.label is not None}
        self.split.labels = {label: label for label in sorted(labels)}
        if self.unlabelled:
            self.split.notes.append(f"{self.unlabelled} tasks have no completed annotation and are left out")

    def _add(self, file: Path, where: str, task: dict):
        """Add the record of a task that has a completed annotation."""
        annotation = self._choose_annotation(file, where, task)
        if annotation is None:
            self.unlabelled += 1
            return
        results = annotation.get("result")
        if not isinstance(results, list):
            raise DatasetFormatError(
                f"`result` is {short_repr(results)}; expected a list of regions", file=str(file), record=where
            )
        regions, problems = group_regions(results, self.split.notes)
        name, image = self._find_image(file, task["data"], regions)
        self._refuse_repeated_task(file, where, (str(task.get("id")), name))
        size = next((region.size for region in regions if region.size is not None), None)
        self.split.records.append(Record(name, where, image, [*region_shapes(regions, size), *problems], size))

    def _choose_annotation(self, file: Path, where: str, task: dict) -> dict | None:
        """Return the ground truth or newest completed annotation of a task."""
        annotations = task.get("annotations", task.get("completions"))  # The second is the name before version 1.0.
        if not isinstance(annotations, list) or not all(isinstance(a, dict) for a in annotations):
            raise DatasetFormatError(
                f"`annotations` is {short_repr(annotations)}; expected a list of objects", file=str(file), record=where
            )
        completed = [a for a in annotations if not a.get("was_cancelled") and not a.get("skipped")]
        if len(completed) < len(annotations):
            self.split.notes.append("annotations of a task that were cancelled or skipped are left out")
        if task.get("predictions"):
            self.split.notes.append("predictions of a task are not read")
        if len(completed) > 1:
            self.split.notes.append(
                "a task has several annotations; the one marked as ground truth is read, else the newest"
            )
        dated = (
            (bool(a.get("ground_truth")), str(a.get("updated_at") or a.get("created_at") or "")) for a in completed
        )
        ranked = [(*rank, number) for number, rank in enumerate(dated)]
        return completed[max(ranked)[-1]] if ranked else None

    def _refuse_repeated_task(self, file: Path, where: str, key: tuple[str, str]):
        other = self.sources.setdefault(key, file)
        if other != file:
            raise DatasetFormatError(
                f"the task is also in {other}; keep the newest export of a project", file=str(file), record=where
            )

    def _find_image(self, file: Path, data: dict, regions: list[Region]) -> tuple[str, Path | ImageError]:
        """Return the name of the image of a task, and its file or the reason why it is missing."""
        try:
            path = _image_path(data, regions)
        except ImageError as error:
            return short_repr(data), error
        folders = list(dict.fromkeys((file.parent, file.parent / "images", self.folder / "images", self.folder)))
        name = PurePosixPath(path).name or path
        tails = _tails(path)
        for number, tail in enumerate(tails):
            if number and self.tail_counts[tail] > 1:  # Two images share this part of their paths.
                continue
            try:
                found = find_image(tail, folders, by_bare_name=False)
            except ImageError:
                continue
            if found.name != name:
                self.split.notes.append("an image is found without the hash of uploads in front of its name")
            return name, found
        try:
            return name, find_image(path, folders, by_bare_name=False)
        except ImageError as error:
            return name, error


def _tasks(file: Path) -> list[dict]:
    tasks = read_json(file, "Label Studio")
    if not isinstance(tasks, list):
        raise DatasetFormatError("a Label Studio export is a list of tasks; export the project again", file=str(file))
    for number, task in enumerate(tasks):
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            raise DatasetFormatError(
                f"a task needs `data`, an object with the path of its image, found {short_repr(task)}",
                file=str(file),
                record=f"task {number}",
            )
    return tasks


def _image_paths(data: dict) -> dict[str, str]:
    """Return the paths of the images of a task by their keys in `data`."""
    paths = {str(key): path_of_reference(value) for key, value in data.items() if isinstance(value, str) and value}
    images = {key: path for key, path in paths.items() if PurePosixPath(path).suffix.lower() in image_suffixes()}
    return images or {key: path for key, path in paths.items() if key in ("image", "img")}


def path_of_reference(reference: str) -> str:
    """Return the decoded path of an upload, a local file (`/data/local-files/?d=PATH`), a URL or a plain path."""
    try:
        parts = urlsplit(reference)
    except ValueError:
        return reference
    local = re.search(r"(?:^|&)d=([^&]*)", parts.query)
    return unquote(local.group(1) if local else parts.path).replace("\\", "/")


def _image_path(data: dict, regions: list[Region]) -> str:
    """Return the path of the image that the regions of a task are drawn on."""
    paths, names = _image_paths(data), {region.image_name for region in regions} - {None}
    if len(names) > 1:
        raise ImageError(
            f"its regions belong to several images, {list_some(sorted(map(repr, names)))}; label each image in a task "
            "of its own"
        )
    key = next(iter(names), None)
    if key not in paths and len(paths) != 1:
        found = f"several, {list_some(paths)}" if paths else f"none in {short_repr(data)}"
        raise ImageError(f"a task needs one image in `data`, found {found}; label each image in a task of its own")
    return paths[key] if key in paths else next(iter(paths.values()))


def _tails(path: str) -> list[str]:
    """Return the ends of a path, the longest first, and its name without the hash of uploads."""
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", "//", "..")][-_MAX_PARTS:]
    tails = ["/".join(parts[i:]) for i in range(len(parts))]
    bare = _UPLOAD_HASH.sub("", parts[-1], count=1) if parts and _UPLOAD_HASH.match(parts[-1]) else ""
    return [*tails, bare] if bare else tails
