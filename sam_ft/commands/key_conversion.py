"""Conversion of the keys of a command to the options and objects of the other folders."""

from ..arguments import (
    DataArguments,
    LossArguments,
    PredictArguments,
    Sam2DataArguments,
    Sam2LossArguments,
    Sam2PredictArguments,
)
from ..arguments.dataset import SharedDataArguments
from ..arguments.model import SharedModelArguments
from ..data.phrases.attributes import read_attribute_templates
from ..data.phrases.probe_phrases import DISTILLATION_PHRASES
from ..data.phrases.vocabulary import normalize_phrase, read_phrase_map
from ..losses.matcher import HungarianMatcher, OneToManyMatcher
from ..losses.sam2 import Sam2Criterion
from ..losses.sam3 import Sam3Criterion
from ..options.augmentation import TransformOptions
from ..options.data import DatasetOptions, HubSource, ReadOptions
from ..options.keys import build_options
from ..options.loss import LossWeights, PromptLossWeights
from ..options.model import LoraOptions, ModelOptions
from ..options.objects import ClickOptions
from ..options.phrases import PhraseMap, PhraseOptions, PromptOptions
from ..options.prediction import PredictOptions, Sam2PredictOptions
from ..options.scenes import SceneFiles, SceneOptions


def to_model_options(model_args: SharedModelArguments, seed: int) -> ModelOptions:
    """
    Return the options that load the model.

    Args:
        model_args (`SharedModelArguments`): Keys of the model.
        seed (`int`): Random seed of new weights.
    """
    return build_options(
        ModelOptions,
        model_args,
        family=model_args.family,
        activation_checkpointing=getattr(model_args, model_args.checkpointing_key),
        seed=seed,
    )


def to_lora_options(model_args: SharedModelArguments) -> LoraOptions | None:
    """Return the options of the adapters; `None` without `lora`."""
    return None if model_args.lora is None else build_options(LoraOptions, model_args, target=model_args.lora)


def to_dataset_options(data_args: SharedDataArguments) -> DatasetOptions:
    """Return the options that load the data set."""
    scenes = build_options(SceneFiles, data_args, scenes=build_options(SceneOptions, data_args))
    return build_options(
        DatasetOptions,
        data_args,
        scenes=scenes,
        scenes_folder=data_args.scenes_folder,
        hub=build_options(HubSource, data_args),
    )


def to_read_options(data_args: SharedDataArguments) -> ReadOptions:
    """Return the options of the readers; reads the files `attribute_templates` and `phrase_map`."""
    templates = read_attribute_templates(data_args.attribute_templates) if data_args.attribute_templates else None
    phrase_map = read_phrase_map(data_args.phrase_map) if data_args.phrase_map else PhraseMap()
    return build_options(ReadOptions, data_args, phrase_map=phrase_map, attributes=templates)


def to_probe_options(data_args: DataArguments) -> tuple[DatasetOptions, ReadOptions] | None:
    """Return the options that load `probe_dataset` without changed phrases; `None` without one."""
    if not data_args.probe_dataset:
        return None
    names = ("on_bad_rows", "verify_images", "allow_outside_images")
    reading = ReadOptions(**{name: getattr(data_args, name) for name in names})
    return DatasetOptions(data_args.probe_dataset), reading


def to_transform_options(data_args: SharedDataArguments, resolution: int) -> TransformOptions:
    """
    Return the options of augmentation and resizing.

    Args:
        data_args (`SharedDataArguments`): Keys of the data.
        resolution (`int`): Side of the model's input in px.
    """
    return build_options(TransformOptions, data_args, resolution=resolution)


def to_phrase_options(data_args: DataArguments, **values) -> PhraseOptions:
    """
    Return the options of phrase sampling.

    Args:
        data_args (`DataArguments`): Keys of the data.
        values: Options that are no keys of the data.
    """
    return build_options(PhraseOptions, data_args, **values)


def to_prompt_options(data_args: DataArguments) -> PromptOptions:
    """Return the options of exemplars and geometry token."""
    return build_options(PromptOptions, data_args)


def to_click_options(data_args: Sam2DataArguments) -> ClickOptions:
    """Return the options of the training prompts of objects."""
    return build_options(ClickOptions, data_args)


def list_inputs(data_args: SharedDataArguments) -> list[str]:
    """List the files, folders and Hub ids that a run reads."""
    sources = (
        data_args.annotation_file,
        data_args.image_folder,
        data_args.eval_annotation_file,
        data_args.eval_image_folder,
        data_args.dataset_name,
        *data_args.extra_datasets,
        data_args.replay,
        getattr(data_args, "probe_dataset", None),
    )
    return [source for source in sources if source]


def build_sam3_criterion(loss_args: LossArguments) -> Sam3Criterion:
    """Build the SAM 3 criterion with its matchers."""
    return build_options(
        Sam3Criterion,
        loss_args,
        weights=build_options(LossWeights, loss_args),
        hungarian=build_options(HungarianMatcher, loss_args),
        one_to_many=build_options(OneToManyMatcher, loss_args),
    )


def build_sam2_criterion(loss_args: Sam2LossArguments) -> Sam2Criterion:
    """Build the SAM 2 criterion."""
    return build_options(Sam2Criterion, loss_args, weights=build_options(PromptLossWeights, loss_args))


def list_distillation_phrases(loss_args: LossArguments) -> list[str]:
    """List the normalized phrases of the self-distillation; an empty list without it."""
    if not loss_args.distill_weight:
        return []
    return [normalize_phrase(text) for text in loss_args.distill_phrases or DISTILLATION_PHRASES]


def to_predict_options(predict_args: PredictArguments | Sam2PredictArguments) -> PredictOptions | Sam2PredictOptions:
    """Return the options of the predictor of the model family."""
    return build_options(predict_args.options_class, predict_args)
