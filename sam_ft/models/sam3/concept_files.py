"""
Concept files: `concepts.safetensors` with the tokens of each concept, and `concepts.json` that describes them.

A concept fits one base model. The files contain a digest of each part of the base, so that another base is refused.
"""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ... import __version__
from ...options.concepts import CONCEPT_INFO, CONCEPT_WEIGHTS, MAX_TOKENS
from ...utils.files import write_atomically
from ...utils.json_files import read_json_file, write_json
from ...utils.text import phrase_words, short_repr
from ..base_fingerprint import compute_base_fingerprint
from ..families import get_family_of_model, get_resolution
from ..model_files import find_concept_info, find_saved_file, is_hub_id
from .concepts import BASE_PREFIX, FORMAT, ConceptEntry, ConceptInfo, ConceptTokens


_REMEDY = "Copy both concept files again"


@dataclass
class ConceptFile:
    """
    Concepts of one folder.

    Attributes:
        name (`str`): The folder or Hub id, for messages.
        info (`ConceptInfo`): Content of `concepts.json`.
        tokens (`list[torch.Tensor]`): Tokens `(K, C)` of each concept, float32.
    """

    name: str
    info: ConceptInfo
    tokens: list[torch.Tensor]


def compute_part_digests(model: torch.nn.Module) -> dict[str, str]:
    """
    Compute a digest of each part of a base model; loads in float32 and bfloat16 have equal digests.

    Args:
        model (`Sam3ForConceptSegmentation`): Model without concepts.

    Returns:
        `dict[str, str]`: Part -> BLAKE2b digest (16 bytes, hexadecimal) of the names and digests of its weights, see
        [`compute_base_fingerprint`].
    """
    weights, digests = compute_base_fingerprint(model), {}
    for part, prefixes in get_family_of_model(model).parts.prefixes.items():
        text = "\n".join(f"{name} {weights[name]}" for name in sorted(weights) if name.startswith(prefixes))
        digests[part] = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return digests


def write_concepts(folder: Path, concepts: ConceptTokens) -> None:
    """
    Write both files to a folder.

    Args:
        folder (`Path`): Output folder.
        concepts (`ConceptTokens`): Tokens and their description.
    """
    tensors = {f"concept.{i}": t.detach().float().cpu().contiguous() for i, t in enumerate(concepts.tokens)}
    # `save_file` of safetensors 0.8 makes files that only their owner can read, whatever the umask.
    write_atomically(folder / CONCEPT_WEIGHTS, lambda file: file.write_bytes(save(tensors)))
    write_json(folder / CONCEPT_INFO, asdict(concepts.info), indent=1)


def read_concept_source(name: str, revision: str | None = None) -> ConceptFile:
    """
    Read the concepts of a folder or of a Hub id.

    Args:
        name (`str`): Folder or Hub id.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.

    Raises:
        `ValueError`: If there are no concepts, or as in [`read_concepts`]; names the folder or file.
    """
    remedy = "Pass the output folder of a run with `concept_tokens`, or the Hub id of one"
    if Path(name).is_file():
        raise ValueError(f"`concepts`: {name!r} is a file. Pass its folder")
    if not name.strip() or (not Path(name).is_dir() and not is_hub_id(name)):
        raise ValueError(f"`concepts`: there is no folder {name!r}. {remedy}")
    info = find_concept_info(name, revision)
    weights = None if info is None else find_saved_file(name, CONCEPT_WEIGHTS, revision)
    if info is None or weights is None:
        missing = CONCEPT_INFO if info is None else CONCEPT_WEIGHTS
        if Path(name).is_dir():
            raise ValueError(f"`concepts`: the folder {name!r} contains no {missing}. {remedy}")
        raise ValueError(
            f"`concepts`: there is no folder {name!r}, and no {missing} of that name on the Hub is available. {remedy}"
        )
    return read_concepts(weights, info, name)


def read_concepts(weights: Path, info_file: Path, name: str) -> ConceptFile:
    """
    Read both files and check their content.

    Args:
        weights (`Path`): `concepts.safetensors`.
        info_file (`Path`): `concepts.json`.
        name (`str`): The folder or Hub id, for messages.

    Raises:
        `ValueError`: If a file is damaged, or the two do not belong together; names file and value.
    """
    info = read_concept_info(info_file)
    try:
        with safe_open(weights, framework="pt") as file:
            names = sorted(file.keys())
            expected = sorted(f"concept.{i}" for i in range(len(info.concepts)))
            if names != expected:
                raise ValueError(f"it contains the tensors {short_repr(names)}, expected {short_repr(expected)}")
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in names}
            for key, shape in shapes.items():
                if len(shape) != 2 or not 1 <= shape[0] <= MAX_TOKENS or shape[1] != info.width:
                    raise ValueError(f"{key} has the shape {shape}, expected 1 to {MAX_TOKENS} rows of {info.width}")
                if (dtype := file.get_slice(key).get_dtype()) not in ("F32", "F16", "BF16"):
                    raise ValueError(f"{key} has the type {dtype}, expected F32, F16 or BF16")
            tokens = [file.get_tensor(f"concept.{i}").float() for i in range(len(info.concepts))]
    except (OSError, SafetensorError, ValueError) as error:
        raise ValueError(f"`concepts`: {weights} cannot be read: {error}. {_REMEDY}") from error
    for entry, tensor in zip(info.concepts, tokens, strict=True):
        if not tensor.isfinite().all():
            raise ValueError(
                f"`concepts`: the tokens of {entry.phrase!r} in {weights} contain NaN or infinity. "
                f"{_REMEDY}, or train the concept again"
            )
    return ConceptFile(name, info, tokens)


