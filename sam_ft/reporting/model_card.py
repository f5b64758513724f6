"""Model card of a tuned model: pictures, usage, metrics before and after training, retention, and training facts."""

import re
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .card_facts import CardFacts, DatasetFacts, plain
from .card_usage import uses_of
from .metric_table import ROWS, Column, cell_of, exists, rows_of


TEMPLATE = Path(__file__).parent / "templates" / "model_card.md"
PIPELINE = "mask-generation"
SAM_LICENCE = "https://github.com/facebookresearch/sam3/blob/main/LICENSE"
# rows of the metric table that a card contains
_CARD_ROWS = (
    "object_IoU", "object_dice", "object_boundary_F1", "object_IoU_small", "object_IoU_medium", "object_IoU_large",
    "IoU@1", "IoU@2", "IoU@3", "IoU@5", "IoU@8", "IoU@box",
    "mask_AP", "mask_AP50", "box_AP", "box_AP50", "mask_AP50_trained", "mask_AP50_other",
    "box_AP50_trained", "box_AP50_other",
    "cgF1", "F1@thresholds", "presence_accuracy", "false_positives_per_absent",
    "retention_AP50", "retention_presence_agreement", "retention_IoU",
    "retention_false_yes", "retention_swapped_yes", "retention_invented_yes",
)  # fmt: skip
_METADATA_METRICS = ("object_IoU", "mask_AP", "mask_AP50", "box_AP", "cgF1")


def model_card(facts: CardFacts) -> str:
    """
    Render a model card.

    Args:
        facts (`CardFacts`): Content of the card.

    Returns:
        `str`: Markdown with a YAML header of metadata.
    """
    after = facts.columns[-1]
    compared = len(facts.columns) > 1
    card = ModelCard.from_template(
        _metadata(facts, after),
        template_path=str(TEMPLATE),
        title=facts.name.rpartition("/")[2],
        lead=_lead(facts),
        pictures=[{"caption": plain(caption), "file": file} for caption, file in facts.pictures],
        compared=compared,
        uses=uses_of(facts),
        phrases=_format_phrases(facts.phrases),
        thresholds=facts.thresholds,
        evaluation=_describe_evaluation(facts),
        table=_table(facts.columns),
        intervals=bool(after.intervals),
        report=facts.has_report,
        retention=_format_notes(after.notes),
        has_phrases=facts.family == "sam3",
        made=[(name, _escape_cell(value)) for name, value in {**facts.made, **_data_row(facts)}.items()],
        command=facts.command,
        licence=_licence(facts),
    )
    return card.content.rstrip() + "\n"


def _metadata(facts: CardFacts, after: Column) -> ModelCardData:
    results = [
        EvalResult(
            task_type=PIPELINE,
            dataset_type=facts.datasets[0].hub_id or "custom",
            dataset_name=facts.datasets[0].name,
            metric_type=name,
            metric_name=name.replace("_", " "),
            metric_value=round(after.metrics[name], 4),
        )
        for name in _METADATA_METRICS
        if exists(after.metrics.get(name))
    ]
    is_sam = facts.licence != "apache-2.0"
    return ModelCardData(
        base_model=facts.base_id,
        base_model_relation="adapter" if facts.form == "adapter" else "finetune" if facts.base_id else None,
        license="other" if is_sam else facts.licence,
        license_name="sam-license" if is_sam and facts.family == "sam3" else None,
        license_link=SAM_LICENCE if is_sam and facts.family == "sam3" else None,
        library_name="peft" if facts.form == "adapter" else "transformers",
        pipeline_tag=PIPELINE,
        datasets=[dataset.hub_id for dataset in facts.datasets if dataset.hub_id] or None,
        tags=[
            facts.family,
            "image-segmentation",
            *(["open-vocabulary"] if facts.family == "sam3" else ["interactive-segmentation"]),
            "sam-ft",
            *(["lora"] if facts.form == "adapter" else []),
        ],
        eval_results=results or None,
        model_name=facts.name.rpartition("/")[2],
    )


