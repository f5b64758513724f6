"""Fine-tuning recipes for SAM 3 and SAM 2 on Transformers, Accelerate, Datasets and PEFT."""

import importlib


__version__ = "0.1.0"

# public name -> where it lives; loaded when first used, so that `--help` need not import torch's world twice
_PUBLIC = {
    "AdaptedSam": "models.lora",
    "CocoAveragePrecision": "metrics.average_precision",
    "ConceptF1": "metrics.concept_f1",
    "ConceptGrounding": "metrics.grounding",
    "Exemplars": "prediction.predictor",
    "HungarianMatcher": "losses.matcher",
    "Keep": "models.outputs",
    "LoraOptions": "models.lora",
    "LossWeights": "losses.sam3",
    "ModelOptions": "models.load",
    "ObjectPrompt": "prediction.prompt_files",
    "PromptLossWeights": "losses.sam2",
    "PredictOptions": "prediction.predictor",
    "SceneOptions": "data.scenes",
    "Sam2Collator": "data.collators",
    "Sam2Criterion": "losses.sam2",
    "Sam2ForPromptSegmentation": "models.sam2",
    "Sam2Predictor": "prediction.sam2",
    "Sam2Trainer": "training.sam2",
    "Sam2TrainingArguments": "arguments",
    "Sam3Collator": "data.collators",
    "Sam3Criterion": "losses.sam3",
    "Sam3ForConceptSegmentation": "models.sam3",
    "Sam3Predictor": "prediction.predictor",
    "Sam3Trainer": "training.sam3",
    "Sam3TrainingArguments": "arguments",
    "RegionQuality": "metrics.regions",
    "adapt": "models.load",
    "add_adapters": "models.lora",
    "draw_instances": "report.visualize",
    "freeze": "models.freeze",
    "load_adapted": "models.load",
    "load_model": "models.load",
    "load_phrase_dataset": "data.load",
    "load_processor": "models.processors",
    "merge_adapters": "models.lora",
    "stream_scenes": "data.synthetic",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'sam_ft' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)


def __dir__():
    return [*globals(), *__all__]
