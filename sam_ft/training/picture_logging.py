"""Callback that sends the pictures of an evaluation to the loggers."""

from pathlib import Path

import numpy as np
from PIL import Image
from transformers import TrainerCallback


class LogPictures(TrainerCallback):
    """
    Callback that sends the pictures of each evaluation to TensorBoard, Weights & Biases or Trackio.

    Args:
        trainer (`Trainer`): Trainer whose other callbacks are the loggers.
    """

    def __init__(self, trainer):
        self.trainer = trainer

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        sheet = Path(args.output_dir) / "eval" / "pictures.png"
        # The evaluation before training has another prefix.
        is_in_training = any(name.startswith("eval_") for name in metrics or ())
        if not state.is_world_process_zero or not is_in_training or not sheet.is_file():
            return
        for callback in self.trainer.callback_handler.callbacks:
            if getattr(callback, "tb_writer", None) is not None:
                with Image.open(sheet) as image:
                    pixels = np.asarray(image.convert("RGB"))
                callback.tb_writer.add_image("eval/pictures", pixels, state.global_step, dataformats="HWC")
            for name in ("_wandb", "_trackio"):
                logger = getattr(callback, name, None)
                if logger is not None and getattr(callback, "_initialized", False):
                    logger.log({"eval/pictures": logger.Image(str(sheet)), "train/global_step": state.global_step})