def read_concept_info(file: Path) -> ConceptInfo:
    """
    Read `concepts.json` and check its content.

    Args:
        file (`Path`): The file.

    Raises:
        `ValueError`: If it is no description of concepts; names file and value.
    """
    content = read_json_file(file, "concepts", remedy=_REMEDY)
    try:
        if content["format"] != FORMAT:
            raise ValueError(f"`format` is {short_repr(content['format'])}, expected {FORMAT}")
        entries = [ConceptEntry(**entry) for entry in content.pop("concepts")]
        info = ConceptInfo(**content, concepts=entries)
        _check_entries(entries)
        if not all(isinstance(number, int) and number > 0 for number in (info.width, info.resolution)):
            raise ValueError("`width` and `resolution` must be positive integers")
        if not isinstance(info.digests, dict) or not isinstance(info.base, str):
            raise ValueError("`digests` must be a mapping and `base` a name")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"`concepts`: {file} is no description of concepts ({error}). {_REMEDY}") from error
    return info


def _check_entries(entries: list[ConceptEntry]) -> None:
    """Raise `ValueError` if the description of a concept has a value of another type or range."""
    if not entries:
        raise ValueError("`concepts` must be a list of phrases")
    for entry in entries:
        texts = [entry.phrase, *entry.synonyms] if isinstance(entry.synonyms, list) else [None]
        if not all(map(_is_phrase, texts)):
            raise ValueError(f"{short_repr(entry.phrase)}: phrase and `synonyms` must be a text and a list of texts")
        if entry.threshold is not None and not (_is_number(entry.threshold) and 0 <= entry.threshold <= 1):
            raise ValueError(f"{entry.phrase!r}: `threshold` must be between 0 and 1")
        if not (_is_number(entry.temperature) and 0 < entry.temperature < float("inf")):
            raise ValueError(f"{entry.phrase!r}: `temperature` must be a positive number")
        if not isinstance(entry.scores, dict):
            raise ValueError(f"{entry.phrase!r}: `scores` must be a mapping")


def _is_phrase(text) -> bool:
    return isinstance(text, str) and bool(text.strip()) and text.isprintable() and not text.startswith(BASE_PREFIX)


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def add_concept_files(
    model: torch.nn.Module,
    files: list[ConceptFile],
    *,
    base: str = "",
    revision: str | None = None,
    dropout: float = 0.0,
) -> ConceptTokens:
    """
    Add the concepts of files to a model; without files, an empty set of concepts.

    Args:
        model (`Sam3ForConceptSegmentation`): Base model without concepts; changed in place.
        files (`list[ConceptFile]`): Files of this base.
        base (`str`): Name of the base, which is saved with the concepts.
        revision (`str`, *optional*): Its branch, tag or commit on the Hub.
        dropout (`float`): Probability that a token is hidden in a training step.

    Returns:
        `ConceptTokens`: The concepts of the model; they are frozen.

    Raises:
        `ValueError`: If a file belongs to another base, or two files define a phrase; names both.
    """
    width = model.config.detr_encoder_config.hidden_size
    info = ConceptInfo(
        base, revision, get_resolution(model.config), width, compute_part_digests(model), version=__version__
    )
    concepts, sources = ConceptTokens(info, dropout), {}
    for file in files:
        differing = [part for part, digest in info.digests.items() if file.info.digests.get(part) != digest]
        if differing:
            raise ValueError(
                f"`concepts`: {file.name!r} was trained on {file.info.base!r}; the loaded model has other weights in "
                f"{', '.join(differing)}. Load the base model that it was trained on"
            )
        for number, (entry, tokens) in enumerate(zip(file.info.concepts, file.tokens, strict=True)):
            for text in (entry.phrase, *entry.synonyms):
                source = sources.setdefault(phrase_words(text), (file.name, number))
                if source != (file.name, number):
                    raise ValueError(
                        f"`concepts`: the phrase {text!r} is defined by {source[0]!r} and by {file.name!r}. Load one "
                        "of them"
                    )
            concepts.add(entry, tokens)
    concepts.requires_grad_(False)
    model.concepts = concepts
    return concepts


def restore_concepts(concepts: ConceptTokens, file: ConceptFile) -> None:
    """
    Copy the tokens of a file into the concepts of a model, as at the resumption of a run.

    Args:
        concepts (`ConceptTokens`): Concepts with the phrases of the file; changed in place.
        file (`ConceptFile`): The file.

    Raises:
        `ValueError`: If phrases or shapes differ; names the first difference.
    """
    saved = [entry.phrase for entry in file.info.concepts]
    if saved != concepts.index.phrases:
        raise ValueError(
            f"{file.name} contains concepts of {short_repr(saved)}, but this run has "
            f"{short_repr(concepts.index.phrases)}"
        )
    for phrase, parameter, tokens in zip(saved, concepts.tokens, file.tokens, strict=True):
        if parameter.shape != tokens.shape:
            raise ValueError(
                f"{file.name}: the concept {phrase!r} has the shape {tuple(tokens.shape)}, in this run "
                f"{tuple(parameter.shape)}"
            )
        parameter.data.copy_(tokens)
    concepts.info.concepts = file.info.concepts
