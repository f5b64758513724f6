"""
Keys of every command: default, help and allowed range, and the parser that reads them from YAML and command line.

No code that trains, evaluates or reads data belongs here.
"""

from .check import CheckArguments
from .convert import ConvertArguments
from .data import DataArguments
from .demo import DemoArguments
from .evaluation import EvalArguments
from .export import ExportArguments
from .loss import LossArguments
from .model import ModelArguments, Sam2ModelArguments
from .plan import PlanArguments
from .predict import PredictArguments, Sam2PredictArguments
from .run import SAM2_ARGUMENTS, SAM3_ARGUMENTS, Run
from .sam2 import Sam2DataArguments, Sam2LossArguments, Sam2TrainingArguments
from .training import Sam3TrainingArguments, SamTrainingArguments


__all__ = [
    "SAM2_ARGUMENTS",
    "SAM3_ARGUMENTS",
    "CheckArguments",
    "ConvertArguments",
    "DataArguments",
    "DemoArguments",
    "EvalArguments",
    "ExportArguments",
    "LossArguments",
    "ModelArguments",
    "PlanArguments",
    "PredictArguments",
    "Run",
    "Sam2DataArguments",
    "Sam2LossArguments",
    "Sam2ModelArguments",
    "Sam2PredictArguments",
    "Sam2TrainingArguments",
    "Sam3TrainingArguments",
    "SamTrainingArguments",
]
