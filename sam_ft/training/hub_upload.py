"""Upload of a run, its checkpoints and the base of its adapter to the Hub."""

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import httpx
from huggingface_hub import CommitInfo, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled
from torch import nn
from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy

from ..models.loading import load_model
from ..models.lora import AdaptedSam
from ..models.unwrapping import unwrap_sam
from ..options.model import ModelOptions
from ..utils.console import NOTE
from ..utils.secrets import check_no_secrets, register_secret
from .hub_files import PICTURE_FILES, stage_checkpoint, stage_model


logger = logging.getLogger("sam_ft.run")

_DRAFT = ".hub"  # Prefix of the temporary folders of uploads in a run's folder.
_HUB_ERRORS = (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    httpx.HTTPError,
    OSError,
    ValueError,
    RuntimeError,
)


class HubUploader:
    """
    Uploader of chosen files of a run's folder, and of the base of an adapter or of concepts if it is only local.

    Only the first process may call its methods. The repositories are `hub_model_id`, with `hub_merged` also
    `NAME-merged`, and `NAME-base` for a local base.

    Args:
        args (`TrainingArguments`): Keys of the run: those of Trainer (`hub_model_id`, `hub_strategy`, …),
            `hub_merged`, `hub_base` and `hub_pictures`. `hub_token` is moved into this object, because Trainer pickles
            the arguments beside the weights and passes them to loggers.

    Attributes:
        repo_id (`str`, *optional*): Id of the run's repository; `None` until it is created.
    """

    def __init__(self, args: TrainingArguments):
        self.args = args
        self.repo_id: str | None = None
        self._token: str | None = None
        self._base_id: str | None = None
        self._jobs: list[futures.Future] = []  # Uploads of the last checkpoint in the background.
        self._job_folder: tempfile.TemporaryDirectory | None = None  # Files of these uploads.
        self._hide_token()

    def _hide_token(self) -> None:
        register_secret(self.args.hub_token)
        self._token, self.args.hub_token = self.args.hub_token or self._token, None

    def create_repositories(self, model: nn.Module, token: str | None = None, private: bool | None = None) -> None:
        """
        Create the repository of the run, and that of the base of an adapter or of concepts.

        Args:
            model (`torch.nn.Module`): Unwrapped model of the run.
            token (`str`, *optional*): Token with write permission; by default `hub_token`.
            private (`bool`, *optional*): Whether new repositories are private; by default `hub_private_repo`.

        Raises:
            ValueError: If the Hub refuses the request.
        """
        self._hide_token()
        self._api = HfApi(token=token or self._token)  # Uploads through one object run one after the other.
        self._base_id, self._jobs = None, []
        name = self.args.hub_model_id or Path(self.args.output_dir).absolute().name
        private = self.args.hub_private_repo if private is None else private
        with explain_hub_errors(name):
            self.repo_id = self._api.create_repo(name, private=private, exist_ok=True).repo_id
            if self.args.hub_revision:
                self._api.create_branch(self.repo_id, branch=self.args.hub_revision, exist_ok=True)
        self.find_or_push_base(model)

    def push_run(self, model: nn.Module, commit_message: str) -> CommitInfo:
        """
        Push the files of the run's folder, and with `hub_merged` the merged weights as `NAME-merged`.

        Args:
            model (`torch.nn.Module`): Unwrapped model of the run.
            commit_message (`str`): Message of the commit.

        Raises:
            ValueError: If the Hub refuses the request. The model is in the run's folder in any case.
        """
        self.finish_uploads()
        folder = Path(self.args.output_dir)
        with self._draft() as draft:
            stage_model(folder, draft, base=self.find_or_push_base(model), with_pictures=self.args.hub_pictures)
            # An earlier push may have published pictures that `hub_pictures` now forbids.
            commit = self._upload(draft, self.repo_id, commit_message, delete=list(PICTURE_FILES))
        logger.log(NOTE, "pushed %s", commit.commit_url)
        if self.args.hub_merged and not isinstance(model, AdaptedSam):
            logger.warning("`hub_merged` is ignored, because the run has no `lora` adapter to merge")
        elif self.args.hub_merged:
            logger.log(NOTE, "pushed %s", self._push_merged(folder).commit_url)
        return commit

    def _push_merged(self, folder: Path) -> CommitInfo:
        name = f"{self.repo_id}-merged"
        with self._draft() as draft:
            load_model(ModelOptions(str(folder))).save_pretrained(draft)
            excluded = ("adapter_*", "base_fingerprint.json", "README.md")
            stage_model(folder, draft, excluded=excluded, with_pictures=self.args.hub_pictures)
            card = folder / "card" / "merged.md"
            if card.is_file():
                shutil.copyfile(card, draft / "README.md")
            self._create_companion(name)
            message = f"{self.repo_id}, merged"
            return self._upload(draft, name, message, delete=list(PICTURE_FILES), is_companion=True)

    def push_checkpoint(self, checkpoint: Path, model: nn.Module, step: int) -> None:
        """
        Push a checkpoint in the background as Trainer does; skip it while an earlier push is in progress.

        Args:
            checkpoint (`Path`): Folder of the checkpoint.
            model (`torch.nn.Module`): Unwrapped model of the run.
            step (`int`): Number of optimizer steps, for the message of the commit.
        """
        if self.args.hub_strategy == HubStrategy.END:
            return
        if not all(job.done() for job in self._jobs):
            if not self.args.hub_always_push:
                return
            self.finish_uploads()
        self._log_failed_jobs()
        self._remove_job_folder()
        self._job_folder = tempfile.TemporaryDirectory(dir=self.args.output_dir, prefix=_DRAFT)
        draft, base = Path(self._job_folder.name), self.find_or_push_base(model)
        message = f"Training in progress, step {step}"
        try:
            # README.md is left out, because PEFT writes a card of its own into checkpoints.
            stage_model(checkpoint, draft / "model", base=base, excluded=("README.md",), with_pictures=False)
            self._jobs.append(self._upload(draft / "model", self.repo_id, message, wait=False))
            if self.args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
                is_last_only = self.args.hub_strategy == HubStrategy.CHECKPOINT
                stage_checkpoint(checkpoint, draft / "checkpoint", base=base)
                job = self._upload(
                    draft / "checkpoint",
                    self.repo_id,
                    f"{message}, checkpoint",
                    path_in_repo="last-checkpoint" if is_last_only else checkpoint.name,
                    wait=False,
                )
                self._jobs.append(job)
        except _HUB_ERRORS as error:  # A failed push of a checkpoint must not end the training.
            logger.warning("checkpoint %d could not be pushed (%s); training continues", step, error)

    def finish_uploads(self) -> None:
        """Wait for the upload of a checkpoint, warn if it failed, and remove its temporary files."""
        futures.wait(self._jobs)
        self._log_failed_jobs()
        self._remove_job_folder()

    def _log_failed_jobs(self) -> None:
        """Warn of failed uploads; all uploads must be done."""
        for job in self._jobs:
            if job.exception() is not None:
                logger.warning("a checkpoint could not be pushed: %s", job.exception())
        self._jobs = []

    def _remove_job_folder(self) -> None:
        if self._job_folder is not None:
            self._job_folder.cleanup()
            self._job_folder = None

    def find_or_push_base(self, model: nn.Module) -> str | None:
        """
        Return the Hub id of the base of an adapter or of concepts; a base that is only local is published once.

        Args:
            model (`torch.nn.Module`): Unwrapped model of the run.

        Returns:
            `str` or `None`: `hub_base` if it is set; else `NAME-base` for a local base; `None` for full weights or
                without a repository.
        """
        concepts, save_base = getattr(unwrap_sam(model), "concepts", None), None
        if concepts is not None:
            base = concepts.info.base
        elif isinstance(model, AdaptedSam):
            # PEFT sets the first of these names when it saves the adapter.
            base = model.peft_config["default"].base_model_name_or_path or model.get_base_model().name_or_path
            save_base = model.save_base
        else:
            return None
        if save_base is None and not Path(base).is_dir():
            return base
        if self.args.hub_base is not None:
            return self.args.hub_base
        if self.repo_id is None:
            return None
        if self._base_id is None:
            self._base_id = self._push_base(base, save_base)
        return self._base_id

    def _push_base(self, base: str, save_base: Callable[[Path], None] | None) -> str:
        name = f"{self.repo_id}-base"
        self._create_companion(name)
        with self._draft() as draft:
            if save_base is not None:
                save_base(draft)
            else:
                stage_model(Path(base), draft, excluded=("run.yaml", "eval_results.json"), with_pictures=False)
            self._upload(draft, name, f"The base of {self.repo_id}", is_companion=True)
        logger.log(NOTE, "pushed the base, which was not on the Hub: %s", name)
        return name

    def _create_companion(self, repo: str) -> None:
        """Create a repository beside that of the run, with the same visibility."""
        with explain_hub_errors(repo):
            private = self._api.model_info(self.repo_id).private
            self._api.create_repo(repo, private=private, exist_ok=True)

    @contextlib.contextmanager
    def _draft(self) -> Iterator[Path]:
        """Create a temporary folder on the disk of the run's folder, so that large files are linked, not copied."""
        Path(self.args.output_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.args.output_dir, prefix=_DRAFT) as draft:
            yield Path(draft)

    def _upload(
        self, folder: Path, repo: str, message: str, *, path_in_repo: str | None = None, wait: bool = True,
        delete: list[str] | None = None, is_companion: bool = False,
    ):  # fmt: skip
        arguments = {
            "repo_id": repo,
            "folder_path": folder,
            "path_in_repo": path_in_repo,
            "commit_message": message,
            "delete_patterns": delete,
            "revision": None if is_companion else self.args.hub_revision,  # Companions have a main branch only.
        }
        check_no_secrets(file for file in folder.rglob("*") if file.is_file())
        if not wait:
            return self._api.upload_folder(**arguments, run_as_future=True)
        with explain_hub_errors(repo):
            return self._api.upload_folder(**arguments)


@contextlib.contextmanager
def explain_hub_errors(repo: str) -> Iterator[None]:
    """
    Convert errors of the Hub to a `ValueError` with the remedy.

    Args:
        repo (`str`): Name of the repository, for the message.
    """
    try:
        yield
    except _HUB_ERRORS as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(
            f"`push_to_hub`: {repo!r} cannot be written ({reason}). Run `hf auth login` with a token that may write, "
            "check `hub_model_id` (owner/name), and run the same command again; finished training is not repeated"
        ) from error