def _lead(facts: CardFacts) -> str:
    title, task = {
        "sam3": ("SAM 3", "it segments every instance of a noun phrase"),
        "sam2": ("SAM 2", "it segments an object from clicks or a box"),
    }[facts.family]
    summary = {
        "full": f"{title}, fine-tuned: {task}.",
        "adapter": f"A LoRA adapter for {title}: {task}.",
        "merged": f"{title} with a LoRA adapter merged into its weights: {task}.",
    }[facts.form]
    phrases = _format_phrases(facts.phrases, 6)
    gain = ""
    name = next(
        (
            n
            for n in ("object_IoU", "mask_AP50_trained", "mask_AP50", "box_AP50")
            if exists(facts.columns[-1].metrics.get(n))
        ),
        None,
    )
    if name and len(facts.columns) > 1 and exists(facts.columns[0].metrics.get(name)):
        first, last = facts.columns[0].metrics[name], facts.columns[-1].metrics[name]
        metric = (
            "Mean IoU of prompted objects"
            if name == "object_IoU"
            else f"{name.split('_')[0].capitalize()} AP50 of the trained phrases"
        )
        gain = f" {metric} went from **{first:.2f}** to **{last:.2f}**."
    return (
        f"{summary} Tuned from {facts.base} on {_format_datasets(facts.datasets)}"
        + (f" to find {phrases}." if phrases else ".")
        + gain
    )


def _format_phrases(phrases: list[str], limit: int = 30) -> str:
    text = ", ".join(f"“{plain(phrase)}”" for phrase in phrases[:limit])
    return text + (f" and {len(phrases) - limit} more" if len(phrases) > limit else "")


def _format_datasets(datasets: list[DatasetFacts]) -> str:
    return " and ".join(
        filter(None, [", ".join(dataset.linked() for dataset in datasets[:-1]), datasets[-1].linked()])
    )


def _describe_evaluation(facts: CardFacts) -> str:
    images = facts.made.get("evaluated on", "")
    comparison = "before: the base, on the same images." if len(facts.columns) > 1 else ""
    return f"{_describe_metrics(facts)}, on {images or 'held-out images'}; {comparison}".rstrip("; ")


def _describe_metrics(facts: CardFacts) -> str:
    if facts.family == "sam3":
        return "COCO AP by pycocotools, cgF1 as in SAM 3's evaluator"
    return (
        "Each labelled object is prompted once, by a click at its centre or by its box; each further click is at the "
        "centre of the largest error"
    )


def _table(columns: list[Column]) -> str:
    lines = ["| | " + " | ".join(column.name for column in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in rows_of(columns):
        if name in _CARD_ROWS:
            lines.append(f"| {ROWS[name]} | " + " | ".join(cell_of(column, name) for column in columns) + " |")
    return "\n".join(lines)


def _format_notes(notes: list[str]) -> list[str]:
    if not notes:
        return []
    head, *rest = notes
    return [f"**{head}**", "", *(f"- {line.strip()}" for line in rest)]


def _data_row(facts: CardFacts) -> dict[str, str]:
    entries = [
        f"{dataset.linked()} (licence: {plain(dataset.licence or 'not stated by the data set')})"
        for dataset in facts.datasets
    ]
    return {"data": ", ".join(entries)}


def _escape_cell(value: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(str(value).split()))


def _licence(facts: CardFacts) -> str:
    if facts.licence == "apache-2.0":
        weights = "The weights are under Apache-2.0."
    elif facts.family == "sam2":
        weights = "The weights are tuned from a local SAM 2 and stay under its licence."
    else:
        weights = f"The weights are tuned from Meta's SAM 3 and stay under the [SAM License]({SAM_LICENCE})."
    data = [
        f"{dataset.linked()} states the licence {plain(dataset.licence)}."
        if dataset.licence
        else f"{dataset.linked()} does not state a licence."
        for dataset in facts.datasets
    ]
    return " ".join([weights, *data])
