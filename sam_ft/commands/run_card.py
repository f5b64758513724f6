"""Model card of a run: facts and pictures for the card, and upload to the Hub."""

import contextlib
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
from ..data.loading import PhraseData
from ..metrics.thresholds import read_thresholds
from ..models.families import PACKAGED_MODELS, get_family_of_model, get_resolution
from ..models.family_spec import FamilySpec
from ..models.lora import AdaptedSam
from ..models.unwrapping import unwrap_sam
from ..options.data import SYNTHETIC, SYNTHETIC_STREAM
from ..reporting.card_facts import CardFacts, DatasetFacts
from ..reporting.comparisons import tile_panels
from ..reporting.model_card import model_card
from ..reporting.phrase_colors import assign_colors
from ..training.base_trainer import SamTrainer
from ..training.checkpoints import RUN_KIND
from ..training.hub_files import replace_local_paths
from ..training.run_cost import find_run_cost
from ..utils.console import stage
from ..utils.owned_files import OwnedFiles
from ..utils.secrets import is_secret_key, redact
from ..utils.text import count_noun
from .report_pictures import BEST, MOST_IMPROVED, WORST, draw_pictures, list_evaluated_phrases, save_picture
from .run_report import RunReport


logger = logging.getLogger("sam_ft.run")

PICTURES = 3
_OWN_LICENCE = "apache-2.0"


def publish(
    trainer: SamTrainer,
    report: RunReport,
    data: PhraseData,
    model_args: SharedModelArguments,
    data_args: SharedDataArguments,
) -> None:
    """
    Write the model card and, with `push_to_hub`, push the run to the Hub.

    Args:
        trainer (`SamTrainer`): Trainer of the run.
        report (`RunReport`): Report of the run.
        data (`PhraseData`): Data of the run.
        model_args (`SharedModelArguments`): Keys of the model.
        data_args (`SharedDataArguments`): Keys of the data.
    """
    write_card(trainer, report, data, model_args, data_args)
    if trainer.args.push_to_hub:
        with stage("push to the Hub"):
            trainer.push_to_hub()


def write_card(
    trainer: SamTrainer,
    report: RunReport,
    data: PhraseData,
    model_args: SharedModelArguments,
    data_args: SharedDataArguments,
) -> Path | None:
    """
    Write the model card `README.md` with its pictures `card/N.png`.

    With adapters, `card/merged.md` is the card of the merged weights.

    Args:
        trainer (`SamTrainer`): Trainer of the run.
        report (`RunReport`): Report of the run.
        data (`PhraseData`): Data of the run.
        model_args (`SharedModelArguments`): Keys of the model.
        data_args (`SharedDataArguments`): Keys of the data.

    Returns:
        `Path` or `None`: File of the card; `None` in all processes but the first, which write nothing.
    """
    if not trainer.is_world_process_zero():
        return None
    folder = Path(trainer.args.output_dir)
    owned = OwnedFiles(folder, RUN_KIND)
    model = trainer.accelerator.unwrap_model(trainer.model)
    adapter = isinstance(model, AdaptedSam)
    family = get_family_of_model(unwrap_sam(model))
    concepts = trainer.concepts if family.takes_phrases else None
    # The name of the run's model may be that of earlier concepts.
    named = (model_args.model_name_or_path, model_args.model_revision)
    name, revision = named if concepts is None else (concepts.info.base, concepts.info.revision)
    base, base_id, licence = _base(name, family)
    if adapter:
        base_id, revision = trainer.hub.find_or_push_base(model), model.peft_config["default"].revision
    elif concepts is not None and Path(name).is_dir():
        base_id = trainer.hub.find_or_push_base(model)
    facts = CardFacts(
        name=trainer.hub_model_id or replace_local_paths(folder.as_posix()),
        is_on_hub=trainer.hub_model_id is not None,
        family=family,
        form="adapter" if adapter else "full" if concepts is None else "concepts",
        concepts=[] if concepts is None else concepts.index.phrases,
        base=base,
        base_id=base_id,
        revision=revision,
        licence=licence,
        datasets=_list_datasets(data_args),
        phrases=sorted((trainer.trained_phrases or ()) if concepts is None else concepts.index.phrases),
        columns=report.columns,
        pictures=_save_pictures(trainer, report, data, owned),
        thresholds=read_thresholds(folder),
        made=_training_facts(trainer, data, model),
        command=format_command_line(),
        has_report=(folder / "report.html").is_file() and trainer.args.hub_pictures,
        side=_changed_side(model, family) if adapter else None,
    )
    return _write_cards(owned, facts)


def _write_cards(owned: OwnedFiles, facts: CardFacts) -> Path:
    """Write the card of an adapter's merged weights and that of the run, and return the file of the latter."""
    if facts.form == "adapter":
        merged = replace(facts, name=f"{facts.name}-merged", form="merged")
        owned.write_unless_edited("card/merged.md", redact(model_card(merged)))
    file, is_replaced = owned.write_unless_edited("README.md", redact(model_card(facts)))
    if not is_replaced:
        logger.warning("README.md was edited and is kept; the new model card is %s", file)
    return file


def _list_datasets(data_args: SharedDataArguments) -> list[DatasetFacts]:
    """List the training data sets; `dataset_license` is that of the first."""
    sources = [data_args.source_name, *data_args.extra_datasets, data_args.replay]
    sources = [source for source in sources if source]
    return [_dataset(source, data_args.dataset_license if source == sources[0] else None) for source in sources]


