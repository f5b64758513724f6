"""Opening lines of a training run: data, model, trained parameters, schedule, evaluation and memory options."""

from collections.abc import Iterator
from pathlib import Path

from datasets import Dataset
from transformers.trainer_utils import IntervalStrategy

from ..data.loading import PhraseData
from ..data.row_schema import count_instances
from ..data.safe_text import to_printable
from ..models.families import get_family_of_model, get_resolution
from ..models.freezing import count_parameters
from ..models.unwrapping import unwrap_sam
from ..reporting.run_summary import format_line
from ..training.base_trainer import SamTrainer
from ..utils.text import count_noun, list_some
from .retention_probe import Retention
from .run import Run


MAX_NOTES = 2  # lines of notes on the data on the console, beside warnings; the log file contains all
_MEMORY_KEYS = ("pair_checkpointing", "quantization", "feature_cache", "cache_text", "draft_decoding")


def describe_data(data: PhraseData, source_name: str | None) -> Iterator[str]:
    """
    Describe the images of a run in a line for each split.

    Args:
        data (`PhraseData`): Data of the run.
        source_name (`str`, *optional*): Name of the training data.
    """
    if data.train is not None:
        yield format_line("training data", f"{source_name}: {_describe_rows(data.train)}")
    yield format_line("evaluation data", _describe_rows(data.validation))


def _describe_rows(rows) -> str:
    if not isinstance(rows, Dataset):
        return f"{count_noun(len(rows), 'image')} per epoch (mixed, streamed or generated)"
    number, by_phrase = count_instances(rows)
    present = [text for text, count in by_phrase.most_common() if count]
    absent = len(by_phrase) - len(present)
    names = f" ({list_some(present, 4)})" if present else ""
    return (
        f"{count_noun(len(rows), 'image')}, {count_noun(number, 'instance')} of {count_noun(len(present), 'phrase')}"
        f"{names}{f'; {absent:,} more absent' if absent else ''}"
    )


def describe_notes(data: PhraseData, log_file: Path) -> list[str]:
    """
    Return all warnings of the data, and the other notes in at most `MAX_NOTES` lines.

    Args:
        data (`PhraseData`): Data of the run.
        log_file (`Path`): File that contains all notes.
    """
    others = [note for note in data.notes if note not in data.warnings]
    findings = [line for report in data.reports for line in report.list_findings()]
    notes = [*findings, *others]
    if len(notes) > MAX_NOTES:
        rest = len(notes) - MAX_NOTES + 1
        notes[MAX_NOTES - 1 :] = [f"{rest} more notes on the data are in {log_file}"]
    return [to_printable(f"note: {note}") for note in (*data.warnings, *notes)]


def describe_run_setup(run: Run, trainer: SamTrainer, retention: Retention) -> list[str]:
    """
    Describe model, trained parameters, schedule, evaluation and memory options of a run in a line each.

    Args:
        run (`Run`): Keys of the run.
        trainer (`SamTrainer`): Its trainer.
        retention (`Retention`): Its measurement of retention.
    """
    args, model = run.training, unwrap_sam(trainer.unwrapped_model)
    family = get_family_of_model(model)
    precision = "bf16" if args.uses_bf16() else "float32"
    counts = count_parameters(model)
    encoders = {part.partition("_")[0] for part, (trained, _) in counts.items() if trained}
    name, side = run.model.model_name_or_path, get_resolution(model.config)
    lines = {
        "model": f"{name} ({family.title}) at {side} px, {precision} on {args.device}",
        "trained": _describe_trained(run, model, counts),
        "schedule": args.describe_schedule(encoders),
        "evaluation": _describe_evaluation(args, retention),
        "memory options": _describe_memory(run),
    }
    return [format_line(kind, text) for kind, text in lines.items()]


def _describe_trained(run: Run, model, counts: dict[str, tuple[int, int]]) -> str:
    """Describe the trained parameters: concepts, adapters, or weights without the frozen parts."""
    keys = run.model
    trained, total = (_format_count(sum(count[i] for count in counts.values())) for i in (0, 1))
    numbers = f"{trained} of {total} parameters"
    if getattr(keys, "concept_tokens", None) is not None:
        phrases = [
            phrase
            for phrase, tokens in zip(model.concepts.index.phrases, model.concepts.tokens, strict=True)
            if tokens.requires_grad
        ]
        return f"{keys.concept_tokens} prompt tokens for each of {list_some(phrases, 4)}: {numbers}"
    if keys.lora is not None:
        return f"LoRA adapters of rank {keys.lora_r} in {keys.lora}: {numbers}"
    return f"all weights: {numbers}" if not keys.freeze else f"weights without {', '.join(keys.freeze)}: {numbers}"


def _format_count(number: int) -> str:
    return f"{number / 1e6:.4g} M" if number >= 1e6 else f"{number / 1e3:.3g} K"


def _describe_evaluation(args, retention: Retention) -> str:
    times = []
    if args.eval_strategy == IntervalStrategy.EPOCH:
        times.append("after each epoch")
    elif args.eval_strategy == IntervalStrategy.STEPS:
        times.append(f"every {args.eval_steps:g} steps")
    times.append("after training")
    if args.eval_before:
        times = ["before training", *times] if len(times) > 1 else ["before and after training"]
    text = " and ".join(times) if len(times) < 3 else f"{', '.join(times[:-1])} and {times[-1]}"
    if retention.probe is None:
        return text
    return f"{text}; retention on {len(retention.probe.rows)} images with {len(retention.probe.kinds)} other phrases"


def _describe_memory(run: Run) -> str:
    """List the keys of a run that change its memory."""
    model, data, args = run.model, run.data, run.training
    names = [name for name in (model.checkpointing_key, *_MEMORY_KEYS) if _get(name, model, data)]
    values = [f"{name} {value}" if isinstance(value := _get(name, model, data), str) else name for name in names]
    values += [f"dtype {model.dtype}"] if model.dtype != "float32" else []
    values += [args.get_optimizer_name()] if "8bit" in args.get_optimizer_name() else []
    chunk = "pairs_per_chunk" if hasattr(model, "pairs_per_chunk") else "objects_per_chunk"
    return ", ".join([*values, f"{chunk} {getattr(model, chunk)}"])


def _get(name: str, *groups):
    return next((getattr(group, name) for group in groups if hasattr(group, name)), None)
