"""Regular expressions of a user or of a downloaded file, matched in another process under a time limit."""

import json
import subprocess
import sys

from .text import short_repr


MAX_SECONDS = 5.0
_MAX_BYTES = 1 << 30
_PROGRAM = f"""
import json, re, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, ({_MAX_BYTES}, {_MAX_BYTES}))
except Exception:
    pass
patterns, names = json.load(sys.stdin)
result = []
for pattern in patterns:
    try:
        compiled = re.compile(pattern)
    except Exception as error:
        result.append(f"{{type(error).__name__}}: {{error}}")
        continue
    result.append([name for name in names if compiled.fullmatch(name)])
json.dump(result, sys.stdout)
"""


def matches_within(
    patterns: list[str], names: list[str], argument: str, seconds: float | None = None
) -> list[list[str]]:
    """
    Match regular expressions against whole names.

    `re` cannot be interrupted, and some expressions, such as `(a+)+b`, take exponential time. They are matched in a
    process that is ended after `seconds`.

    Args:
        patterns (`list[str]`): The expressions.
        names (`list[str]`): The names, for example of modules.
        argument (`str`): Key or file that contains the expressions, for errors.
        seconds (`float`, *optional*): Time limit for all of them; `MAX_SECONDS` by default.

    Returns:
        `list[list[str]]`: For each expression the names that it matches, in their order.

    Raises:
        `ValueError`: If an expression is invalid, or matching takes too long; names the argument.
    """
    if not patterns:
        return []
    seconds = MAX_SECONDS if seconds is None else seconds
    command = [sys.executable, "-I", "-S", "-c", _PROGRAM]
    content = json.dumps([patterns, names])
    listing = ", ".join(short_repr(pattern) for pattern in patterns[:3])
    try:
        done = subprocess.run(
            command, input=content, capture_output=True, text=True, encoding="utf-8", timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(
            f"`{argument}` is {listing}: matching it against {len(names)} module names takes more than {seconds:g} s. "
            "Write a regex without a repetition inside a repetition, such as (a+)+, or list the names"
        ) from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise ValueError(f"`{argument}` is {listing}, which cannot be matched ({lines[-1]}). Write a shorter regex")
    result = json.loads(done.stdout)
    for pattern, matched in zip(patterns, result, strict=True):
        if isinstance(matched, str):
            raise ValueError(f"`{argument}` is {short_repr(pattern)}, which is no valid regex ({matched})")
    return result
