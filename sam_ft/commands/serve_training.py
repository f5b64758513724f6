"""Trainings that the backend of Label Studio starts: each has its own export, output folder and process."""

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ..arguments import DataArguments, ServeArguments
from ..inference.label_studio_config import read_labelling_config
from ..inference.label_studio_export import export_project
from ..inference.label_studio_images import TaskImages
from ..inference.label_studio_training import PROGRESS_FILE, TrainingProgress
from ..models.concept_sources import read_concept_sources
from ..options.model import ModelOptions
from ..utils.console import read_metrics
from ..utils.output_folders import FolderKind, claim_settings, lock_folder
from .program import find_command


logger = logging.getLogger("sam_ft.run")

TRAIN_FOLDER = FolderKind("train_dir", "serving.yaml", "trainings", "set these keys as they were")
_STOP_TIMEOUT_S = 30  # for the checkpoint after a step
_SECRETS = ("LABEL_STUDIO_API_KEY", "SAM_FT_SERVER_PASSWORD")  # variables that a training does not need


class ServedTrainings:
    """
    Trainings of the project `train_project` in the folder `train_dir`.

    Training number N has the export `data/N.json` beside the images of all exports, the output folder `runs/N`, and
    the messages in `runs/N.log`. It starts from the model that the backend was started with, or from the base of its
    concepts, and uses all annotations of the project.

    Args:
        serve_args (`ServeArguments`): Keys of the backend.
        source (`ModelOptions`): Model that the backend was started with.
        images (`TaskImages`): Source of the images.

    Raises:
        `ValueError`: If the keys of the training are not valid, the project cannot be read, or its labelling
            configuration is not supported.
    """

    def __init__(self, serve_args: ServeArguments, source: ModelOptions, images: TaskImages):
        self._args, self._images = serve_args, images
        self._folder = Path(serve_args.train_dir)
        self._base, _ = read_concept_sources(source)
        self._has_feature_cache = False
        self._has_feature_cache = self._parse_keys().feature_cache is not None
        self._process: subprocess.Popen | None = None
        self._is_stopped = False
        project = images.client.load_project(serve_args.train_project)
        read_labelling_config(project.get("label_config") or "")

    @contextlib.contextmanager
    def claim_folder(self, model_version: str) -> Iterator[None]:
        """
        Lock the folder while the context is open, and record or compare server, project and model.

        Args:
            model_version (`str`): Version of the model that the backend was started with.

        Raises:
            `ValueError`: If the folder is in use, or contains trainings of another server, project or model.
        """
        settings = {name: getattr(self._args, name) for name in ("label_studio", "train_project")}
        with lock_folder(self._folder, TRAIN_FOLDER):
            has_results = (self._folder / PROGRESS_FILE).is_file()
            claim_settings(self._folder, TRAIN_FOLDER, settings | {"model": model_version}, has_results=has_results)
            for name in self._list_names():  # of killed processes
                self._remove_features(name)
            yield

    def find_finished(self) -> Path | None:
        """Return the folder of the last model, or `None` if no training finished or its folder was removed."""
        name = TrainingProgress.read(self._folder).finished
        folder = None if name is None else self.folder_of(name)
        if folder is not None and not folder.is_dir():
            logger.warning("%s was removed; the model of `model_name_or_path` is served instead", folder)
            return None
        return folder

    def folder_of(self, name: str) -> Path:
        """Return the output folder of a training."""
        return self._folder / "runs" / name

    def run(self) -> str:
        """
        Export the project and train.

        Returns:
            `str`: Name of the training.

        Raises:
            `ValueError`: If the export or the training fails; contains the last message of the training.
        """
        name = f"{max(map(int, self._list_names()), default=0) + 1:04d}"
        number = export_project(self._images, self._args.train_project, self._export_of(name))
        logger.info("training %s: %d annotated tasks", name, number)
        log = self.folder_of(name).with_suffix(".log")
        log.parent.mkdir(exist_ok=True)
        try:
            code = self._run_process(self._list_keys(name), log)
        finally:
            self._remove_features(name)
        if code != 0:
            reason = f"it was ended by {signal.Signals(-code).name}" if code < 0 else _read_last_line(log)
            raise ValueError(f"training {name} failed: {reason} ({log})")
        logger.info("✓ training %s: %s%s", name, self.folder_of(name), _describe_gain(self.folder_of(name)))
        return name

    def stop(self) -> None:
        """End the training that runs, after a checkpoint, and start no other."""
        self._is_stopped = True
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_TIMEOUT_S)
            process.kill()

    def _run_process(self, keys: list[str], log: Path) -> int:
        command = [sys.executable, "-m", "sam_ft.commands.training_process", "finetune", *keys]
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=stream, stderr=stream, env=self._build_environment(),
                start_new_session=True,  # a key on the terminal reaches the backend alone, which ends the training
            )  # fmt: skip
            with self._process:
                if self._is_stopped:
                    self._process.terminate()
                return self._process.wait()

    def _build_environment(self) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if name not in _SECRETS}
        kind, _, index = (self._args.device or "cuda").partition(":")
        if kind == "cuda":  # one process trains on one GPU
            number, visible = int(index or 0), environment.get("CUDA_VISIBLE_DEVICES")
            names = [str(number)] * (number + 1) if visible is None else visible.split(",")
            environment["CUDA_VISIBLE_DEVICES"] = names[min(number, len(names) - 1)]
        return environment

    def _list_keys(self, name: str) -> list[str]:
        """Return the command line of a training."""
        values = {
            "config": self._args.train_config,
            "model_name_or_path": self._base.model_name_or_path,
            "model_revision": self._base.revision,
            "dataset_name": self._export_of(name),
            "allow_outside_images": "true",  # the images are links to local files
            "output_dir": self.folder_of(name),
            "disable_tqdm": "true",
            "feature_cache": self._features_of(name) if self._has_feature_cache else None,
            "use_cpu": "true" if self._args.device == "cpu" else None,
        }
        return [word for key, value in values.items() if value is not None for word in (f"--{key}", str(value))]

    def _parse_keys(self) -> DataArguments:
        """Check the keys of the trainings, and return those of the data."""
        try:
            _, data_args, *_ = find_command("finetune").make_parser().parse(self._list_keys("0000"))
        except ValueError as error:
            raise ValueError(f"`train_config`: {error}") from error
        return data_args

    def _export_of(self, name: str) -> Path:
        return self._folder / "data" / f"{name}.json"

    def _features_of(self, name: str) -> Path:
        return self._folder / "features" / name

    def _remove_features(self, name: str) -> None:
        shutil.rmtree(self._features_of(name), ignore_errors=True)

    def _list_names(self) -> list[str]:
        """Return the names of all trainings, unfinished ones included."""
        files = [*self._folder.glob("data/*.json"), *self._folder.glob("runs/*"), *self._folder.glob("features/*")]
        return sorted({file.stem for file in files if file.stem.isdecimal()})


def _describe_gain(folder: Path) -> str:
    files = {prefix: folder / f"{prefix}_results.json" for prefix in ("before", "eval")}
    values = [read_metrics(file, f"{prefix}_").get("mask_AP50", -1) for prefix, file in files.items()]
    return "" if min(values) < 0 else f", mask AP50 {values[0]:.2f} → {values[1]:.2f} in images that were held out"


def _read_last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip()[:500] for line in reversed(lines) if line.strip()), "it wrote no message").rstrip(".")
