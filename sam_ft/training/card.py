"""What a run's model card is made of, gathered where it is known."""

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
from huggingface_hub import ModelCard

from .. import __version__
from ..arguments import DataArguments, ModelArguments
from ..data.licences import licence_of
from ..data.load import SYNTHETIC, PhraseData
from ..metrics.thresholds import read_thresholds
from ..models.load import RANDOM_TINY, TINY, TINY_FOLDER
from ..models.lora import AdaptedSam3, sam3_of
from ..report.model_card import CardFacts, model_card
from ..report.stages import stage
from .comparison import RunReport
from .sam3 import Sam3Trainer


PICTURES = 3
_OURS = "apache-2.0"


def publish(
    trainer: Sam3Trainer,
    report: RunReport,
    data: PhraseData,
    model_args: ModelArguments,
    data_args: DataArguments,
    metrics: dict,
) -> None:
    """Writes the card, and pushes where the run was asked to; arguments as in [`write_card`]."""
    write_card(trainer, report, data, model_args, data_args, metrics)
    if trainer.args.push_to_hub:
        with stage("push to the Hub"):
            trainer.push_to_hub()


def write_card(
    trainer: Sam3Trainer,
    report: RunReport,
    data: PhraseData,
    model_args: ModelArguments,
    data_args: DataArguments,
    metrics: dict,
) -> Path | None:
    """
    Writes `README.md` and the pictures it shows, `card/N.png`, into a run's folder; with adapters also `card/merged.md`, the card of the
    merged weights.

    Args:
        trainer (`Sam3Trainer`): of the run. report (`RunReport`). data (`PhraseData`), model_args, data_args: the run's.
        metrics (`dict`): what the training said of itself, such as `train_runtime`.

    Returns:
        `Path` or `None`: the card; nothing is written by other processes than the first.
    """
    if not trainer.is_world_process_zero():
        return None
    folder = Path(trainer.args.output_dir)
    model = trainer.accelerator.unwrap_model(trainer.model)
    adapter = isinstance(model, AdaptedSam3)
    base, base_id, licence = _base(model_args.model_name_or_path, sam3_of(model).config)
    if adapter and base_id is None and trainer.args.push_to_hub:
        base_id = trainer.base_on_hub()
    place, dataset_id = _dataset(data_args)
    facts = CardFacts(
        name=trainer.hub_model_id or folder.as_posix(),
        form="adapter" if adapter else "full",
        base=base,
        base_id=base_id,
        licence=licence,
        dataset=place,
        dataset_id=dataset_id,
        dataset_licence=data_args.dataset_license or _dataset_licence(data_args),
        phrases=sorted(trainer.trained_phrases or ()),
        columns=report.columns,
        pictures=_save_pictures(report, folder) if trainer.args.hub_pictures else [],
        thresholds=read_thresholds(folder),
        made=_made(trainer, data, model, metrics),
        command=command_line(),
        has_report=(folder / "report.html").is_file() and trainer.args.hub_pictures,
        side=sam3_of(model).config.image_size,
    )
    if adapter:
        (folder / "card").mkdir(exist_ok=True)
        merged = replace(facts, name=f"{facts.name}-merged", form="merged")
        (folder / "card" / "merged.md").write_text(model_card(merged), encoding="utf-8")
    file = folder / "README.md"
    file.write_text(model_card(facts), encoding="utf-8")
    return file


def _save_pictures(report: RunReport, folder: Path) -> list[tuple[str, str]]:
    """The pictures that changed most for the better, one that did worst: `(caption, file)`."""
    won = [one for heading, listed in report.pictures.items() if heading.startswith("Most won") for one in listed]
    best, worst = report.pictures.get("Best pictures", []), report.pictures.get("Worst pictures", [])
    good = (won or best)[: PICTURES - 1]
    listed = good + [
        (f"its worst image: {caption}", picture) for caption, picture in worst[:1] if (caption, picture) not in good
    ]
    saved = []
    for number, (caption, picture) in enumerate(listed, 1):
        file = folder / "card" / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        picture.save(file)
        saved.append((caption, f"card/{number}.png"))
    return saved


def _base(name: str, config) -> tuple[str, str | None, str]:
    """What was tuned in words, its Hub id, its licence. A tuned SAM 3 stays under the SAM License."""
    if name in (TINY, RANDOM_TINY, str(TINY_FOLDER)):
        return f"`{name}`, the 1.8 M-parameter model that sam-ft carries", None, _OURS
    if not Path(name).is_dir():
        return f"[{name}](https://huggingface.co/{name})", name, "other"
    card = Path(name) / "README.md"
    stated = ModelCard.load(card).data if card.is_file() else None
    licence = getattr(stated, "license", None) or "other"
    return f"`{Path(name).name}`, a local model", None, _OURS if licence == _OURS else "other"


def _dataset(data_args: DataArguments) -> tuple[str, str | None]:
    """A data set in words, and its Hub id. Of a folder the name alone: where it lies is nobody's business."""
    name = data_args.annotation_file or data_args.dataset_name
    if name.startswith(SYNTHETIC) and not Path(name).exists():
        return "synthetic scenes of coloured shapes", None
    return (
        (f"`{Path(name).name}`", None)
        if Path(name).exists()
        else (f"[{name}](https://huggingface.co/datasets/{name})", name)
    )


def _dataset_licence(data_args: DataArguments) -> str | None:
    name = data_args.annotation_file or data_args.dataset_name
    if name.startswith(SYNTHETIC) and not Path(name).exists():
        return "drawn by sam-ft, Apache-2.0"
    return licence_of(name)


def _made(trainer: Sam3Trainer, data: PhraseData, model, metrics: dict) -> dict[str, str]:
    args = trainer.args
    config = sam3_of(model).config
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    made = {
        "trained on": f"{len(data.train)} images" if data.train is not None else "",
        "evaluated on": f"{len(data.validation)} images",
        "canvas": f"{config.image_size} px",
        "trained parameters": f"{trained / 1e6:.2f} M",
        "steps": f"{trainer.state.global_step} ({trainer.state.epoch:.1f} epochs)" if trainer.state.epoch else str(trainer.state.global_step),
        "hardware": f"{args.world_size} × {_device(args.device)}",
        "time": _time(metrics),
        "peak memory": _memory(args.device),
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


def _time(metrics: dict) -> str:
    seconds = metrics.get("train_runtime")
    if seconds is None:
        return ""
    hours, minutes = int(seconds // 3600), int(seconds % 3600 // 60)
    told = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60:.0f} s"
    return f"{told} of training" + (" since it was last resumed" if metrics.get("resumed") else "")


def _memory(device: torch.device) -> str:
    """The most that this process held."""
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB of GPU memory"
    try:
        import resource
    except ImportError:  # Windows
        return ""
    unit = 1 if sys.platform == "darwin" else 1024
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30:.1f} GiB of host memory"


def command_line() -> str:
    """The command of this run, as it was given."""
    script = Path(sys.argv[0])
    shown = script.relative_to(Path.cwd()) if script.is_absolute() and script.is_relative_to(Path.cwd()) else script
    words = ["accelerate launch", *(shlex.quote(word) for word in (shown.as_posix(), *sys.argv[1:]))]
    return " ".join(words).replace(str(Path.home()), "~")
