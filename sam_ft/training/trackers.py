"""Trackers of a run, which `report_to` names: pictures and the report, and the end of their runs."""

import sys
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter
from transformers import Trainer, TrainerCallback
from transformers.integrations import MLflowCallback, TensorBoardCallback, TrackioCallback, WandbCallback

from ..utils.secrets import redact, strip_url_secrets


def log_picture(callbacks: list[TrainerCallback], name: str, file: Path, step: int) -> None:
    """
    Send a picture to the trackers: TensorBoard, Weights & Biases, Trackio and MLflow.

    Args:
        callbacks (`list[TrainerCallback]`): Callbacks of a trainer; those that are no tracker are ignored.
        name (`str`): Name of the picture.
        file (`Path`): Its file.
        step (`int`): Optimizer step.
    """
    for callback in callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
            _add_to_tensorboard(callback.tb_writer, name, file, step)
        elif isinstance(callback, MLflowCallback) and callback._initialized:
            callback._ml_flow.log_image(_read_pixels(file), key=name, step=step)
        elif isinstance(callback, WandbCallback) and callback._initialized:
            callback._wandb.log({name: callback._wandb.Image(str(file)), "train/global_step": step})
        elif isinstance(callback, TrackioCallback) and callback._initialized:
            callback._trackio.log({name: callback._trackio.Image(str(file)), "train/global_step": step})


def _add_to_tensorboard(writer: SummaryWriter, name: str, file: Path, step: int) -> None:
    """Add a PNG file as it is; `add_image` would decode, resize and encode it again."""
    with Image.open(file) as image:
        width, height = image.size
    encoded = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=file.read_bytes())
    writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=name, image=encoded)]), step)


def _read_pixels(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


class RunTracking:
    """
    Context in which the trackers of a run stay open, so that they receive what follows the training.

    Transformers ends the runs of MLflow and Trackio with `train()`, and the last evaluation would begin new ones.
    """

    def __init__(self) -> None:
        self._trainer: Trainer | None = None

    def __enter__(self) -> Self:
        return self

    def begin(self, trainer: Trainer) -> None:
        """
        Keep the trackers of a trainer open; without `run_name`, their runs have the name of the output folder.

        Args:
            trainer (`Trainer`): Trainer of the run, before its first evaluation.
        """
        self._trainer = trainer
        trainer.args.run_name = trainer.args.run_name or Path(trainer.args.output_dir or "").name
        # Weights & Biases records the command line.
        sys.argv[1:] = [strip_url_secrets(redact(word)) for word in sys.argv[1:]]
        for callback in self._callbacks:
            if isinstance(callback, MLflowCallback | TrackioCallback):
                setattr(callback, "on_train_end", _ignore_event)  # noqa: B010 (replaces a method)

    @property
    def _callbacks(self) -> list[TrainerCallback]:
        """Callbacks of the process that writes; empty in the others."""
        if self._trainer is None or not self._trainer.is_world_process_zero():
            return []
        return self._trainer.callback_handler.callbacks

    def log_report(self, page: Path | None, picture: Path | None) -> None:
        """
        Send the report of the run to the trackers; TensorBoard, which shows no pages, gets its tables.

        Args:
            page (`Path`, *optional*): `report.html`, beside `report.md`; nothing is sent without it.
            picture (`Path`, *optional*): Sheet of the most improved images.
        """
        if page is None or self._trainer is None:
            return
        step = self._trainer.state.global_step
        if picture is not None:
            log_picture(self._callbacks, picture.stem, picture, step)
        for callback in self._callbacks:
            if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
                callback.tb_writer.add_text("report", page.with_suffix(".md").read_text(encoding="utf-8"), step)
            elif not getattr(callback, "_initialized", False):
                continue
            elif isinstance(callback, MLflowCallback):
                callback._ml_flow.log_artifact(str(page))
            elif isinstance(callback, WandbCallback):
                callback._wandb.log({"report": callback._wandb.Html(page.read_text(encoding="utf-8"))})
            elif isinstance(callback, TrackioCallback):
                callback._trackio.log_artifact(str(page), type="report")

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        trainer = self._trainer
        if trainer is None:
            return
        for callback in self._callbacks:
            if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
                callback.tb_writer.close()  # The file is complete.
                callback.tb_writer = None
            elif not getattr(callback, "_initialized", False):
                continue
            elif isinstance(callback, MLflowCallback):
                callback._ml_flow.end_run("FINISHED" if error_type is None else "FAILED")
            elif isinstance(callback, WandbCallback):
                callback._wandb.finish(0 if error_type is None else 1)
            elif isinstance(callback, TrackioCallback):
                type(callback).on_train_end(callback, trainer.args, trainer.state, trainer.control, trainer.model)


def _ignore_event(*_: object, **__: object) -> None:
    """Replace an event of a callback."""
