"""What a run's model card is made of, gathered where it is known."""

import contextlib
import itertools
import logging
import platform
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import accelerate
import datasets
import peft
import torch
import transformers
import yaml
from huggingface_hub import ModelCard

from .. import __version__
from ..arguments.dataset import SharedDataArguments
from ..arguments.model import SharedModelArguments
from ..data.licences import licence_of
from ..data.loading import SYNTHETIC, SYNTHETIC_STREAM, PhraseData
from ..metrics.thresholds import read_thresholds
from ..models.families import CARRIED, SAM2, Family, family_of_model
from ..models.lora import AdaptedSam, sam_of
from ..models.sam3.config import side_of
from ..reporting.card_facts import CardFacts, DatasetFacts
from ..reporting.model_card import model_card
from ..training.checkpoints import RUN_KIND
from ..training.evaluation_loop import ScoringTrainer
from ..training.hub_upload import without_places
from ..training.run_cost import cost_of
from ..utils.console import stage
from ..utils.owned_files import OwnedFiles
from ..utils.secrets import is_secret_key, redact
from .run_report import RunReport, pictures_of


logger = logging.getLogger("sam_ft.run")

PICTURES = 3
_OURS = "apache-2.0"


def publish(
    trainer: ScoringTrainer,
    report: RunReport,
    data: PhraseData,
    model_args: SharedModelArguments,
    data_args: SharedDataArguments,
) -> None:
    """Writes the card, and pushes where the run was asked to; arguments as in [`write_card`]."""
    write_card(trainer, report, data, model_args, data_args)
    if trainer.args.push_to_hub:
        with stage("push to the Hub"):
            trainer.push_to_hub()


def write_card(
    trainer: ScoringTrainer,
    report: RunReport,
    data: PhraseData,
    model_args: SharedModelArguments,
    data_args: SharedDataArguments,
) -> Path | None:
    """
    Writes `README.md` and the pictures it shows, `card/N.png`, into a run's folder; with adapters also `card/merged.md`, the card of the
    merged weights.

    Args:
        trainer (`ScoringTrainer`): of the run. report (`RunReport`). data (`PhraseData`), model_args, data_args: the run's.

    Returns:
        `Path` or `None`: the card; nothing is written by other processes than the first.
    """
    if not trainer.is_world_process_zero():
        return None
    folder = Path(trainer.args.output_dir)
    owned = OwnedFiles(folder, RUN_KIND)
    model = trainer.accelerator.unwrap_model(trainer.model)
    adapter = isinstance(model, AdaptedSam)
    family = family_of_model(sam_of(model))
    base, base_id, licence = _base(model_args.model_name_or_path, family)
    revision = model_args.model_revision
    if adapter:
        recorded = model.peft_config["default"]
        base_id, revision = trainer.base_on_hub(), recorded.revision
    places = [
        place
        for place in (data_args.annotation_file or data_args.dataset_name, *data_args.extra_datasets, data_args.replay)
        if place
    ]
    facts = CardFacts(
        name=trainer.hub_model_id or without_places(folder.as_posix()),
        family=family.key,
        form="adapter" if adapter else "full",
        base=base,
        base_id=base_id,
        revision=revision,
        licence=licence,
        datasets=[_dataset(place, data_args.dataset_license if place == places[0] else None) for place in places],
        phrases=sorted(trainer.trained_phrases or ()),
        columns=report.columns,
        pictures=_save_pictures(trainer, report, data, owned),
        thresholds=read_thresholds(folder),
        made=_made(trainer, data, model),
        command=command_line(),
        has_report=(folder / "report.html").is_file() and trainer.args.hub_pictures,
        side=_other_side(model, family) if adapter else None,
    )
    if adapter:
        merged = replace(facts, name=f"{facts.name}-merged", form="merged")
        owned.write_unless_edited("card/merged.md", redact(model_card(merged)))
    file, is_replaced = owned.write_unless_edited("README.md", redact(model_card(facts)))
    if not is_replaced:
        logger.warning("README.md was edited and is kept; the new model card is %s", file)
    return file


def _save_pictures(
    trainer: ScoringTrainer, report: RunReport, data: PhraseData, owned: OwnedFiles
) -> list[tuple[str, str]]:
    """
    The pictures that changed most for the better, one that did worst, of trained phrases alone: `(caption, file)`. Those of an earlier call are
    removed, unless they were edited.
    """
    owned.remove(name for name in owned.names if name.startswith("card/") and name.endswith(".png"))
    if not (trainer.args.hub_pictures and trainer.num_pictures):
        return []
    pictures = pictures_of(report.evaluated, data, PICTURES, trainer.trained_phrases)
    won = [one for heading, listed in pictures.items() if heading.startswith("Most won") for one in listed]
    best, worst = pictures.get("Best pictures", []), pictures.get("Worst pictures", [])
    good = (won or best)[: PICTURES - 1]
    listed = good + [
        (f"its worst image: {caption}", picture) for caption, picture in worst[:1] if (caption, picture) not in good
    ]
    saved = []
    for number, (caption, picture) in enumerate(listed, 1):
        name = next(
            n for i in itertools.count() if owned.is_free(n := f"card/{number}{'' if i == 0 else f'-{i}'}.png")
        )
        owned.write(name, picture.save, "output_dir")
        saved.append((caption, name))
    return saved


