"""Keys of a training run by model family, and the old names of renamed keys."""

from ..options.training import Sam2TrainingKeys, Sam3TrainingKeys
from .data import DataArguments
from .loss import LossArguments, Sam2LossArguments
from .model import ModelArguments, Sam2ModelArguments
from .sam2_data import Sam2DataArguments


SAM3_ARGUMENTS = (ModelArguments, DataArguments, LossArguments, Sam3TrainingKeys)
SAM2_ARGUMENTS = (Sam2ModelArguments, Sam2DataArguments, Sam2LossArguments, Sam2TrainingKeys)
# Recipe that takes the keys.
RECIPES = {"sam3_ft.py": SAM3_ARGUMENTS, "sam2_ft.py": SAM2_ARGUMENTS}
# Old name -> new name of a key; an old name is refused with its new one.
RENAMED_KEYS = {
    "keep_score_threshold": "eval_score_threshold",
    "keep_max_detections": "eval_max_detections",
}
