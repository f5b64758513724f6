"""
What a model keeps of what it knew: its answers to phrases that a run does not train, before and after.

The worst failure of fine-tuning a model that takes phrases is one that still draws masks, but of whatever it was tuned on, whatever is asked
("the prompt car now returns cracks"). No score on the tuned phrases shows it.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from datasets import Dataset
from pycocotools import mask as coco_mask

from ..arguments import DataArguments
from ..data.loading import PhraseData, load_phrase_dataset
from ..data.phrases.probe_phrases import INVENTED, SWAPPED, UNTOUCHED, probe_kinds
from ..data.readers.records import ReadOptions
from ..data.row_schema import FEATURES, to_dataset
from ..data.samples.pipeline import EvaluationSamples
from ..evaluation.predictions import PredictionStore, score
from ..metrics.pairs import SCORE
from ..training.sam3_trainer import Sam3Trainer
from ..utils.json_files import read_json_file, write_json


logger = logging.getLogger("sam_ft.run")

FEWEST = 10  # (image, phrase) pairs that a number of this file stands on
WORSE = 0.1  # by which a number falls when a run is said to have forgotten
_FOLDER = "retention"


@dataclass
class Probe:
    """
    Attributes:
        rows (`datasets.Dataset`): images with the probe's phrases, of which nothing is labelled.
        kinds (`dict[str, str]`): phrase -> `untouched`: not trained; `swapped`: trained with another colour; `invented`: nonsense.
        known (`datasets.Dataset`, *optional*): a probe set with labels; `category_ids` (`dict[str, int]`): of its phrases.
    """

    rows: Dataset
    kinds: dict[str, str]
    known: Dataset | None = None
    category_ids: dict[str, int] = field(default_factory=dict)


def make_probe(
    data: PhraseData,
    kinds: dict[str, str],
    images: int,
    known: PhraseData | None = None,
    trained: set[str] | None = None,
) -> Probe:
    """
    Args:
        data (`PhraseData`): whose validation images are asked. kinds (`dict[str, str]`): of [`probe_kinds`].
        images (`int`): at most so many, spread over all. known (`PhraseData`, *optional*): a labelled probe set.
        trained (`set[str]`, *optional*): phrases that are left out of the probe set.
    """
    rows = data.validation
    chosen = rows.select(np.linspace(0, len(rows) - 1, min(images, len(rows))).round().astype(int).tolist())
    asked = [{"text": text, "instances": [], "exhaustive": False} for text in kinds]
    chosen = chosen.map(lambda row: {"instances": [], "phrases": asked}, features=FEATURES, keep_in_memory=True)
    probe = Probe(chosen, kinds)
    if known is not None:
        kept = [
            row | {"phrases": [p for p in row["phrases"] if p["text"] not in (trained or set())]}
            for row in known.validation.select(range(min(images, len(known.validation))))
        ]
        if not any(phrase["instances"] for row in kept for phrase in row["phrases"]):
            raise ValueError("`probe_dataset` shows nothing but phrases that are trained; name one with others")
        probe.known, probe.category_ids = to_dataset(kept), known.category_ids
    return probe


def build_retention(trainer: Sam3Trainer, data: PhraseData, data_args: DataArguments) -> "Retention":
    """What a run's keys ask of retention: nothing with `probe_images: 0`, and where the model is only whole while it trains."""
    if data_args.probe_images and not trainer.can_evaluate_before_training:
        logger.info(
            "note: FSDP and DeepSpeed cannot evaluate before training; sam3_eval.py `--compare` says what was forgotten"
        )
    if not data_args.probe_images or not trainer.can_evaluate_before_training:
        return Retention(trainer, None)
    # of a model that does not say what it was trained on, the phrases of the data may be
    trained = set(data.category_ids) if trainer.trained_phrases is None else trainer.trained_phrases
    source, known = data_args.probe_source(), None
    if source is not None:
        names = ("on_bad_rows", "verify_images", "allow_outside_images")
        reading = ReadOptions(**{name: getattr(data_args, name) for name in names})
        with trainer.args.main_process_first(desc="probe set"):
            known = load_phrase_dataset(source, reading, with_train=False)
    kinds = probe_kinds(data_args.probe_phrases, trained)
    return Retention(trainer, make_probe(data, kinds, data_args.probe_images, known, trained))


