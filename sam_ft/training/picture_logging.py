"""Pictures of an evaluation, to whatever logs its numbers."""

from pathlib import Path

import numpy as np
from PIL import Image
from transformers import TrainerCallback


class LogPictures(TrainerCallback):
    """
    Sends the sheet of pictures that each evaluation writes to the loggers of `report_to`: TensorBoard, Weights & Biases, Trackio.

    Args:
        trainer (`Trainer`): whose other callbacks are the loggers.
    """

    def __init__(self, trainer):
        self.trainer = trainer

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        sheet = Path(args.output_dir) / "eval" / "pictures.png"
        ours = any(name.startswith("eval_") for name in metrics or ())  # not an evaluation before training
        if not state.is_world_process_zero or not ours or not sheet.is_file():
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
