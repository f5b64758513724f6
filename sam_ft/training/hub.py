"""A run's weights on the Hub: what is published of a folder, and a base that a stranger finds."""

import contextlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled
from peft.utils import CONFIG_NAME as ADAPTER_CONFIG
from transformers import Trainer
from transformers.trainer_utils import HubStrategy
from transformers.utils import PushInProgress

from ..models.load import ModelOptions, load_model
from ..models.lora import AdaptedSam3


logger = logging.getLogger("sam_ft.run")

# what of a run's folder is published; pictures and predictions of the data set only as far as the card shows them
PUBLISHED = (
    "*.safetensors", "*.safetensors.index.json", "config.json", "adapter_config.json", "processor_config.json", "preprocessor_config.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt", "thresholds.json",
    "trained_phrases.json", "eval_results.json", "run.yaml", "README.md",
)  # fmt: skip
SHOWN = ("report.html", "card/*.png")
_DRAFT = ".hub"  # in a run's folder: what is being uploaded
_FAILURES = (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled, OSError, ValueError)


class HubTrainer(Trainer):
    """
    Transformers' Trainer, which publishes a choice of its folder instead of all of it, and with an adapter its base where only this machine
    has it. Its keys are Trainer's (`push_to_hub`, `hub_model_id`, `hub_strategy`, …), `hub_merged` and `hub_pictures`.
    """

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """
        Makes the repository, before anything is trained.

        Raises:
            `ValueError`: where the Hub refuses; says what to do.
        """
        self._base_id: str | None = None
        with naming_the_hub(self.args.hub_model_id or Path(self.args.output_dir).absolute().name):
            super().init_hf_repo(token, private)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False):
        """Saves; pushing is `push_to_hub`'s, once the card is written."""
        super().save_model(output_dir, _internal_call=True)

    def push_to_hub(self, commit_message: str | None = "Tuned model", blocking: bool = True, **kwargs):
        """
        Publishes what the run's folder holds, with `hub_merged` also the merged weights, as `NAME-merged`.

        Raises:
            `ValueError`: where the Hub refuses; the model is in the folder all the same.
        """
        if not self.is_world_process_zero():
            return None
        if self.hub_model_id is None:
            self.init_hf_repo()
        self._finish_current_push()
        folder = Path(self.args.output_dir)
        with naming_the_hub(self.hub_model_id), tempfile.TemporaryDirectory() as draft:
            self._stage(folder, Path(draft))
            done = self._upload(Path(draft), self.hub_model_id, commit_message)
            logger.info("  %s", done.commit_url)
            if self.args.hub_merged:
                logger.info("  %s", self._push_merged(folder).commit_url)
        return done

    def _push_merged(self, folder: Path):
        name = f"{self.hub_model_id}-merged"
        with tempfile.TemporaryDirectory() as draft:
            load_model(ModelOptions(str(folder))).save_pretrained(draft)
            stage(folder, Path(draft), without=("adapter_*", "README.md"), shown=self.args.hub_pictures)
            card = folder / "card" / "merged.md"
            if card.is_file():
                shutil.copyfile(card, Path(draft) / "README.md")
            self._create(name)
            return self._upload(Path(draft), name, f"{self.hub_model_id}, merged")

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """As Trainer's: not waited for, so that training goes on, and not begun while one is under way."""
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        if self.push_in_progress is not None and not self.push_in_progress.is_done():
            if not self.args.hub_always_push:
                return
            self._finish_current_push()
        self._tell_failed_pushes()
        step, draft = self.state.global_step, Path(self.args.output_dir) / _DRAFT
        shutil.rmtree(draft, ignore_errors=True)
        try:
            self._stage(Path(checkpoint_folder), draft)
            jobs = [self._upload(draft, self.hub_model_id, f"Training in progress, step {step}", wait=False)]
            if self.args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
                last = self.args.hub_strategy == HubStrategy.CHECKPOINT
                place = "last-checkpoint" if last else Path(checkpoint_folder).name
                message = f"Training in progress, step {step}, checkpoint"
                jobs.append(self._upload(Path(checkpoint_folder), self.hub_model_id, message, place=place, wait=False))
        except _FAILURES as error:  # of one push in between: training is worth more
            logger.warning("checkpoint %d could not be pushed (%s); training goes on", step, error)
            return
        self.push_in_progress = PushInProgress(jobs)

    def _finish_current_push(self) -> None:
        super()._finish_current_push()
        self._tell_failed_pushes()
        shutil.rmtree(Path(self.args.output_dir) / _DRAFT, ignore_errors=True)

    def _tell_failed_pushes(self) -> None:
        current = getattr(self, "push_in_progress", None)
        for job in current.jobs if current is not None else ():
            if job.done() and job.exception() is not None:
                logger.warning("a checkpoint could not be pushed: %s", job.exception())
        if current is not None and current.is_done():
            self.push_in_progress = None

    def _upload(self, folder: Path, repo: str, message: str, *, place: str | None = None, wait: bool = True):
        return HfApi().upload_folder(
            repo_id=repo,
            folder_path=folder,
            path_in_repo=place,
            commit_message=message,
            token=self.args.hub_token,
            revision=self.args.hub_revision,
            run_as_future=not wait,
        )

    def _create(self, repo: str) -> None:
        HfApi().create_repo(repo, token=self.args.hub_token, private=self.args.hub_private_repo, exist_ok=True)

    def _stage(self, folder: Path, draft: Path) -> None:
        stage(folder, draft, base=self.base_on_hub(), shown=self.args.hub_pictures)

    def base_on_hub(self) -> str | None:
        """
        The Hub id of an adapter's base; a base that only this machine has is published as `NAME-base`, once. `None` without an adapter, and
        before anything is pushed.
        """
        model = self.accelerator.unwrap_model(self.model)
        if not isinstance(model, AdaptedSam3):
            return None
        base = model.peft_config["default"].base_model_name_or_path
        if not Path(base).is_dir():
            return base
        if self.hub_model_id is None:
            return None
        if self._base_id is None:
            name = f"{self.hub_model_id}-base"
            with naming_the_hub(name), tempfile.TemporaryDirectory() as place:
                self._create(name)
                draft = Path(place)
                if model.save_base is not None:
                    model.save_base(draft)
                else:
                    stage(Path(base), draft, without=("run.yaml", "eval_results.json"), shown=False)
                self._upload(draft, name, f"The base of {self.hub_model_id}")
            logger.info("  the adapter's base, which only this machine has: %s", name)
            self._base_id = name
        return self._base_id


