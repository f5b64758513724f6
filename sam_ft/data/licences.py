"""Licence of a data set, for the card of a model that was trained on it."""

import logging
import re
from pathlib import Path

import yaml
from huggingface_hub import DatasetCard, HfApi


logger = logging.getLogger(__name__)

_HEAD_BYTES = 1 << 18  # of a file that are searched


def licence_of(dataset: str) -> str | None:
    """
    Return the licence of a data set.

    It is read from the data set card, Roboflow's README or the `licenses` of a COCO file in a folder, or from the card
    of a Hub data set.

    Args:
        dataset (`str`): Folder, file or Hub id.

    Returns:
        `str` or `None`: The licence as written there; `None` if there is none.
    """
    path = Path(dataset)
    if not path.exists():
        try:
            data = HfApi().dataset_info(dataset).card_data
        except Exception as error:  # A network error must not stop a run that has finished training.
            logger.debug("no licence of %s: %s", dataset, error)
            return None
        return _text(data.license) if data is not None else None
    if path.is_file():
        return _of_coco(path)
    card = path / "README.md"
    if card.is_file():
        try:
            licence = _text(DatasetCard.load(card).data.license)
        except (ValueError, yaml.YAMLError):
            licence = None
        if licence:
            return licence
    for name in ("README.dataset.txt", "README.roboflow.txt"):
        if (path / name).is_file():
            match = re.search(r"^License:\s*(.+)$", _head(path / name), re.MULTILINE)
            if match:
                return match[1].strip()
    files = [
        *sorted(path.glob("annotations/*.json")),
        *sorted(path.glob("*/_annotations.coco.json")),
        *sorted(path.glob("*.json")),
    ]
    return next(filter(None, map(_of_coco, files[:4])), None)


def _of_coco(file: Path) -> str | None:
    match = re.search(r'"licenses"\s*:\s*\[(.*?)\]', _head(file), re.DOTALL)
    names = re.findall(r'"name"\s*:\s*"([^"]+)"', match[1]) if match else []
    return ", ".join(dict.fromkeys(names[:3])) or None


def _head(file: Path) -> str:
    with open(file, "rb") as opened:
        return opened.read(_HEAD_BYTES).decode("utf-8", errors="replace")


def _text(licence) -> str | None:
    return ", ".join(licence) if isinstance(licence, list) else licence or None
