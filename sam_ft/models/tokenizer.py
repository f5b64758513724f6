"""A CLIP tokenizer that needs no download: one token a byte, so it accepts any text."""

import json
from pathlib import Path

from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode


END_OF_WORD = "</w>"


def byte_level_vocabulary() -> dict[str, int]:
    """CLIP's layout without merges: 256 bytes, 256 bytes that end a word, start and end token."""
    characters = list(bytes_to_unicode().values())
    tokens = characters + [c + END_OF_WORD for c in characters] + ["<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}


def byte_level_clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """
    Writes a byte-level CLIP tokenizer to `folder` and loads it. A word of n letters takes n tokens, so a phrase of 30
    letters fits SAM 3's 32 tokens.

    Args:
        folder (`Path`): an existing folder that receives `vocab.json` and `merges.txt`.
    """
    (folder / "vocab.json").write_text(json.dumps(byte_level_vocabulary(), ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=32)
