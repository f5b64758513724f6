"""The page of a tuned model: pictures, numbers before and after, what it forgot, how to load it, how it was made."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .columns import ROWS, Column, cell_of, exists, rows_of


TEMPLATE = Path(__file__).parent / "templates" / "model_card.md"
PIPELINE = "mask-generation"
SAM_LICENCE = "https://github.com/facebookresearch/sam3/blob/main/LICENSE"
# the rows of the report that a card shows
_ROWS = (
    "mask_AP", "mask_AP50", "box_AP", "box_AP50", "mask_AP50_trained", "mask_AP50_other", "box_AP50_trained", "box_AP50_other", "cgF1",
    "F1@thresholds", "presence_accuracy", "false_positives_per_absent", "retention_AP50", "retention_presence_agreement", "retention_IoU",
    "retention_false_yes", "retention_swapped_yes", "retention_invented_yes",
)  # fmt: skip
_METRICS = ("mask_AP", "mask_AP50", "box_AP", "cgF1")  # in the card's metadata


@dataclass
class DatasetFacts:
    """A data set: its name, on the Hub its id, and what is known of its licence."""

    name: str
    hub_id: str | None = None
    licence: str | None = None

    def linked(self) -> str:
        return f"[{self.name}](https://huggingface.co/datasets/{self.hub_id})" if self.hub_id else plain(self.name)


@dataclass
class CardFacts:
    """
    What a card is made of.

    Attributes:
        name (`str`): Hub id, or the folder. form (`str`): `full`, `adapter` or `merged`.
        base (`str`): what was tuned, in words. base_id, revision (`str`, *optional*): its Hub id, and the revision that was tuned.
        licence (`str`): of the weights: `apache-2.0`, or `other`, the SAM License.
        datasets (`list[DatasetFacts]`): what was trained on; the first is what was evaluated on.
        phrases (`list[str]`): trained. columns (`list[Column]`): before, where it is known, and after; the last one's notes say what was kept.
        pictures (`list[tuple[str, str]]`): captions and files beside the card.
        thresholds (`Thresholds`, *optional*): saved with the weights. made (`dict[str, str]`): how, name -> value. command (`str`).
        has_report (`bool`): whether `report.html` lies beside the card. side (`int`, *optional*): of the model's canvas, px, where it is not
            the base's.
    """

    name: str
    form: str
    base: str
    base_id: str | None
    revision: str | None
    licence: str
    datasets: list[DatasetFacts]
    phrases: list[str]
    columns: list[Column]
    pictures: list[tuple[str, str]] = field(default_factory=list)
    thresholds: object | None = None
    made: dict[str, str] = field(default_factory=dict)
    command: str = ""
    has_report: bool = False
    side: int | None = None


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
        uses=_uses(facts),
        phrases=_listed(facts.phrases),
        thresholds=facts.thresholds,
        measured_on=_measured_on(facts),
        table=_table(facts.columns),
        intervals=bool(after.intervals),
        report=facts.has_report,
        verdict=_verdict(after.notes),
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
        license_name="sam-license" if is_sam else None,
        license_link=SAM_LICENCE if is_sam else None,
        library_name="peft" if facts.form == "adapter" else "transformers",
        pipeline_tag=PIPELINE,
        datasets=[one.hub_id for one in facts.datasets if one.hub_id] or None,
        tags=[
            "sam3",
            "image-segmentation",
            "open-vocabulary",
            "sam-ft",
            *(["lora"] if facts.form == "adapter" else []),
        ],
        eval_results=results or None,
        model_name=facts.name.rpartition("/")[2],
    )


def _lead(facts: CardFacts) -> str:
    what = {
        "full": "SAM 3, fine-tuned: a noun phrase goes in, the mask of every instance comes out.",
        "adapter": "A LoRA adapter for SAM 3: a noun phrase goes in, the mask of every instance comes out.",
        "merged": "SAM 3 with a LoRA adapter merged into its weights: a noun phrase goes in, the mask of every instance comes out.",
    }[facts.form]
    shown = _listed(facts.phrases, 6)
    gain = ""
    name = next(
        (n for n in ("mask_AP50_trained", "mask_AP50", "box_AP50") if exists(facts.columns[-1].metrics.get(n))), None
    )
    if name and len(facts.columns) > 1 and exists(facts.columns[0].metrics.get(name)):
        first, last = facts.columns[0].metrics[name], facts.columns[-1].metrics[name]
        kind = "box" if name.startswith("box") else "mask"
        gain = f" {kind.capitalize()} AP50 of what it was trained on went from **{first:.2f}** to **{last:.2f}**."
    return f"{what} Tuned from {facts.base} on {_of(facts.datasets)}" + (f" to find {shown}." if shown else ".") + gain


def _listed(phrases: list[str], most: int = 30) -> str:
    shown = ", ".join(f"“{plain(phrase)}”" for phrase in phrases[:most])
    return shown + (f" and {len(phrases) - most} more" if len(phrases) > most else "")


def _of(datasets: list[DatasetFacts]) -> str:
    return " and ".join(filter(None, [", ".join(one.linked() for one in datasets[:-1]), datasets[-1].linked()]))


def _uses(facts: CardFacts) -> list[dict[str, str]]:
    asked = (facts.phrases or ["object"])[0]
    phrase, name = (json.dumps(text, ensure_ascii=False) for text in (asked, facts.name))
    least = f"{facts.thresholds.of(asked):.2f}" if facts.thresholds is not None else "0.5"
    adapter = facts.form == "adapter"
    base, pinned = (
        json.dumps(facts.base_id or "path/to/base"),
        f', revision="{facts.revision}"' if facts.revision else "",
    )
    head, more = "import torch\nfrom transformers import Sam3Model, Sam3Processor\n\n", ""
    load = f"model = Sam3Model.from_pretrained({name}{{more}})" + (
        "  # the base and this adapter; needs peft" if adapter else ""
    )
    if adapter and (facts.side or facts.revision):  # what Transformers does not know of the base
        head = "import torch\nfrom peft import PeftModel\nfrom transformers import Sam3Config, Sam3Model, Sam3Processor\n\n"
        if facts.side:
            head += f"config = Sam3Config.from_pretrained({base}{pinned})\nconfig.image_size = {facts.side}  # px it was tuned at\n"
            more = ", config=config"
        load = f"model = PeftModel.from_pretrained(Sam3Model.from_pretrained({base}{pinned}{{more}}), {name})"
    plain_use = (
        head + load.format(more=more) + f"\nprocessor = Sam3Processor.from_pretrained({name})\n"
        f'inputs = processor(images=image, text={phrase}, return_tensors="pt")\n'
        "with torch.no_grad():\n    outputs = model(**inputs)\n"
        "found = processor.post_process_instance_segmentation(\n"
        f"    outputs, threshold={least}, target_sizes=[image.size[::-1]]\n"
        ")[0]\n"
        'masks, boxes, scores = found["masks"], found["boxes"], found["scores"]'
    )
    ours = (
        "from sam_ft import Sam3Predictor\n\n"
        f"predictor = Sam3Predictor.from_pretrained({name})\n"
        f'found = predictor(image, [{phrase}, "another phrase"])  # this model\'s own thresholds\n'
        f"for one in found.detections[{phrase}]:\n"
        '    print(one["score"], one["bbox"])  # and one["segmentation"], a COCO RLE'
    )
    calm = facts.thresholds is not None and facts.thresholds.presence_temperature != 1
    told = "; it leaves the presence temperature out, so that scores differ a little from those below" if calm else ""
    uses = [{"what": f"With Transformers alone (`image` is a PIL image{told}):", "code": plain_use}]
    if adapter:
        peft = (
            "from peft import PeftModel\nfrom transformers import Sam3Model\n\n"
            f"base = Sam3Model.from_pretrained({base}{pinned})\n"
            f"model = PeftModel.from_pretrained(base, {name})\n"
            "merged = model.merge_and_unload()  # a plain Sam3Model, as fast as the base"
        )
        uses.append({"what": "On a base that is loaded already, or to merge it:", "code": peft})
    return [*uses, {"what": "With sam-ft, which tuned it:", "code": ours}]


def _measured_on(facts: CardFacts) -> str:
    images = facts.made.get("evaluated on", "")
    against = "before: the model that was tuned, on the same images." if len(facts.columns) > 1 else ""
    return (
        f"COCO AP by pycocotools, cgF1 as SAM 3's own evaluator, on {images or 'held-out images'}; {against}".rstrip(
            "; "
        )
    )


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


def plain(text: str) -> str:
    """A text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(str(text).split()))


def _in_cell(value: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(str(value).split()))


def _licence(facts: CardFacts) -> str:
    if facts.licence == "apache-2.0":
        weights = "The weights are under Apache-2.0."
    else:
        weights = f"The weights are tuned from Meta's SAM 3 and stay under the [SAM License]({SAM_LICENCE})."
    told = [
        f"{one.linked()} says of itself: {plain(one.licence)}."
        if one.licence
        else f"{one.linked()} does not state a licence."
        for one in facts.datasets
    ]
    return " ".join([weights, *told])
