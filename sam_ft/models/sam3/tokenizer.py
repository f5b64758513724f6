"""Byte-level CLIP tokenizer without a download; it encodes any text, usual phrases within SAM 3's 32 tokens."""

import json
from pathlib import Path

from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode


END_OF_WORD = "</w>"
# The first 2,000 of CLIP's 48,894 merges (Radford et al. 2021, MIT licence), most frequent first.
MERGES = Path(__file__).parent / "clip_merges.txt"


def read_merges() -> list[str]:
    """Read the byte-pair merges, such as `"t h"`, most frequent first."""
    return MERGES.read_text(encoding="utf-8").splitlines()


def build_clip_vocabulary() -> dict[str, int]:
    """Build the vocabulary in CLIP's order: 256 bytes, 256 bytes that end a word, the merges, start and end token."""
    characters = list(bytes_to_unicode().values())
    tokens = characters + [c + END_OF_WORD for c in characters]
    tokens += [merge.replace(" ", "") for merge in read_merges()]
    return {token: i for i, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}


def build_small_clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """
    Write the tokenizer to `folder` and load it.

    Args:
        folder (`Path`): Existing folder to which `vocab.json` and `merges.txt` are written.

    Returns:
        `CLIPTokenizer`: The tokenizer.
    """
    (folder / "vocab.json").write_text(json.dumps(build_clip_vocabulary(), ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *read_merges()]) + "\n", encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=32)
