"""Fine-tuning recipes for SAM 3 and SAM 2 on Transformers, Accelerate, Datasets and PEFT."""

import importlib


__version__ = "0.1.0"

# Public name -> module that defines it, imported on first use, so that `--help` imports neither torch nor
# Transformers.
_PUBLIC = {
    "AdaptedSam": "models.lora",
    "CocoAveragePrecision": "metrics.average_precision",
    "ConceptF1": "metrics.concept_f1",
    "ConceptGrounding": "metrics.grounding",
    "ConceptEvaluationStep": "models.sam3.steps",
    "ConceptPredictionStep": "models.sam3.steps",
    "ConceptTrainingStep": "models.sam3.steps",
    "Exemplars": "inference.exemplars",
    "HungarianMatcher": "losses.matcher",
    "DatasetOptions": "options.data",
    "DetectionLimits": "options.evaluation",
    "LoraOptions": "options.model",
    "LossWeights": "options.loss",
    "ModelOptions": "options.model",
    "ObjectPrompt": "inference.prompt_files",
    "PromptEvaluationStep": "models.sam2.steps",
    "PromptLossWeights": "options.loss",
    "PromptPredictionStep": "models.sam2.steps",
    "PromptTrainingStep": "models.sam2.steps",
    "PredictOptions": "options.prediction",
    "SceneOptions": "options.scenes",
    "Sam2Collator": "data.samples.collators",
    "Sam2Criterion": "losses.sam2",
    "Sam2ForPromptSegmentation": "models.sam2.model",
    "Sam2Predictor": "inference.sam2_predictor",
    "Sam2Trainer": "training.sam2_trainer",
    "Sam2TrainingArguments": "training.training_arguments",
    "Sam3Collator": "data.samples.collators",
    "Sam3Criterion": "losses.sam3",
    "Sam3ForConceptSegmentation": "models.sam3.model",
    "Sam3Predictor": "inference.sam3_predictor",
    "Sam3Trainer": "training.sam3_trainer",
    "Sam3TrainingArguments": "training.training_arguments",
    "ReadOptions": "options.data",
    "ReferenceImage": "inference.references",
    "RegionQuality": "metrics.regions",
    "adapt": "models.loading",
    "add_adapters": "models.lora",
    "draw_instances": "reporting.pictures",
    "freeze": "models.freezing",
    "load_adapted": "models.loading",
    "load_model": "models.loading",
    "load_phrase_dataset": "data.loading",
    "load_processor": "models.processors",
    "merge_adapters": "models.lora",
    "show_pictures": "reporting.notebook_pictures",
    "stream_scenes": "data.synthetic.scene_files",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'sam_ft' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)


def __dir__():
    return [*globals(), *__all__]
