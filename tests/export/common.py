"""Helper that makes concepts without training."""

import torch

from sam_ft.models.sam3.concept_files import add_concept_files
from sam_ft.models.sam3.concepts import ConceptEntry
from sam_ft.options.model_names import TINY


def add_concepts(model, phrases):
    """Add concepts of 2, 3, … tokens, in the scale of text features, to a model without concepts."""
    concepts, generator = add_concept_files(model, [], base=TINY), torch.Generator().manual_seed(len(phrases[0]))
    for number, phrase in enumerate(phrases, 2):
        entry = ConceptEntry(phrase, threshold=0.25, temperature=2.0)
        concepts.add(entry, torch.randn(number, concepts.info.width, generator=generator))
    return concepts
