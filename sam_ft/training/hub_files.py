"""Choice of the files of a run or checkpoint that are published on the Hub, without the paths of this machine."""

import json
import os
import re
import shutil
from pathlib import Path

from transformers.utils.peft_utils import ADAPTER_CONFIG_NAME as ADAPTER_CONFIG

from ..options.concepts import CONCEPT_INFO
from ..utils.json_files import write_json
from ..utils.owned_files import OwnedFiles
from ..utils.secrets import redact
from .checkpoints import CHECKPOINT_FILES, RUN_KIND, matches


# Files of a run's folder that are published. Pictures of the data set are published only if the card shows them.
PUBLISHED_FILES = (
    "*.safetensors", "*.safetensors.index.json", "config.json", "adapter_config.json", "processor_config.json",
    "preprocessor_config.json",
    "base_fingerprint.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json",
    "merges.txt", "thresholds.json",
    "concepts.json", "trained_phrases.json", "eval_results.json", "run.yaml", "README.md", "LICENSE*",
)  # fmt: skip
PICTURE_FILES = ("report.html", "card/*.png")
_TEXT_SUFFIXES = (".yaml", ".md", ".json", ".html", ".txt")
_VOCABULARY_FILES = ("tokenizer.json", "vocab.json", "merges.txt")  # Large, and those of the base model.


def stage_model(
    folder: Path,
    target: Path,
    *,
    base: str | None = None,
    excluded: tuple[str, ...] = (),
    with_pictures: bool = True,
) -> None:
    """
    Link the published files of a run or checkpoint into another folder.

    Args:
        folder (`Path`): Folder of the run or checkpoint.
        target (`Path`): Target folder; created if needed.
        base (`str`, *optional*): Hub id that replaces the base in the config of an adapter or concepts.
        excluded (`tuple[str, ...]`): Patterns of files that are left out.
        with_pictures (`bool`): Whether pictures and report are published as well.

    Raises:
        ValueError: If the folder contains no weights.
    """
    files = {file for pattern in PUBLISHED_FILES for file in folder.glob(pattern)}
    if with_pictures:  # Pictures that the user added are not published.
        owned = OwnedFiles(folder, RUN_KIND)
        pictures = {file for pattern in PICTURE_FILES for file in folder.glob(pattern)}
        files |= {file for file in pictures if owned.is_owned(file.relative_to(folder).as_posix())}
    files -= {file for pattern in excluded for file in folder.glob(pattern)}
    _copy_files(sorted(files), folder, target, base)
    if not any(target.glob("*.safetensors")):
        raise ValueError(
            f"`push_to_hub`: {folder} contains no *.safetensors. With FSDP, set `fsdp_state_dict_type: "
            "FULL_STATE_DICT` and run the same command again"
        )


def stage_checkpoint(checkpoint: Path, target: Path, *, base: str | None = None) -> None:
    """
    Link a checkpoint with its optimizer states into another folder.

    The pickled arguments are left out because they may contain the token in clear text.

    Args:
        checkpoint (`Path`): Folder of the checkpoint.
        target (`Path`): Target folder; created if needed.
        base (`str`, *optional*): Hub id that replaces the base in the config of an adapter or concepts.
    """
    files = [
        file
        for file in sorted(checkpoint.rglob("*"))
        if file.is_file()
        and file.name != "training_args.bin"
        and matches(file.relative_to(checkpoint).as_posix(), CHECKPOINT_FILES)
    ]
    _copy_files(files, checkpoint, target, base)


def _copy_files(files: list[Path], folder: Path, target_folder: Path, base: str | None) -> None:
    """Link files, and write text files without secrets and paths of this machine."""
    target_folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        target = target_folder / file.relative_to(folder)
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix in _TEXT_SUFFIXES and file.name not in _VOCABULARY_FILES:
            target.write_text(redact(replace_local_paths(file.read_text(encoding="utf-8"))), encoding="utf-8")
        else:
            _link(file, target)
    config = target_folder / ADAPTER_CONFIG
    if base is not None and config.is_file():
        content = json.loads(config.read_text(encoding="utf-8"))
        if content["base_model_name_or_path"] != base:
            content |= {"base_model_name_or_path": base, "revision": None}
        config.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    concepts = target_folder / CONCEPT_INFO
    if base is not None and concepts.is_file():
        content = json.loads(concepts.read_text(encoding="utf-8"))
        if content["base"] != base:
            write_json(concepts, content | {"base": base, "revision": None}, indent=1)


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:  # The target is on another disk, or the file system has no hard links.
        shutil.copyfile(file, target)


def replace_local_paths(text: str) -> str:
    """
    Replace the paths of this machine in a text.

    The working directory becomes `.`, the home directory `~`, and any other existing absolute path `path/to/NAME`.
    Parts of longer names are unchanged.

    Args:
        text (`str`): Text such as a command or a YAML file.
    """
    for path, replacement in ((str(Path.cwd()), "."), (str(Path.home()), "~")):
        if len(path) > 1:
            text = re.sub(rf"(?<![\w.+/~-]){re.escape(path)}(?![\w.+-])", replacement, text)

    def shorten(match: re.Match) -> str:
        return f"path/to/{match[1]}" if os.path.exists(match[0]) else match[0]

    return re.sub(r"(?<![\w.+/~:-])/(?:[\w.+-]+/)+([\w.+-]+)/?", shorten, text)
