"""What a data set says of its licence, for the card of a model that was trained on it."""

import logging
import re
from pathlib import Path

import yaml
from huggingface_hub import DatasetCard, HfApi


logger = logging.getLogger(__name__)

_HEAD = 1 << 18  # bytes of a file that are looked at


def licence_of(place: str) -> str | None:
    """
    Of a folder: its data set card, Roboflow's README, or the `licenses` of a COCO file; of a data set of the Hub: its card.

    Args:
        place (`str`): folder, file or Hub id.

    Returns:
        `str` or `None`: as it is written there; `None` where nothing is.
    """
    path = Path(place)
    if not path.exists():
        try:
            data = HfApi().dataset_info(place).card_data
        except Exception as error:  # of whatever the network does: a run that is over must not end on its licence
            logger.debug("no licence of %s: %s", place, error)
            return None
        return _text(data.license) if data is not None else None
    if path.is_file():
        return _of_coco(path)
    card = path / "README.md"
    if card.is_file():
        try:
            stated = _text(DatasetCard.load(card).data.license)
        except (ValueError, yaml.YAMLError):
            stated = None
        if stated:
            return stated
    for name in ("README.dataset.txt", "README.roboflow.txt"):
        if (path / name).is_file():
            found = re.search(r"^License:\s*(.+)$", _head(path / name), re.MULTILINE)
            if found:
                return found[1].strip()
    files = [
        *sorted(path.glob("annotations/*.json")),
        *sorted(path.glob("*/_annotations.coco.json")),
        *sorted(path.glob("*.json")),
    ]
    return next(filter(None, map(_of_coco, files[:4])), None)


def _of_coco(file: Path) -> str | None:
    listed = re.search(r'"licenses"\s*:\s*\[(.*?)\]', _head(file), re.DOTALL)
    names = re.findall(r'"name"\s*:\s*"([^"]+)"', listed[1]) if listed else []
    return ", ".join(dict.fromkeys(names[:3])) or None


def _head(file: Path) -> str:
    with open(file, "rb") as opened:
        return opened.read(_HEAD).decode("utf-8", errors="replace")


def _text(licence) -> str | None:
    return ", ".join(licence) if isinstance(licence, list) else licence or None
