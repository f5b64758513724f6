"""Secrets: access tokens are removed from everything that is written, logged or uploaded."""

import mmap
import os
import re
from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import get_token


REDACTED = "<redacted>"
_SECRET_VARIABLE = re.compile(r"(TOKEN|API_?KEY|SECRET|PASSWORD|PASSWD)(_|$)", re.IGNORECASE)
_SECRET_KEY = re.compile(r"^token$|hub_.*token|api_?key|secret|password", re.IGNORECASE)  # `geometry_token` is none
_TOKEN_PATTERN = re.compile(r"\bhf_[A-Za-z0-9]{16,}")
_HUB_VARIABLE = re.compile(r"^(HF|HUGGING_?FACE|HUB|WANDB|TRACKIO)_", re.IGNORECASE)
_MIN_OTHER_LENGTH = 16
_MIN_LENGTH = 8  # a shorter value of a variable, such as `1`, would be found in every file
_MIN_REGISTERED = 6  # a shorter one would be found in ordinary words
_REGISTERED: set[str] = set()


def is_secret_key(key: str) -> bool:
    """Whether an argument of this name holds a secret, as `hub_token` does."""
    return bool(_SECRET_KEY.search(key))


def register_secret(value: str | None) -> None:
    """Register the value of a secret argument, such as `hub_token`, for [`redact`]."""
    if value and len(value) >= _MIN_REGISTERED:
        _REGISTERED.add(value)


def known_secrets() -> set[str]:
    """
    Collect the values that must not be written: registered secrets, the Hub's stored token, and environment variables that are named like secrets.

    A variable of another service counts from 16 characters on: a short password may be an ordinary word.
    """
    values = {get_token() or ""}
    for name, value in os.environ.items():
        if _SECRET_VARIABLE.search(name) and not os.path.exists(value):
            least = _MIN_LENGTH if _HUB_VARIABLE.search(name) else _MIN_OTHER_LENGTH
            values |= {value} if len(value) >= least else set()
    return _REGISTERED | {value for value in values if len(value) >= _MIN_LENGTH}


def redact(text: str) -> str:
    """Replace known secrets, and whatever has the form of a Hub token, by `<redacted>`."""
    for secret in sorted(known_secrets(), key=len, reverse=True):
        text = text.replace(secret, REDACTED)
    return _TOKEN_PATTERN.sub(REDACTED, text)


def check_no_secrets(files: Iterable[Path]) -> None:
    """
    Search files for known secrets before they are uploaded.

    Args:
        files (`Iterable[Path]`): The files.

    Raises:
        `ValueError`: If one of them contains a known secret; names the file.
    """
    secrets = [secret.encode() for secret in known_secrets()]
    for file in files:
        if not secrets or not file.stat().st_size:
            continue
        with open(file, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if any(content.find(secret) >= 0 for secret in secrets):
                raise ValueError(
                    f"{file.name} contains an access token, so nothing was uploaded. Remove it from the file"
                )
