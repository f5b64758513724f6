"""Trainings on the annotations of a Label Studio project, one after another, in a thread of the backend."""

import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..utils.errors import describe_error
from ..utils.json_files import read_json_file, write_json
from ..utils.text import short_repr


logger = logging.getLogger("sam_ft.run")

PROGRESS_FILE = "progress.json"
_CREATED, _UPDATED = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED"), ("ANNOTATION_UPDATED",)
_START = "START_TRAINING"


@dataclass
class TrainingProgress:
    """
    Recorded progress of the trainings of a project.

    Attributes:
        finished (`str`, *optional*): Name of the last training that finished, whose model is served.
        new_annotations (`list[int]`): Ids of the annotations since the begin of the last training.
    """

    finished: str | None = None
    new_annotations: list[int] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> "TrainingProgress":
        """
        Read the progress in a folder; that of a new folder is empty.

        Raises:
            `ValueError`: If the file cannot be read; names it.
        """
        file = folder / PROGRESS_FILE
        if not file.is_file():
            return cls()
        content = read_json_file(file, "train_dir", remedy="Choose another `train_dir`")
        try:
            return cls(**content)
        except TypeError as error:
            raise ValueError(f"`train_dir`: {file} is no record of trainings. Choose another `train_dir`") from error

    def write(self, folder: Path) -> None:
        """Write the progress atomically."""
        write_json(folder / PROGRESS_FILE, asdict(self))


class ProjectTraining:
    """
    Trainings of a project: they start on events of Label Studio, and one runs at a time.

    Events of annotations that arrive during a training count for the next one. The ids of new annotations and the
    last finished training are recorded, so that a killed process continues after its next start.

    Args:
        project (`int`): Id of the project.
        min_annotations (`int`): Number of new or changed annotations that start a training; with 0, only a request of
            the user does.
        folder (`Path`): Folder of the progress.
        train (`Callable[[], str]`): Runs a training, serves its model, and returns the name of the training. Raises
            `ValueError` if the training fails; the model that was served before is then still served.
        stop (`Callable[[], None]`): Ends the training that runs, if there is one.
    """

    def __init__(
        self,
        project: int,
        min_annotations: int,
        folder: Path,
        train: Callable[[], str],
        stop: Callable[[], None] = lambda: None,
    ):
        self.project, self.min_annotations = project, min_annotations
        self._folder, self._train, self._stop = folder, train, stop
        progress = TrainingProgress.read(folder)
        self._finished, self._new = progress.finished, dict.fromkeys(progress.new_annotations)
        self._used: dict[int, None] = {}  # annotations of the training that runs
        self._changed = threading.Condition()
        self._is_requested = self._is_running = self._is_closed = False
        self._error: str | None = None
        self._thread = threading.Thread(target=self._run, name="training", daemon=True)

    def start(self) -> None:
        """Start the thread, and a training if enough annotations were recorded before the last end of the process."""
        self._thread.start()

    def close(self) -> None:
        """End the training that runs, and the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._stop()
        if self._thread.is_alive():
            self._thread.join()

    def describe(self) -> dict:
        """Return the state of the trainings for users: running or waiting, annotations, last training and error."""
        with self._changed:
            description = {
                "state": "running" if self._is_running else "waiting",
                "project": self.project,
                "new_annotations": len(self._new),
                "train_after": self.min_annotations,
                "finished": self._finished,
            }
            return description if self._error is None else description | {"error": self._error}

    def request(self, project: object) -> None:
        """
        Request a training, which starts now or after the present one.

        Args:
            project: Id of the project, or the project with its id.

        Raises:
            `ValueError`: If it is another project.
        """
        self._check_project(project)
        with self._changed:
            self._is_requested = True
            self._changed.notify()

    def receive(self, event: dict) -> None:
        """
        Receive an event of Label Studio; events that concern no annotation are ignored.

        Args:
            event (`dict`): `action`, `project`, and `annotation` for events of annotations.

        Raises:
            `ValueError`: If the event belongs to another project, or does not name its annotation.
        """
        action = event.get("action")
        if action == _START:
            self.request(event.get("project"))
        if action not in (*_CREATED, *_UPDATED):
            return
        self._check_project(event.get("project"))
        annotations = event.get("annotation")
        annotations = annotations if isinstance(annotations, list) else [annotations]
        submitted = [a for a in annotations if not (isinstance(a, dict) and a.get("was_cancelled"))]
        ids = [a.get("id") if isinstance(a, dict) else None for a in submitted]
        if not all(isinstance(number, int) for number in ids):
            raise ValueError(
                f"an event {action} must contain its annotation, got {short_repr(event.get('annotation'))}. Switch "
                "on 'Send payload' of the webhook in Label Studio"
            )
        with self._changed:
            self._new |= dict.fromkeys(ids)
            self._record()
            self._changed.notify()

    def _check_project(self, project: object) -> None:
        number = project.get("id") if isinstance(project, dict) else project
        if isinstance(number, str):  # Label Studio appends the time of creation: 3.1718000000
            number = number.partition(".")[0]
        if str(number) != str(self.project):
            raise ValueError(
                f"the event belongs to project {short_repr(number)}, but the annotations of project {self.project} "
                "train this model. Start another backend with `train_project` set to the id of that project"
            )

    @property
    def _is_due(self) -> bool:
        return self._is_requested or 0 < self.min_annotations <= len(self._new)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_due or self._is_closed)
                if self._is_closed:
                    return
                self._is_requested, self._is_running, self._used, self._new = False, True, self._new, {}
            finished, error = None, None
            try:
                finished = self._train()
            except Exception as raised:  # the thread must not end
                error = describe_error(raised)
                if error is None:
                    error = f"{type(raised).__name__}; see the log of the backend"
                    logger.exception("training")
            with self._changed:
                self._is_running = False
                if self._is_closed and error is not None:  # stopped: its annotations remain recorded as new
                    return
                self._error, self._finished, self._used = error, finished or self._finished, {}
                self._record()
            if error is not None:
                logger.error("✗ training: %s. The model that was served before is still served", error.rstrip("."))

    def _record(self) -> None:
        try:
            TrainingProgress(self._finished, list(self._used | self._new)).write(self._folder)
        except OSError as error:
            logger.error("%s cannot be written (%s). Free some space", self._folder / PROGRESS_FILE, error)
