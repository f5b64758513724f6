"""Concepts of a run: choice of the phrases and their initial tokens."""

import logging

import torch
from datasets import Dataset
from transformers import Sam3Processor

from ..arguments import ModelArguments
from ..arguments.model import SharedModelArguments
from ..data.keyed_random import keyed_draws
from ..data.loading import PhraseData
from ..data.phrases.vocabulary import spell_phrases
from ..data.samples.collators import tokenize_phrases
from ..data.samples.pipeline import EvaluationSamples
from ..models.families import get_resolution
from ..models.sam3.concepts import ConceptEntry, build_random_tokens, repeat_tokens
from ..models.sam3.model import Sam3ForConceptSegmentation
from ..models.unwrapping import unwrap_sam
from ..options.concepts import ConceptOptions
from ..options.keys import build_options


logger = logging.getLogger("sam_ft.run")


def add_concepts_of_run(model, processor, data: PhraseData, model_args: SharedModelArguments, seed: int) -> None:
    """
    Add the concepts of a run to its model; without `concept_tokens` nothing is changed.

    Args:
        model (`torch.nn.Module`): Model with or without adapters; changed in place.
        processor (`ProcessorMixin`): Its processor.
        data (`PhraseData`): Data of the run.
        model_args (`SharedModelArguments`): Keys of the model.
        seed (`int`): Random seed of the run.

    Raises:
        ValueError: As in [`add_concepts`].
    """
    if isinstance(model_args, ModelArguments) and model_args.concept_tokens is not None:
        add_concepts(unwrap_sam(model), processor, data, build_options(ConceptOptions, model_args), seed)


def add_concepts(
    model: Sam3ForConceptSegmentation, processor: Sam3Processor, data: PhraseData, options: ConceptOptions, seed: int
) -> None:
    """
    Add a trainable concept for each new phrase of the training data to a frozen model.

    Concepts that the model has already stay frozen, unless `options.phrases` names them.

    Args:
        model (`Sam3ForConceptSegmentation`): Frozen model with its loaded concepts; changed in place.
        processor (`Sam3Processor`): Processor with the tokenizer.
        data (`PhraseData`): Data of the run.
        options (`ConceptOptions`): Number of tokens, initialisation and phrases.
        seed (`int`): Random seed of the initial tokens; those of a phrase do not depend on other phrases.

    Raises:
        ValueError: If a requested phrase has no instance in the training images, or no phrase is left.
    """
    known, concepts = model.concepts.index.phrases, model.concepts
    phrases = _choose_phrases(data, options)
    # A phrase may be written in another way than its concept.
    continued = {known[i] for phrase in phrases if (i := concepts.index.index_of(phrase)) >= 0}
    for phrase, tokens in zip(known, concepts.tokens, strict=True):
        tokens.requires_grad_(bool(options.phrases) and phrase in continued)
    added = [phrase for phrase in phrases if concepts.index.index_of(phrase) < 0]
    for phrase in added:
        generator = torch.Generator().manual_seed(int(keyed_draws(seed, 0, phrase, "concept").integers(2**62)))
        features = _encode_phrase(model, processor, phrase)
        if options.init == "random":
            tokens = build_random_tokens(features, options.tokens, generator)
        else:
            source = features if options.init == "word" else _encode_exemplars(model, data, phrase, options.tokens)
            tokens = repeat_tokens(source, options.tokens, generator)
        concepts.add(ConceptEntry(phrase, data.synonyms.get(phrase, [])), tokens)
    trained = [p for p, tokens in zip(concepts.index.phrases, concepts.tokens, strict=True) if tokens.requires_grad]
    if not trained:
        raise ValueError(
            "`concept_tokens` is set, but all phrases of the data have a concept in `model_name_or_path`. Name those "
            "to train further in `concept_phrases`"
        )
    kept = [phrase for phrase in known if phrase not in trained]
    logger.info("concepts: %s%s", ", ".join(trained), f"; kept as they are: {', '.join(kept)}" if kept else "")


def _choose_phrases(data: PhraseData, options: ConceptOptions) -> list[str]:
    """Choose the phrases that get a concept: the requested ones, or those with instances in the training images."""
    learned = sorted(data.category_ids if data.learned is None else data.learned)
    if not isinstance(data.train, Dataset):  # The rows of a stream are not known before training.
        return spell_phrases(options.phrases, learned) or learned
    shown = {p["text"] for row in data.train.select_columns("phrases") for p in row["phrases"] if p["instances"]}
    requested = spell_phrases(options.phrases, shown)
    unknown = [text for text in requested if text not in shown]
    if unknown:
        raise ValueError(
            f"`concept_phrases` contains {unknown[0]!r}, but no training image shows it. Phrases with instances: "
            f"{', '.join(sorted(shown)) or 'none'}"
        )
    chosen = requested or [text for text in learned if text in shown]
    if not chosen:
        raise ValueError("`concept_tokens` is set, but the training images show no instance of a phrase")
    return chosen


@torch.no_grad()
def _encode_phrase(model: Sam3ForConceptSegmentation, processor: Sam3Processor, phrase: str) -> torch.Tensor:
    """Return the text features `(M, C)` of the M tokens of a phrase."""
    tokens = tokenize_phrases(processor.tokenizer, [phrase]).to(model.device)
    features = model.eval().encode_texts(tokens["input_ids"], tokens["attention_mask"])[0]
    return features[: int(tokens["attention_mask"].sum())].float().cpu()


@torch.no_grad()
def _encode_exemplars(model: Sam3ForConceptSegmentation, data: PhraseData, phrase: str, number: int) -> torch.Tensor:
    """
    Encode labelled boxes of a phrase by the geometry encoder.

    Returns:
        `torch.Tensor` of shape `(M, C)`: Tokens of at most `number` boxes, one for each image as far as possible.

    Raises:
        ValueError: If the training images show no box of the phrase, or are streamed.
    """
    if not isinstance(data.train, Dataset):
        raise ValueError(
            "`concept_init: exemplars` needs data that are read before training. Set `concept_init: word`"
        )
    names = data.train.select_columns("phrases")
    images = [i for i, row in enumerate(names) if any(p["text"] == phrase and p["instances"] for p in row["phrases"])]
    rows = data.train.select(images[:number])
    samples = EvaluationSamples(rows, resolution=get_resolution(model.config), geometry_token=True, with_masks=False)
    boxes = []  # (turn, sample, box): the first box of each image comes first
    for sample in (samples[i] for i in range(len(rows))):
        # The indices of the sample leave out crowd regions.
        instances = next((p.instances for p in sample.phrases if p.text == phrase), [])
        boxes += [(turn, sample, sample.boxes[index]) for turn, index in enumerate(instances)]
    tokens = [
        model.encode_exemplars(sample.image[None].to(model.device), box[None, None])[:1]
        for _, sample, box in sorted(boxes, key=lambda item: item[0])[:number]
    ]
    if not tokens:
        raise ValueError(f"`concept_init: exemplars`: no training image shows {phrase!r}. Set `concept_init: word`")
    return torch.cat(tokens).float().cpu()