def _base(name: str, family: Family) -> tuple[str, str | None, str]:
    """What was tuned in words, its Hub id, its licence. A tuned SAM 3 stays under the SAM License; SAM 2 is under Apache-2.0."""
    if name in (*CARRIED, *map(str, CARRIED.values())):
        return f"`{name}`, the tiny model that sam-ft carries,", None, _OURS
    if name == family.random_name:
        return f"`{name}`, an untrained model of sam-ft's,", None, _OURS
    own = _OURS if family is SAM2 else "other"
    if not Path(name).is_dir():
        return f"[{name}](https://huggingface.co/{name})", name, own
    card, licence = Path(name) / "README.md", None
    if card.is_file():
        with contextlib.suppress(ValueError, yaml.YAMLError):
            licence = ModelCard.load(card).data.license
    return f"`{Path(name).name}`, a local model,", None, _OURS if licence == _OURS else own


def _other_side(model: AdaptedSam, family: Family) -> int | None:
    """The canvas of an adapter, px, where its base's own is another; Transformers would load that."""
    base, side = model.get_base_model(), side_of(sam_of(model).config)
    revision = model.peft_config["default"].revision
    own = (
        family.config.from_pretrained(base.name_or_path, revision=revision)
        if base.name_or_path
        else family.tiny_config()
    )
    own = getattr(own, "detector_config", None) or own
    return side if side != side_of(own) else None


def _dataset(place: str, licence: str | None) -> DatasetFacts:
    """Of a folder the name alone: where it lies is nobody's business."""
    if place in (SYNTHETIC, SYNTHETIC_STREAM):
        return DatasetFacts("synthetic scenes of coloured shapes", None, licence or "drawn by sam-ft, Apache-2.0")
    here = Path(place).exists()
    return DatasetFacts(Path(place).name if here else place, None if here else place, licence or licence_of(place))


def _made(trainer: ScoringTrainer, data: PhraseData, model) -> dict[str, str]:
    args = trainer.args
    config = sam_of(model).config
    cost, where = cost_of(trainer), "of GPU memory" if args.device.type == "cuda" else "of host memory, a process"
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    made = {
        "trained on": f"{len(data.train)} images" if data.train is not None else "",
        "evaluated on": f"{len(data.validation)} images",
        "canvas": f"{side_of(config)} px",
        "trained parameters": f"{trained / 1e6:.2f} M",
        "steps": f"{trainer.state.global_step} ({trainer.state.epoch:.1f} epochs)" if trainer.state.epoch else str(trainer.state.global_step),
        "hardware": f"{args.world_size} × {_device(args.device)}",
        "time": "" if cost is None else f"{_time(cost.seconds)} of training",
        "peak memory": "" if cost is None or not cost.memory else f"{cost.memory / 2**30:.1f} GiB {where}",
        "versions": ", ".join(
            f"{name} {version}"
            for name, version in (
                ("sam-ft", __version__), ("transformers", transformers.__version__), ("torch", torch.__version__),
                ("accelerate", accelerate.__version__), ("datasets", datasets.__version__), ("peft", peft.__version__),
            )
        ),
    }  # fmt: skip
    return {name: value for name, value in made.items() if value}


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)" if device.type == "cpu" else device.type


def _time(seconds: float) -> str:
    hours, minutes = int(seconds // 3600), int(seconds % 3600 // 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60:.0f} s"


def command_line() -> str:
    """The command of this run as it was given, without secrets, however they are spelt, and without the places of this machine."""
    script = Path(sys.argv[0])
    shown = script.relative_to(Path.cwd()) if script.is_absolute() and script.is_relative_to(Path.cwd()) else script
    words, hidden = [shown.as_posix()], False
    for word in sys.argv[1:]:
        is_option = word.startswith("--")
        secret = is_option and is_secret_key(word.partition("=")[0].lstrip("-").replace("-", "_"))
        if not secret and (is_option or not hidden):
            words.append(word)
        hidden = (secret and "=" not in word) if is_option else hidden
    return redact(without_places(" ".join(["accelerate launch --quiet", *map(shlex.quote, words)])))