def stage(
    folder: Path, draft: Path, *, base: str | None = None, without: tuple[str, ...] = (), shown: bool = True
) -> None:
    """
    Links what is published of a run's or checkpoint's folder into an empty one.

    Args:
        folder (`Path`). draft (`Path`): made where it is not there. base (`str`, *optional*): what an adapter's config names as its base.
        without (`tuple[str, ...]`): patterns that are left out. shown (`bool`): pictures and the report, too.
    """
    draft.mkdir(parents=True, exist_ok=True)
    left_out = {file for pattern in without for file in folder.glob(pattern)}
    for pattern in PUBLISHED + (SHOWN if shown else ()):
        for file in sorted(set(folder.glob(pattern)) - left_out):
            target = draft / file.relative_to(folder)
            if target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix in (".yaml", ".md", ".json"):
                _copy_text(file, target)
            else:
                _link(file, target)
    config = draft / ADAPTER_CONFIG
    if base is not None and config.is_file():
        content = json.loads(config.read_text(encoding="utf-8"))
        if content["base_model_name_or_path"] != base:
            content |= {"base_model_name_or_path": base, "revision": None}
        config.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(file, target)


def _copy_text(file: Path, target: Path) -> None:
    """Without the name of a person's home folder, which is nobody's business."""
    text, home = file.read_text(encoding="utf-8"), str(Path.home())
    target.write_text(text.replace(home, "~") if len(home) > 1 else text, encoding="utf-8")


@contextlib.contextmanager
def naming_the_hub(repo: str) -> Iterator[None]:
    """Turns what the Hub answers into one `ValueError` that says what to do."""
    try:
        yield
    except _FAILURES as error:
        raise ValueError(
            f"`push_to_hub`: {repo!r} cannot be written ({_first_line(error)}). Run `hf auth login` with a token that may write, check "
            "`hub_model_id` (owner/name), then give the same command again: what is trained already is not trained again"
        ) from error


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
