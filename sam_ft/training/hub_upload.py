"""Upload of a run to the Hub: choice of files, and the base model of an adapter."""

import contextlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled
from peft.utils import CONFIG_NAME as ADAPTER_CONFIG
from transformers import Trainer
from transformers.trainer_utils import HubStrategy
from transformers.utils import PushInProgress

from ..models.loading import ModelOptions, load_model
from ..models.lora import AdaptedSam
from ..utils.owned_files import OwnedFiles
from ..utils.secrets import check_no_secrets, redact, register_secret
from .checkpoints import CHECKPOINT_FILES, RUN_KIND, matches


logger = logging.getLogger("sam_ft.run")

# Files of a run's folder that are published. Pictures of the data set are published only if the card shows them.
PUBLISHED = (
    "*.safetensors", "*.safetensors.index.json", "config.json", "adapter_config.json", "processor_config.json",
    "preprocessor_config.json",
    "base_fingerprint.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json",
    "merges.txt", "thresholds.json",
    "trained_phrases.json", "eval_results.json", "run.yaml", "README.md", "LICENSE*",
)  # fmt: skip
SHOWN = ("report.html", "card/*.png")
_DRAFT = ".hub"  # Prefix of the temporary folders of uploads in a run's folder.
_VOCABULARY_FILES = ("tokenizer.json", "vocab.json", "merges.txt")  # Large, and those of the base model.
_FAILURES = (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    httpx.HTTPError,
    OSError,
    ValueError,
    RuntimeError,
)