class Retention:
    """
    Asks a trainer's model the probe before and after.

    Args:
        trainer (`Sam3Trainer`). probe (`Probe`, *optional*): nothing is asked without.
    """

    def __init__(self, trainer: Sam3Trainer, probe: Probe | None):
        self.trainer, self.probe = trainer, probe
        self.folder = Path(trainer.args.output_dir) / _FOLDER
        self.before: dict[str, PredictionStore] | None = None
        self.after: dict[str, PredictionStore] | None = None

    def remember(self) -> None:
        """What the model says now. What an earlier start of the same run has asked is read, not asked again."""
        if self.probe is None:
            return
        self.before = self._read()
        if self.before is None:
            self.before = self.ask()
            if self.trainer.is_world_process_zero():
                content = {name: store.plain() for name, store in self.before.items()}
                write_json(self.folder / "base.json", {"asked": self._asked(), **content})

    def compare(self, *, log: bool = False) -> dict[str, float]:
        """
        The model now against what was remembered.

        Args:
            log (`bool`): give the numbers to the trainer's loggers.

        Returns:
            `dict[str, float]`: see [`agreement`], prefixed `eval_`; with a labelled probe set `retention_AP50_before` and
            `retention_AP50`.
        """
        if self.probe is None:
            return {}
        self.after = after = self.ask()
        numbers = agreement(self.before["probe"], after["probe"], self.probe.kinds, self.sizes())
        if self.probe.known is not None:
            numbers["retention_AP50_before"] = self.precision(self.before["known"])
            numbers["retention_AP50"] = self.precision(after["known"])
        numbers = {f"eval_{name}": value for name, value in numbers.items()}
        if log:
            self.trainer.log(numbers)
        return numbers

    def ask(self) -> dict[str, PredictionStore]:
        """The model's answers now, by `probe` and, with a labelled probe set, `known`."""
        stores = {"probe": self._answers(self.probe.rows, own=True)}
        if self.probe.known is not None:
            stores["known"] = self._answers(self.probe.known)
        return stores

    def _answers(self, rows: Dataset, *, own: bool = False) -> PredictionStore:
        mine = self.trainer.eval_dataset
        samples = EvaluationSamples(
            rows, resolution=mine.resolution, geometry_token=mine.geometry_token, with_masks=mine.with_masks
        )
        if own and mine.store is not None:
            samples.use(mine.store)
        return self.trainer.answer(samples)

    def precision(self, store: PredictionStore) -> float:
        """AP50 on the labelled probe set."""
        rows = self.probe.known.remove_columns("image")
        with_masks = self.trainer.eval_dataset.with_masks
        scored = score(rows, store, self.probe.category_ids, with_masks=with_masks)
        return scored.metrics[f"{scored.kind}_AP50"]

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Height and width of the probe's images."""
        light = self.probe.rows.select_columns(["example_id", "height", "width"])
        return {row["example_id"]: (row["height"], row["width"]) for row in light}

    def _asked(self) -> list:
        known = [] if self.probe.known is None else self.probe.known["example_id"][:]
        return [list(self.probe.rows["example_id"]), list(self.probe.kinds), list(known)]

    def _read(self) -> dict[str, PredictionStore] | None:
        file = self.folder / "base.json"
        if not file.is_file():
            return None
        content = read_json_file(file, remedy="Delete it, and the model is measured again by the same command")
        if content.pop("asked") != self._asked():
            return None
        return {name: PredictionStore.of_plain(plain) for name, plain in content.items()}


