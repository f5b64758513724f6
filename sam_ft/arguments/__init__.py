"""
Every key of a run. The `help` texts are the reference; functions below `training/` take the plain options that the
methods here make of them.
"""

from .check import CheckArguments
from .convert import ConvertArguments
from .data import DataArguments
from .demo import DemoArguments
from .evaluation import EvalArguments
from .export import ExportArguments
from .loss import LossArguments
from .model import ModelArguments
from .plan import PlanArguments
from .predict import PredictArguments
from .training import Sam3TrainingArguments


SAM3_ARGUMENTS = (ModelArguments, DataArguments, LossArguments, Sam3TrainingArguments)
__all__ = [
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
    "Sam3TrainingArguments",
]