def _save_pictures(
    trainer: SamTrainer, report: RunReport, data: PhraseData, owned: OwnedFiles
) -> list[tuple[str, str]]:
    """
    Save pictures of trained phrases: those that improved most, and the worst one.

    Pictures of an earlier call are removed unless they were edited.

    Returns:
        `list[tuple[str, str]]`: Caption and file name of each picture.
    """
    owned.remove(name for name in owned.names if name.startswith("card/") and name.endswith(".png"))
    if not (trainer.args.hub_pictures and trainer.num_pictures):
        return []
    pictures = draw_pictures(report.evaluated, data, PICTURES, trainer.trained_phrases)
    improved = [entry for heading, group in pictures.items() if heading.startswith(MOST_IMPROVED) for entry in group]
    good = (improved or pictures.get(BEST, []))[: PICTURES - 1]
    bad = [entry for entry in pictures.get(WORST, [])[:1] if all(entry is not other for other in good)]
    colors, saved = assign_colors(list_evaluated_phrases(report.evaluated)), []
    for number, entry in enumerate(good + bad, 1):
        sheet = tile_panels([entry.panels], {text: colors[text] for text in entry.phrases})
        caption = f"worst image: {entry.caption}" if number > len(good) else entry.caption
        saved.append((caption, save_picture(owned, f"card/{number}.png", sheet)))
    return saved


def _base(name: str, family: FamilySpec) -> tuple[str, str | None, str]:
    """Return description, Hub id and licence of the base: SAM License for SAM 3, Apache-2.0 for SAM 2."""
    if name in (*PACKAGED_MODELS, *map(str, PACKAGED_MODELS.values())):
        return f"`{name}`, the tiny model in the package sam-ft,", None, _OWN_LICENCE
    if name == family.random_name:
        return f"`{name}`, a model of sam-ft with random weights,", None, _OWN_LICENCE
    family_licence = family.card.licence
    if not Path(name).is_dir():
        return f"[{name}](https://huggingface.co/{name})", name, family_licence
    card, licence = Path(name) / "README.md", None
    if card.is_file():
        with contextlib.suppress(ValueError, yaml.YAMLError):
            licence = ModelCard.load(card).data.license
    return f"`{Path(name).name}`, a local model,", None, _OWN_LICENCE if licence == _OWN_LICENCE else family_licence


def _changed_side(model: AdaptedSam, family: FamilySpec) -> int | None:
    """Return the input side of an adapter in px if it differs from its base, whose side Transformers would load."""
    base, side = model.get_base_model(), get_resolution(unwrap_sam(model).config)
    revision = model.peft_config["default"].revision
    base_config = (
        family.config_class.from_pretrained(base.name_or_path, revision=revision)
        if base.name_or_path
        else family.build_tiny_config()
    )
    base_config = getattr(base_config, "detector_config", None) or base_config
    return side if side != get_resolution(base_config) else None


def _dataset(source: str, licence: str | None) -> DatasetFacts:
    """Return the facts of a data set; of a local folder only the name, because its path is private."""
    if source in (SYNTHETIC, SYNTHETIC_STREAM):
        return DatasetFacts("synthetic scenes of coloured shapes", None, licence or "drawn by sam-ft, Apache-2.0")
    is_local = Path(source).exists()
    name, hub_id = (Path(source).name, None) if is_local else (source, source)
    return DatasetFacts(name, hub_id, licence or licence_of(source))


def _training_facts(trainer: SamTrainer, data: PhraseData, model) -> dict[str, str]:
    args = trainer.args
    config = unwrap_sam(model).config
    cost = find_run_cost(trainer)
    memory_kind = "of GPU memory" if args.device.type == "cuda" else "of host memory per process"
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    state = trainer.state
    facts = {
        "trained on": count_noun(len(data.train), "image") if data.train is not None else "",
        "evaluated on": count_noun(len(data.validation), "image"),
        "canvas": f"{get_resolution(config)} px",
        "trained parameters": f"{trained / 1e6:.2f} M",
        "steps": f"{state.global_step} ({state.epoch:.1f} epochs)" if state.epoch else str(state.global_step),
        "hardware": f"{args.world_size} × {_device(args.device)}",
        "time": "" if cost is None else f"{_time(cost.seconds)} of training",
        "peak memory": "" if cost is None or not cost.memory else f"{cost.memory / 2**30:.1f} GiB {memory_kind}",
        "versions": ", ".join(
            f"{name} {version}"
            for name, version in (
                ("sam-ft", __version__), ("transformers", transformers.__version__), ("torch", torch.__version__),
                ("accelerate", accelerate.__version__), ("datasets", datasets.__version__), ("peft", peft.__version__),
            )
        ),
    }  # fmt: skip
    return {name: value for name, value in facts.items() if value}


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)" if device.type == "cpu" else device.type


def _time(seconds: float) -> str:
    hours, minutes = int(seconds // 3600), int(seconds % 3600 // 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60:.0f} s"


def format_command_line() -> str:
    """Return the command of this run without secrets and without the paths of this machine."""
    script = Path(sys.argv[0])
    if script.is_absolute() and script.is_relative_to(Path.cwd()):
        script = script.relative_to(Path.cwd())
    words, is_hidden = [script.as_posix()], False
    for word in sys.argv[1:]:
        is_option = word.startswith("--")
        is_secret = is_option and is_secret_key(word.partition("=")[0].lstrip("-").replace("-", "_"))
        if not is_secret and (is_option or not is_hidden):
            words.append(word)
        is_hidden = (is_secret and "=" not in word) if is_option else is_hidden
    return redact(replace_local_paths(" ".join(["accelerate launch --quiet", *map(shlex.quote, words)])))
