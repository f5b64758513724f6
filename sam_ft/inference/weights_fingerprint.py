"""Fingerprint of the weights behind a model's name: a folder of predictions contains those of one set of weights."""

import hashlib
from pathlib import Path

from transformers.utils.hub import extract_commit_hash
from transformers.utils.peft_utils import ADAPTER_CONFIG_NAME as ADAPTER_CONFIG

from ..models.base_fingerprint import BASE_FOLDER
from ..models.families import PACKAGE_MODEL_NAMES, PACKAGED_MODELS
from ..models.model_files import find_adapter_file, find_concept_info, find_saved_file
from ..models.sam3.concept_files import read_concept_info
from ..options.concepts import CONCEPT_INFO
from ..utils.files import file_digest
from ..utils.json_files import read_json_file


_FILES = ("*.safetensors", "*.bin", "config.json", ADAPTER_CONFIG, CONCEPT_INFO, "thresholds.json")
_MAX_DEPTH = 8  # limit for adapters whose base is an adapter


def compute_weights_fingerprint(name: str, revision: str | None = None) -> str:
    """
    Compute a fingerprint of the weights, and for an adapter or concepts also of their base.

    Args:
        name (`str`): Folder, Hub id, or name of a packaged model.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.

    Returns:
        `str`: 16 hexadecimal characters. They change with the names, sizes and times of a folder's files, with the
            commit of a Hub id, and with the content of a packaged model.

    Raises:
        `ValueError`: If an adapter's config cannot be read.
    """
    return hashlib.sha256("\n".join(_parts(name, revision)).encode()).hexdigest()[:16]


def format_model_version(name: str, fingerprint: str) -> str:
    """Return the name of a model and the first characters of the fingerprint of its weights."""
    return f"{name} {fingerprint[:8]}".strip()


def _parts(name: str, revision: str | None, depth: int = 0) -> list[str]:
    if name in PACKAGE_MODEL_NAMES:
        folder = PACKAGED_MODELS.get(name)
        files = [] if folder is None else sorted(folder.glob("*.safetensors"))
        return [name, *map(file_digest, files)]
    concepts = find_concept_info(name, revision)
    adapter = None if concepts is not None else find_adapter_file(name, revision)
    if Path(name).is_dir():
        files = sorted({file for pattern in _FILES for file in Path(name).glob(pattern)})
        parts = [f"{file.name} {(stat := file.stat()).st_size} {stat.st_mtime_ns}" for file in files]
    else:
        file = concepts or adapter or find_saved_file(name, "config.json", revision)
        commit = None if file is None else extract_commit_hash(str(file), None)
        parts = [f"{name} {commit}"]
    if concepts is not None:
        info = read_concept_info(concepts)
        return [*parts, "base", *_parts(info.base, info.revision, depth + 1)] if depth < _MAX_DEPTH else parts
    if adapter is None or depth == _MAX_DEPTH:
        return parts
    config = read_json_file(adapter, "model_name_or_path", remedy="Copy the adapter again")
    config = config if isinstance(config, dict) else {}
    saved_base = Path(adapter).parent / BASE_FOLDER
    base = str(saved_base) if saved_base.is_dir() else config.get("base_model_name_or_path")
    # the loader reports a missing base
    if not isinstance(base, str) or not (base in PACKAGE_MODEL_NAMES or Path(base).is_dir() or _is_hub_id(base)):
        return parts
    return [*parts, "base", *_parts(base, config.get("revision"), depth + 1)]


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))
