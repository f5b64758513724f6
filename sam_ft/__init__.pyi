"""Public names, imported from the modules that define them; `sam_ft/__init__.py` reads this list."""

from .data.loading import load_phrase_dataset as load_phrase_dataset
from .data.samples.collators import Sam2Collator as Sam2Collator
from .data.samples.collators import Sam3Collator as Sam3Collator
from .data.synthetic.scene_files import stream_scenes as stream_scenes
from .inference.exemplars import Exemplars as Exemplars
from .inference.prompt_files import ObjectPrompt as ObjectPrompt
from .inference.references import ReferenceImage as ReferenceImage
from .inference.sam2_predictor import Sam2Predictor as Sam2Predictor
from .inference.sam3_predictor import Sam3Predictor as Sam3Predictor
from .losses.matcher import HungarianMatcher as HungarianMatcher
from .losses.sam2 import Sam2Criterion as Sam2Criterion
from .losses.sam3 import Sam3Criterion as Sam3Criterion
from .metrics.average_precision import CocoAveragePrecision as CocoAveragePrecision
from .metrics.concept_f1 import ConceptF1 as ConceptF1
from .metrics.grounding import ConceptGrounding as ConceptGrounding
from .metrics.regions import RegionQuality as RegionQuality
from .models.freezing import freeze as freeze
from .models.loading import adapt as adapt
from .models.loading import load_adapted as load_adapted
from .models.loading import load_model as load_model
from .models.lora import AdaptedSam as AdaptedSam
from .models.lora import add_adapters as add_adapters
from .models.lora import merge_adapters as merge_adapters
from .models.processors import load_processor as load_processor
from .models.sam2.model import Sam2ForPromptSegmentation as Sam2ForPromptSegmentation
from .models.sam2.steps import PromptEvaluationStep as PromptEvaluationStep
from .models.sam2.steps import PromptPredictionStep as PromptPredictionStep
from .models.sam2.steps import PromptTrainingStep as PromptTrainingStep
from .models.sam3.model import Sam3ForConceptSegmentation as Sam3ForConceptSegmentation
from .models.sam3.steps import ConceptEvaluationStep as ConceptEvaluationStep
from .models.sam3.steps import ConceptPredictionStep as ConceptPredictionStep
from .models.sam3.steps import ConceptTrainingStep as ConceptTrainingStep
from .options.evaluation import DetectionLimits as DetectionLimits
from .options.loss import LossWeights as LossWeights
from .options.loss import PromptLossWeights as PromptLossWeights
from .options.model import LoraOptions as LoraOptions
from .options.model import ModelOptions as ModelOptions
from .options.prediction import PredictOptions as PredictOptions
from .options.scenes import SceneOptions as SceneOptions
from .reporting.pictures import draw_instances as draw_instances
from .training.sam2_trainer import Sam2Trainer as Sam2Trainer
from .training.sam3_trainer import Sam3Trainer as Sam3Trainer
from .training.training_arguments import Sam2TrainingArguments as Sam2TrainingArguments
from .training.training_arguments import Sam3TrainingArguments as Sam3TrainingArguments

__version__: str
