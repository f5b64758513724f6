"""Model card of a tuned model: pictures, usage, metrics before and after training, retention, and training facts."""

import re
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .card_facts import CardFacts, DatasetFacts, plain
from .metric_specs import METRICS
from .metric_table import Column, cell_of, exists, lead_metric_of, rows_of


TEMPLATE = Path(__file__).parent / "templates" / "model_card.md.j2"
PIPELINE = "mask-generation"


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
        uses=facts.family.card.describe_usage(facts),
        phrases=_format_phrases(facts.phrases),
        thresholds=facts.thresholds,
        evaluation=_describe_evaluation(facts),
        columns=[column.name for column in facts.columns],
        table=_table(facts.columns),
        intervals=bool(after.intervals),
        report=facts.has_report,
        retention=[note.strip() for note in after.notes],
        has_phrases=facts.family.takes_phrases,
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
        for name, spec in METRICS.items()
        if spec.in_metadata and exists(after.metrics.get(name))
    ]
    family_card, is_apache = facts.family.card, facts.licence == "apache-2.0"
    relation = "adapter" if facts.form in ("adapter", "concepts") else "finetune" if facts.base_id else None
    return ModelCardData(
        base_model=facts.base_id,
        base_model_relation=relation,
        license=facts.licence if is_apache else "other",
        license_name=None if is_apache else family_card.licence_name,
        license_link=None if is_apache else family_card.licence_link,
        library_name={"adapter": "peft", "concepts": "sam-ft"}.get(facts.form, "transformers"),
        pipeline_tag=PIPELINE,
        datasets=[dataset.hub_id for dataset in facts.datasets if dataset.hub_id] or None,
        tags=[
            *family_card.tags,
            "sam-ft",
            *{"adapter": ["lora"], "concepts": ["concepts"]}.get(facts.form, []),
        ],
        eval_results=results or None,
        model_name=facts.name.rpartition("/")[2],
    )


def _lead(facts: CardFacts) -> str:
    title, task = facts.family.title, facts.family.card.task
    summary = {
        "full": f"{title}, fine-tuned: {task}.",
        "adapter": f"A LoRA adapter for {title}: {task}.",
        "concepts": f"Learned prompt tokens for a frozen {title}, whose other outputs they do not change: {task}.",
        "merged": f"{title} with a LoRA adapter merged into its weights: {task}.",
    }[facts.form]
    phrases = _format_phrases(facts.phrases, 6)
    gain = ""
    first, last = facts.columns[0].metrics, facts.columns[-1].metrics
    name = lead_metric_of(last)
    if name is not None and len(facts.columns) > 1 and exists(first.get(name)):
        gain = f" {METRICS[name].lead.text} went from **{first[name]:.2f}** to **{last[name]:.2f}**."
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
    return f"{facts.family.card.metrics}, on {images or 'held-out images'}; {comparison}".rstrip("; ")


def _table(columns: list[Column]) -> list[dict]:
    """Return label and cells of each line of the metric table."""
    return [
        {"label": METRICS[name].label, "cells": [cell_of(column, name) for column in columns]}
        for name in rows_of(columns)
        if METRICS[name].in_card
    ]


def _data_row(facts: CardFacts) -> dict[str, str]:
    entries = [
        f"{dataset.linked()} (licence: {plain(dataset.licence or 'not stated by the data set')})"
        for dataset in facts.datasets
    ]
    return {"data": ", ".join(entries)}


def _escape_cell(value: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(str(value).split()))


def _licence(facts: CardFacts) -> str:
    is_apache = facts.licence == "apache-2.0"
    weights = "The weights are under Apache-2.0." if is_apache else facts.family.card.licence_notice
    data = [
        f"{dataset.linked()} states the licence {plain(dataset.licence)}."
        if dataset.licence
        else f"{dataset.linked()} does not state a licence."
        for dataset in facts.datasets
    ]
    return " ".join([weights, *data])
