"""The page of a tuned model: pictures, numbers before and after, what it forgot, how to load it, how it was made."""

import re
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .card_facts import CardFacts, DatasetFacts, plain
from .card_usage import uses_of
from .metric_table import ROWS, Column, cell_of, exists, rows_of


TEMPLATE = Path(__file__).parent / "templates" / "model_card.md"
PIPELINE = "mask-generation"
SAM_LICENCE = "https://github.com/facebookresearch/sam3/blob/main/LICENSE"
# the rows of the report that a card shows
_ROWS = (
    "object_IoU", "object_dice", "object_boundary_F1", "object_IoU_small", "object_IoU_medium", "object_IoU_large", "IoU@1", "IoU@2", "IoU@3", "IoU@5",
    "IoU@8", "IoU@box",
    "mask_AP", "mask_AP50", "box_AP", "box_AP50", "mask_AP50_trained", "mask_AP50_other", "box_AP50_trained", "box_AP50_other", "cgF1",
    "F1@thresholds", "presence_accuracy", "false_positives_per_absent", "retention_AP50", "retention_presence_agreement", "retention_IoU",
    "retention_false_yes", "retention_swapped_yes", "retention_invented_yes",
)  # fmt: skip
_METRICS = ("object_IoU", "mask_AP", "mask_AP50", "box_AP", "cgF1")  # in the card's metadata


def model_card(facts: CardFacts) -> str:
    """The card as Markdown with metadata."""
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
        phrases=_listed(facts.phrases),
        thresholds=facts.thresholds,
        measured_on=_measured_on(facts),
        table=_table(facts.columns),
        intervals=bool(after.intervals),
        report=facts.has_report,
        verdict=_verdict(after.notes),
        asks_phrases=facts.family == "sam3",
        made=[(name, _in_cell(value)) for name, value in {**facts.made, **_of_data(facts)}.items()],
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
        for name in _METRICS
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
        datasets=[one.hub_id for one in facts.datasets if one.hub_id] or None,
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
    title, does = {
        "sam3": ("SAM 3", "a noun phrase goes in, the mask of every instance comes out"),
        "sam2": ("SAM 2", "clicks or a box on an object go in, its mask comes out"),
    }[facts.family]
    what = {
        "full": f"{title}, fine-tuned: {does}.",
        "adapter": f"A LoRA adapter for {title}: {does}.",
        "merged": f"{title} with a LoRA adapter merged into its weights: {does}.",
    }[facts.form]
    shown = _listed(facts.phrases, 6)
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
        told = (
            "Mean IoU of prompted objects"
            if name == "object_IoU"
            else f"{name.split('_')[0].capitalize()} AP50 of what it was trained on"
        )
        gain = f" {told} went from **{first:.2f}** to **{last:.2f}**."
    return f"{what} Tuned from {facts.base} on {_of(facts.datasets)}" + (f" to find {shown}." if shown else ".") + gain


def _listed(phrases: list[str], most: int = 30) -> str:
    shown = ", ".join(f"“{plain(phrase)}”" for phrase in phrases[:most])
    return shown + (f" and {len(phrases) - most} more" if len(phrases) > most else "")


def _of(datasets: list[DatasetFacts]) -> str:
    return " and ".join(filter(None, [", ".join(one.linked() for one in datasets[:-1]), datasets[-1].linked()]))


def _measured_on(facts: CardFacts) -> str:
    images = facts.made.get("evaluated on", "")
    against = "before: the model that was tuned, on the same images." if len(facts.columns) > 1 else ""
    return f"{_how(facts)}, on {images or 'held-out images'}; {against}".rstrip("; ")


def _how(facts: CardFacts) -> str:
    if facts.family == "sam3":
        return "COCO AP by pycocotools, cgF1 as SAM 3's own evaluator"
    return "Each labelled object is prompted once, by a click at its centre or by its box; further clicks go to the centre of the largest error"


def _table(columns: list[Column]) -> str:
    lines = ["| | " + " | ".join(column.name for column in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in rows_of(columns):
        if name in _ROWS:
            lines.append(f"| {ROWS[name]} | " + " | ".join(cell_of(column, name) for column in columns) + " |")
    return "\n".join(lines)


def _verdict(notes: list[str]) -> list[str]:
    if not notes:
        return []
    head, *rest = notes
    return [f"**{head}**", "", *(f"- {line.strip()}" for line in rest)]


def _of_data(facts: CardFacts) -> dict[str, str]:
    listed = [
        f"{one.linked()} (licence: {plain(one.licence or 'not stated by the data set')})" for one in facts.datasets
    ]
    return {"data": ", ".join(listed)}


def _in_cell(value: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(str(value).split()))


def _licence(facts: CardFacts) -> str:
    if facts.licence == "apache-2.0":
        weights = "The weights are under Apache-2.0."
    elif facts.family == "sam2":
        weights = "The weights are tuned from a local SAM 2 and stay under its licence."
    else:
        weights = f"The weights are tuned from Meta's SAM 3 and stay under the [SAM License]({SAM_LICENCE})."
    told = [
        f"{one.linked()} says of itself: {plain(one.licence)}."
        if one.licence
        else f"{one.linked()} does not state a licence."
        for one in facts.datasets
    ]
    return " ".join([weights, *told])