class HubTrainer(Trainer):
    """
    Transformers' Trainer that publishes chosen files of its folder, and a local base of an adapter.

    Its keys are those of Trainer (`push_to_hub`, `hub_model_id`, `hub_strategy`, …), `hub_merged`, `hub_base` and
    `hub_pictures`.
    """

    _hub_token: str | None = None
    _drafts: tuple[tempfile.TemporaryDirectory, ...] = ()  # Folders of uploads in the background.

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._hide_token()

    def _hide_token(self) -> None:
        """Move the token out of the arguments, which Trainer pickles beside the weights and passes to loggers."""
        register_secret(self.args.hub_token)
        self._hub_token, self.args.hub_token = self.args.hub_token or self._hub_token, None

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """
        Create the repository, and that of an adapter's base, before training.

        Raises:
            ValueError: If the Hub refuses the request.
        """
        if not self.is_world_process_zero():
            return
        self._hide_token()
        self._api = HfApi(token=token or self._hub_token)  # Uploads through one object run one after the other.
        self._base_id: str | None = None
        self.push_in_progress = None
        name = self.args.hub_model_id or Path(self.args.output_dir).absolute().name
        private = self.args.hub_private_repo if private is None else private
        with naming_the_hub(name):
            self.hub_model_id = self._api.create_repo(name, private=private, exist_ok=True).repo_id
            if self.args.hub_revision:
                self._api.create_branch(self.hub_model_id, branch=self.args.hub_revision, exist_ok=True)
        self.base_on_hub()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False):
        """Save the model without a push; `push_to_hub` is called when the card is written."""
        super().save_model(output_dir, _internal_call=True)

    def push_to_hub(self, commit_message: str = "Tuned model"):
        """
        Publish the files of the run's folder, and with `hub_merged` the merged weights as `NAME-merged`.

        Args:
            commit_message (`str`): Message of the commit.

        Raises:
            ValueError: If the Hub refuses the request. The model is in the run's folder in any case.
        """
        if not self.is_world_process_zero():
            return None
        if self.hub_model_id is None:
            self.init_hf_repo()
        self._finish_current_push()
        folder = Path(self.args.output_dir)
        with self._draft() as draft:
            stage(folder, draft, base=self.base_on_hub(), shown=self.args.hub_pictures)
            # An earlier push may have published pictures that `hub_pictures` now forbids.
            commit = self._upload(draft, self.hub_model_id, commit_message, delete=list(SHOWN))
        logger.info("  %s", commit.commit_url)
        if self.args.hub_merged and self._adapted() is None:
            logger.warning("`hub_merged` is ignored, because the run has no `lora` adapter to merge")
        elif self.args.hub_merged:
            logger.info("  %s", self._push_merged(folder).commit_url)
        return commit

    def _adapted(self) -> AdaptedSam | None:
        model = self.accelerator.unwrap_model(self.model)
        return model if isinstance(model, AdaptedSam) else None

    def _checkpoint_draft(self) -> Path:
        """Create a temporary folder for an upload in the background; it is removed with its entry in `_drafts`."""
        self._drafts = (tempfile.TemporaryDirectory(dir=self.args.output_dir, prefix=_DRAFT),)
        return Path(self._drafts[0].name)

    @contextlib.contextmanager
    def _draft(self) -> Iterator[Path]:
        """Create a temporary folder on the disk of the run's folder, so that large files are linked, not copied."""
        Path(self.args.output_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.args.output_dir, prefix=_DRAFT) as draft:
            yield Path(draft)

    def _push_merged(self, folder: Path):
        name = f"{self.hub_model_id}-merged"
        with self._draft() as draft:
            load_model(ModelOptions(str(folder))).save_pretrained(draft)
            stage(
                folder,
                draft,
                without=("adapter_*", "base_fingerprint.json", "README.md"),
                shown=self.args.hub_pictures,
            )
            card = folder / "card" / "merged.md"
            if card.is_file():
                shutil.copyfile(card, draft / "README.md")
            self._create_beside(name)
            message = f"{self.hub_model_id}, merged"
            return self._upload(draft, name, message, delete=list(SHOWN), companion=True)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push a checkpoint in the background as Trainer does; skip it while an earlier push is in progress."""
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        if self.push_in_progress is not None and not self.push_in_progress.is_done():
            if not self.args.hub_always_push:
                return
            self._finish_current_push()
        self._warn_of_failed_pushes()
        step, draft = self.state.global_step, self._checkpoint_draft()
        checkpoint, base, name = Path(checkpoint_folder), self.base_on_hub(), self.hub_model_id
        try:
            # README.md is left out, because PEFT writes a card of its own into checkpoints.
            stage(checkpoint, draft / "model", base=base, without=("README.md",), shown=False)
            jobs = [self._upload(draft / "model", name, f"Training in progress, step {step}", wait=False)]
            if self.args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
                only_last = self.args.hub_strategy == HubStrategy.CHECKPOINT
                target = "last-checkpoint" if only_last else checkpoint.name
                stage_whole(checkpoint, draft / "checkpoint", base=base)
                message = f"Training in progress, step {step}, checkpoint"
                jobs.append(self._upload(draft / "checkpoint", name, message, path_in_repo=target, wait=False))
        except _FAILURES as error:  # A failed push of a checkpoint must not end the training.
            logger.warning("checkpoint %d could not be pushed (%s); training continues", step, error)
            return
        self.push_in_progress = PushInProgress(jobs)

    def _finish_current_push(self) -> None:
        super()._finish_current_push()
        if self.is_world_process_zero():
            self._warn_of_failed_pushes()
            self._drafts = ()

    def _warn_of_failed_pushes(self) -> None:
        current = getattr(self, "push_in_progress", None)
        for job in current.jobs if current is not None else ():
            if job.done() and job.exception() is not None:
                logger.warning("a checkpoint could not be pushed: %s", job.exception())
        if current is not None and current.is_done():
            self.push_in_progress = None

    def _upload(
        self, folder: Path, repo: str, message: str, *, path_in_repo: str | None = None, wait: bool = True,
        delete: list[str] | None = None, companion: bool = False,
    ):  # fmt: skip
        arguments = {
            "repo_id": repo,
            "folder_path": folder,
            "path_in_repo": path_in_repo,
            "commit_message": message,
            "delete_patterns": delete,
            "revision": None if companion else self.args.hub_revision,  # Companions have a main branch only.
        }
        check_no_secrets(file for file in folder.rglob("*") if file.is_file())
        if not wait:
            return self._api.upload_folder(**arguments, run_as_future=True)
        with naming_the_hub(repo):
            return self._api.upload_folder(**arguments)

    def _create_beside(self, repo: str) -> None:
        """Create a companion of the run's repository with the same visibility."""
        with naming_the_hub(repo):
            private = self._api.model_info(self.hub_model_id).private
            self._api.create_repo(repo, private=private, exist_ok=True)

    def base_on_hub(self) -> str | None:
        """
        Return the Hub id of an adapter's base; a base that is only local is published once as `NAME-base`.

        Returns:
            `str` or `None`: `hub_base` if it is set; `None` without an adapter or without a push.
        """
        model = self._adapted()
        if model is None or not self.is_world_process_zero():
            return None
        # PEFT sets the first of these names when it saves the adapter.
        base = model.peft_config["default"].base_model_name_or_path or model.get_base_model().name_or_path
        if model.save_base is None and not Path(base).is_dir():
            return base
        if self.args.hub_base is not None:
            return self.args.hub_base
        if self.hub_model_id is None:
            return None
        if self._base_id is None:
            name = f"{self.hub_model_id}-base"
            self._create_beside(name)
            with self._draft() as draft:
                if model.save_base is not None:
                    model.save_base(draft)
                else:
                    stage(Path(base), draft, without=("run.yaml", "eval_results.json"), shown=False)
                self._upload(draft, name, f"The base of {self.hub_model_id}", companion=True)
            logger.info("  base of the adapter, which was not on the Hub: %s", name)
            self._base_id = name
        return self._base_id