def agreement(
    before: PredictionStore,
    after: PredictionStore,
    kinds: dict[str, str],
    sizes: dict[str, tuple[int, int]],
    *,
    fewest: int = FEWEST,
) -> dict[str, float]:
    """
    How alike two models answer phrases that were not trained, the first one's answers being right.

    Args:
        before, after (`PredictionStore`). kinds (`dict[str, str]`): phrase -> kind. sizes (`dict`): example -> height and width.
        fewest (`int`): pairs below which a number says nothing and is left out.

    Returns:
        `dict[str, float]`: `retention_presence_agreement`: share of (image, untouched phrase) pairs with the same yes or no;
        `retention_IoU`: of all that was found of an untouched phrase with what is found now, over the pairs in which something was found;
        `retention_false_yes`: share of the untouched pairs once answered no that are answered yes; `retention_swapped_yes`,
        `retention_invented_yes` and the same with `_before`: share of pairs of that kind answered yes. Numbers that do not
        exist are left out.
    """
    pairs: dict[str, list[tuple[str, str]]] = {UNTOUCHED: [], SWAPPED: [], INVENTED: []}
    for key in sorted(before.presence.keys() & after.presence.keys()):
        if key[1] in kinds:
            pairs[kinds[key[1]]].append(key)

    def yes(store, key):
        return store.presence[key] >= SCORE

    def mean(values: Iterable) -> float | None:
        listed = [float(value) for value in values]
        return sum(listed) / len(listed) if len(listed) >= fewest else None

    untouched = pairs[UNTOUCHED]
    said = [key for key in untouched if _kept(before, key)]
    numbers = {
        "retention_presence_agreement": mean(yes(before, key) == yes(after, key) for key in untouched),
        "retention_false_yes": mean(yes(after, key) for key in untouched if not yes(before, key)),
        "retention_IoU": mean(_overlap(_kept(before, key), _kept(after, key), sizes[key[0]]) for key in said),
    }
    for kind in (SWAPPED, INVENTED):
        numbers[f"retention_{kind}_yes_before"] = mean(yes(before, key) for key in pairs[kind])
        numbers[f"retention_{kind}_yes"] = mean(yes(after, key) for key in pairs[kind])
    return {name: number for name, number in numbers.items() if number is not None}


def verdict(numbers: dict[str, float], before: dict[str, float]) -> list[str]:
    """
    What the numbers mean, in words, the worst first.

    Args:
        numbers (`dict[str, float]`): of the tuned model: an evaluation's and [`agreement`]'s, without prefix.
        before (`dict[str, float]`): the evaluation of the model that it was compared with.
    """
    bad, good = [], []

    def weigh(worse: bool, text: str):
        (bad if worse else good).append(text)

    kind = next((k for k in ("mask", "box") if f"{k}_AP50_other" in numbers), None)
    if kind and before.get(f"{kind}_AP50_other", -1) >= 0:
        old, new = before[f"{kind}_AP50_other"], numbers[f"{kind}_AP50_other"]
        weigh(old - new >= WORSE, f"AP50 of labelled phrases that were not trained: {old:.2f} before, {new:.2f} now")
    if min(numbers.get("retention_AP50", -1), numbers.get("retention_AP50_before", -1)) >= 0:
        old, new = numbers["retention_AP50_before"], numbers["retention_AP50"]
        weigh(old - new >= WORSE, f"AP50 on the probe set: {old:.2f} before, {new:.2f} now")
    if "retention_presence_agreement" in numbers:
        share = numbers["retention_presence_agreement"]
        weigh(1 - share >= WORSE, f"whether an untouched phrase is in the image is answered as before in {share:.0%}")
    if "retention_false_yes" in numbers:
        share = numbers["retention_false_yes"]
        weigh(share >= WORSE, f"untouched phrases once answered no are now found in {share:.0%}")
    if "retention_IoU" in numbers:
        share = numbers["retention_IoU"]
        weigh(
            1 - share >= 3 * WORSE,
            f"what was found of untouched phrases overlaps what is found now by IoU {share:.2f}",
        )
    for kind, what in ((SWAPPED, "trained phrases in another colour"), (INVENTED, "invented words")):
        if f"retention_{kind}_yes" in numbers:
            old, new = numbers[f"retention_{kind}_yes_before"], numbers[f"retention_{kind}_yes"]
            weigh(new - old >= WORSE, f"{what} are found in {new:.0%} of the images, {old:.0%} before")
    if not bad and not good:
        return []
    head = (
        "FORGOTTEN: the model has lost some of what it knew. Remedies: `replay`, `distill_weight`, `lora`, lower rates"
        if bad
        else "kept: the model answers phrases that were not trained as before"
    )
    return [head, *(f"  ✗ {text}" for text in bad), *(f"  ✓ {text}" for text in good)]


def _kept(store: PredictionStore, key: tuple[str, str]) -> list[dict]:
    return [one for one in store.detections.get(key, []) if one["score"] >= SCORE]


def _overlap(first: list[dict], second: list[dict], size: tuple[int, int]) -> float:
    """IoU of all that one model finds with all that the other does; boxes where there are no masks."""
    if not second:
        return 0.0
    one, other = (coco_mask.merge([_rle(found, size) for found in side]) for side in (first, second))
    return float(coco_mask.iou([one], [other], [0])[0, 0])


def _rle(found: dict, size: tuple[int, int]):
    return (
        found["segmentation"]
        if "segmentation" in found
        else coco_mask.frPyObjects(np.array([found["bbox"]], dtype=np.float64), *size)[0]
    )
