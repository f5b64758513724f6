"""Secrets: removal of access tokens from files, logs and uploads."""

import mmap
import os
import re
from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import get_token


REDACTED = "<redacted>"
_SECRET_VARIABLE = re.compile(r"(TOKEN|API_?KEY|SECRET|PASSWORD|PASSWD)(_|$)", re.IGNORECASE)
_SECRET_KEY = re.compile(
    r"^token$|hub_.*token|api_?key|secret|password", re.IGNORECASE
)  # does not match `geometry_token`
_TOKEN_PATTERN = re.compile(r"\bhf_[A-Za-z0-9]{16,}")
_HUB_VARIABLE = re.compile(r"^(HF|HUGGING_?FACE|HUB|WANDB|TRACKIO)_", re.IGNORECASE)
_URL_USER = re.compile(r"(\w://)[^/\s@]+@")
_URL_QUERY = re.compile(r"(https?://[^\s?#]*)[?#]\S*", re.IGNORECASE)
_MIN_OTHER_LENGTH = 16
_MIN_LENGTH = 8  # a shorter value of a variable, such as `1`, occurs in every file
_MIN_REGISTERED = 6  # a shorter value occurs in ordinary words
_REGISTERED: set[str] = set()


def is_secret_key(key: str) -> bool:
    """Check whether an argument of this name contains a secret, as `hub_token` does."""
    return bool(_SECRET_KEY.search(key))


def register_secret(value: str | None) -> None:
    """Register the value of a secret argument, such as `hub_token`, for [`redact`]."""
    if value and len(value) >= _MIN_REGISTERED:
        _REGISTERED.add(value)


def known_secrets() -> set[str]:
    """
    Collect the values that must not be written.

    They are the registered secrets, the Hub's stored token, and environment variables with names of secrets. Variables
    of other services need at least 16 characters, because a short password may be an ordinary word.

    Returns:
        `set[str]`: The values.
    """
    values = {get_token() or ""}
    for name, value in os.environ.items():
        if _SECRET_VARIABLE.search(name) and not os.path.exists(value):
            min_length = _MIN_LENGTH if _HUB_VARIABLE.search(name) else _MIN_OTHER_LENGTH
            values |= {value} if len(value) >= min_length else set()
    return _REGISTERED | {value for value in values if len(value) >= _MIN_LENGTH}


def redact(text: str) -> str:
    """Replace known secrets, and texts in the form of a Hub token, by `<redacted>`."""
    for secret in sorted(known_secrets(), key=len, reverse=True):
        text = text.replace(secret, REDACTED)
    return _TOKEN_PATTERN.sub(REDACTED, text)


def strip_url_secrets(text: str) -> str:
    """
    Remove the user name, password, query and fragment of each URL, which may contain a token.

    Args:
        text (`str`): A URL, or a message that contains URLs. Queries are removed from URLs of HTTP, because `?` is a
            wildcard in other ones.
    """
    return _URL_QUERY.sub(r"\1", _URL_USER.sub(r"\1", text)) if "://" in text else text


def describe_file_error(error: BaseException) -> str:
    """
    Describe why a file or URL cannot be opened, without secrets.

    Args:
        error (`BaseException`): Error of fsspec, which hides the answer of a server behind errors of its own.
    """
    while isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return strip_url_secrets(" ".join(str(error).split())) or type(error).__name__


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
