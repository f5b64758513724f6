"""
Keys of every command, made from `options/`, and the parser that reads them from YAML and command line.

No code that trains, evaluates or reads data belongs here; importing it imports neither torch nor Transformers.
"""

from .check import CheckArguments
from .convert import ConvertArguments
from .data import DataArguments
from .demo import DemoArguments
from .evaluation import EvalArguments
from .export import ExportArguments
from .loss import LossArguments, Sam2LossArguments
from .model import ModelArguments, Sam2ModelArguments
from .plan import PlanArguments
from .predict import PredictArguments, Sam2PredictArguments
from .review import ReviewArguments
from .run import SAM2_ARGUMENTS, SAM3_ARGUMENTS
from .sam2_data import Sam2DataArguments
from .serve import ServeArguments
from .training import ParsedTraining


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
    "ParsedTraining",
    "PlanArguments",
    "PredictArguments",
    "ReviewArguments",
    "Sam2DataArguments",
    "Sam2LossArguments",
    "Sam2ModelArguments",
    "Sam2PredictArguments",
    "ServeArguments",
]
