"""Training data of a Label Studio project: an export of its submitted annotations beside its images."""

import hashlib
import logging
from pathlib import Path, PurePosixPath

from ..data.readers.label_studio import path_of_reference
from ..utils.files import atomic_path, shorten_name
from ..utils.json_files import write_json
from ..utils.text import short_repr
from .label_studio_config import read_labelling_config
from .label_studio_images import TaskImages


logger = logging.getLogger("sam_ft.run")

_IMAGES = "images"
_FIELDS = ("id", "result", "ground_truth", "created_at", "updated_at")  # of an annotation; others name people


def export_project(images: TaskImages, project: int, file: Path) -> int:
    """
    Write the submitted annotations of a project as a JSON export, which the reader of Label Studio reads.

    The images lie in `images/` beside it: downloads, which later exports use again, and links to local files. Tasks
    without a submitted annotation are left out, and so are tasks whose image cannot be loaded, with a warning. Of the
    data of a task, only the image is written.

    Args:
        images (`TaskImages`): Source of the images, with the client of the server.
        project (`int`): Id of the project.
        file (`Path`): The export.

    Returns:
        `int`: Number of tasks in the export.

    Raises:
        `ValueError`: If the project cannot be read, its labelling configuration is not supported, no task has a
            submitted annotation, or none of the images can be loaded.
    """
    config = read_labelling_config(images.client.load_project(project).get("label_config") or "")
    annotated = [task for task in images.client.export_tasks(project) if _submitted(task)]
    if not annotated:
        raise ValueError(
            f"project {project} has no submitted annotation. Submit tasks in Label Studio, then start the training"
        )
    tasks, errors = [], []
    for task in annotated:
        data = task.get("data")
        reference = data.get(config.image_key) if isinstance(data, dict) else None
        try:
            name = _save_image(images, reference, file.parent / _IMAGES)
        except ValueError as error:
            errors.append(f"task {task.get('id')} is left out: {error}")
            continue
        tasks.append({"id": task.get("id"), "data": {"image": f"{_IMAGES}/{name}"}, "annotations": _submitted(task)})
    if not tasks:
        raise ValueError(f"no image of project {project} can be loaded: {errors[0]}")
    for line in errors:
        logger.warning("%s", line)
    write_json(file, tasks)
    return len(tasks)


def _submitted(task: dict) -> list[dict]:
    annotations = task.get("annotations")
    annotations = annotations if isinstance(annotations, list) else []
    return [
        {name: annotation[name] for name in _FIELDS if name in annotation}
        for annotation in annotations
        if isinstance(annotation, dict) and not annotation.get("was_cancelled")
    ]


def _save_image(images: TaskImages, reference, folder: Path) -> str:
    """Save an image below a name of its reference, unless it exists, and return the name."""
    if not isinstance(reference, str) or not reference:
        raise ValueError(f"its `data` has no image, got {short_repr(reference)}")
    digest = hashlib.blake2b(reference.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in PurePosixPath(path_of_reference(reference)).name)
    path = folder / f"{digest}-{shorten_name(name)}"
    if path.is_file():
        return path.name
    content = images.load(reference)
    with atomic_path(path) as draft:
        if isinstance(content, bytes):
            draft.write_bytes(content)
        else:
            draft.symlink_to(content)
    return path.name