def stage(
    folder: Path, draft: Path, *, base: str | None = None, without: tuple[str, ...] = (), shown: bool = True
) -> None:
    """
    Link the published files of a run or checkpoint into another folder.

    Args:
        folder (`Path`): Folder of the run or checkpoint.
        draft (`Path`): Target folder; created if needed.
        base (`str`, *optional*): Hub id that replaces the base in the config of an adapter.
        without (`tuple[str, ...]`): Patterns of files that are left out.
        shown (`bool`): Whether pictures and report are published as well.

    Raises:
        ValueError: If the folder contains no weights.
    """
    left_out = {file for pattern in without for file in folder.glob(pattern)}
    files = {file for pattern in PUBLISHED for file in folder.glob(pattern)}
    if shown:  # Pictures that the user added are not published.
        owned = OwnedFiles(folder, RUN_KIND)
        files |= {
            f for pattern in SHOWN for f in folder.glob(pattern) if owned.is_owned(f.relative_to(folder).as_posix())
        }
    files -= left_out
    _copy_files(sorted(files), folder, draft, base)
    if not any(draft.glob("*.safetensors")):
        raise ValueError(
            f"`push_to_hub`: {folder} contains no *.safetensors. With FSDP, set `fsdp_state_dict_type: "
            f"FULL_STATE_DICT` "
            "and run the same command again"
        )


def stage_whole(checkpoint: Path, draft: Path, *, base: str | None = None) -> None:
    """
    Link a checkpoint with its optimizer states into another folder.

    The pickled arguments are left out because they may contain the token in clear text.

    Args:
        checkpoint (`Path`): Folder of the checkpoint.
        draft (`Path`): Target folder; created if needed.
        base (`str`, *optional*): Hub id that replaces the base in the config of an adapter.
    """
    files = [
        file
        for file in sorted(checkpoint.rglob("*"))
        if file.is_file()
        and file.name != "training_args.bin"
        and matches(file.relative_to(checkpoint).as_posix(), CHECKPOINT_FILES)
    ]
    _copy_files(files, checkpoint, draft, base)


def _copy_files(files: list[Path], folder: Path, draft: Path, base: str | None) -> None:
    draft.mkdir(parents=True, exist_ok=True)
    for file in files:
        target = draft / file.relative_to(folder)
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix in (".yaml", ".md", ".json", ".html", ".txt") and file.name not in _VOCABULARY_FILES:
            target.write_text(redact(without_places(file.read_text(encoding="utf-8"))), encoding="utf-8")
        else:
            _link(file, target)
    config = draft / ADAPTER_CONFIG
    if base is not None and config.is_file():
        content = json.loads(config.read_text(encoding="utf-8"))
        if content["base_model_name_or_path"] != base:
            content |= {"base_model_name_or_path": base, "revision": None}
        config.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def without_places(text: str) -> str:
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

    def hide(match: re.Match) -> str:
        return f"path/to/{match[1]}" if os.path.exists(match[0]) else match[0]

    return re.sub(r"(?<![\w.+/~:-])/(?:[\w.+-]+/)+([\w.+-]+)/?", hide, text)


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:  # The target is on another disk, or the file system has no hard links.
        shutil.copyfile(file, target)


@contextlib.contextmanager
def naming_the_hub(repo: str) -> Iterator[None]:
    """
    Convert errors of the Hub to a `ValueError` with the remedy.

    Args:
        repo (`str`): Name of the repository, for the message.
    """
    try:
        yield
    except _FAILURES as error:
        raise ValueError(
            f"`push_to_hub`: {repo!r} cannot be written ({_first_line(error)}). Run `hf auth login` with a token that "
            f"may "
            "write, check `hub_model_id` (owner/name), and run the same command again; finished training is not "
            "repeated"
        ) from error


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
