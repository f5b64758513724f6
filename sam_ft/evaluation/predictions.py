"""Predictions of an evaluation, stored where they are made, gathered once, scored on the host."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from accelerate.utils import gather_object

from ..metrics.average_precision import coco_average_precision, coco_ground_truth, coco_scores
from ..metrics.objects import ObjectScore, object_numbers
from ..metrics.pairs import Pair, pairs_of
from ..metrics.postprocess import to_detections
from ..metrics.summary import ANSWER_NAMES, CONCEPT_NAMES, Measured, measure, summarize
from ..models.outputs import PairPrediction
from ..utils.json_files import read_json_file, write_json


@dataclass
class PredictionStore:
    """
    Detections by (example id, phrase), so that an example seen twice counts once.

    Attributes:
        detections (`dict[tuple[str, str], list[dict]]`): see [`to_detections`].
        presence (`dict[tuple[str, str], float]`): probability that the phrase is in the image.
        losses (`dict[tuple[str, ...], float]`): by the example ids of a batch, its share of the evaluation's loss.
        objects (`dict[tuple[str, int], ObjectScore]`): by (example id, instance), what SAM 2 answers to prompts.
        corrected (`dict[tuple[str, str], list[dict]]`): as `detections`, what it answers to all clicks.
        problems (`dict[tuple[str, ...], str]`): by the example ids of a batch, why its predictions cannot be used.
    """

    detections: dict = field(default_factory=dict)
    presence: dict = field(default_factory=dict)
    losses: dict = field(default_factory=dict)
    objects: dict = field(default_factory=dict)
    corrected: dict = field(default_factory=dict)
    problems: dict = field(default_factory=dict)

    def plain(self) -> dict:
        """As plain values, for JSON; see [`of_plain`]."""
        return {
            "presence": [[*key, probability] for key, probability in sorted(self.presence.items())],
            "detections": [[*key, found] for key, found in sorted(self.detections.items())],
        }

    @classmethod
    def of_plain(cls, content: dict) -> "PredictionStore":
        """What [`plain`] gave."""
        found = {(example, phrase): one for example, phrase, one in content["detections"]}
        return cls(found, {(example, phrase): p for example, phrase, p in content["presence"]})

    def collector(self, batch: dict):
        """What [`Sam3ForConceptSegmentation.forward`] takes as `collect` for a batch of the collator."""
        texts = batch["labels"][0]["phrases"]

        def collect(prediction: PairPrediction):
            label = batch["labels"][batch["pair_image"][prediction.pair]]
            key = label["example_id"], texts[batch["pair_phrase"][prediction.pair]]
            self.presence[key] = float(prediction.presence)
            self.detections[key] = to_detections(
                prediction.scores, prediction.boxes_xyxy, prediction.masks, *label["original_size"]
            )

        return collect

    def gather(self) -> None:
        """Merges the stores of all processes into each; a collective call."""
        for other in gather_object([vars(self)]):
            for name, values in other.items():
                getattr(self, name).update(values)

    def coco_presence(self, ground_truth: dict) -> dict[tuple[int, int], float]:
        """The probabilities by (image id, category id), in the numbers of [`coco_ground_truth`]."""
        images = {image["example_id"]: image["id"] for image in ground_truth["images"]}
        categories = {category["name"]: category["id"] for category in ground_truth["categories"]}
        return {(images[example], categories[phrase]): p for (example, phrase), p in sorted(self.presence.items())}

    def coco_results(self, ground_truth: dict) -> list[dict]:
        """The detections as COCO results, in the numbers of [`coco_ground_truth`]."""
        images = {image["example_id"]: image["id"] for image in ground_truth["images"]}
        categories = {category["name"]: category["id"] for category in ground_truth["categories"]}
        return [
            {"image_id": images[example_id], "category_id": categories[phrase], **detection}
            for (example_id, phrase), found in sorted(self.detections.items())
            for detection in found
        ]


def save_evaluation(scored: "Scored", folder: Path) -> None:
    """
    Writes `results.json` and `ground_truth.json` in COCO's format, `presence.json`, `phrases.json`, each phrase's numbers, and of SAM 2
    `objects.json`, each object's.
    """
    presence = [{"image_id": pair.image_id, "phrase": pair.phrase, "presence": pair.presence} for pair in scored.pairs]
    contents = {"results": scored.results, "ground_truth": scored.ground_truth, "presence": presence}
    folder.mkdir(parents=True, exist_ok=True)
    if scored.objects:
        contents["objects"] = [[*key, asdict(one)] for key, one in sorted(scored.objects.items())]
    for name, content in {**contents, "phrases": scored.phrases}.items():
        write_json(folder / f"{name}.json", content)


def read_evaluation(folder: Path) -> tuple[dict, list[dict], dict[tuple[int, int], float]]:
    """What [`save_evaluation`] wrote: ground truth, results, and presence by (image id, category id)."""
    results, truth, presence = (
        read_json_file(folder / f"{name}.json", remedy="Evaluate again")
        for name in ("results", "ground_truth", "presence")
    )
    numbers = {category["name"]: category["id"] for category in truth["categories"]}
    known = {(p["image_id"], numbers[p["phrase"]]): p["presence"] for p in presence if p["presence"] is not None}
    return truth, results, known


def read_objects(folder: Path) -> dict[tuple[str, int], ObjectScore]:
    """The objects that [`save_evaluation`] wrote; none where there were none."""
    file = folder / "objects.json"
    listed = read_json_file(file, remedy="Evaluate again") if file.is_file() else []
    return {(example, instance): ObjectScore(**one) for example, instance, one in listed}


def by_example(truth: dict, results: list[dict]) -> dict[tuple[str, str], list[dict]]:
    """Results by (example id, phrase)."""
    examples = {image["id"]: image["example_id"] for image in truth["images"]}
    names = {category["id"]: category["name"] for category in truth["categories"]}
    detections: dict = {}
    for result in results:
        detections.setdefault((examples[result["image_id"]], names[result["category_id"]]), []).append(result)
    return detections


@dataclass
class Scored:
    """
    An evaluation in numbers.

    Attributes:
        metrics (`dict[str, float]`): `mask_AP` … `box_ARl`, and [`summarize`]'s; with phrases that were not trained among the asked ones
            also `mask_AP50_trained`, `mask_AP50_other`, ….
        phrases (`dict[str, dict]`): each phrase's own numbers. curves (`dict[str, list[float]]`): its precision at IoU 0.5 over 101
            steps of recall.
        ground_truth (`dict`), results (`list[dict]`): in COCO's format.
        measured (`list[Measured]`): every (image, phrase) pair. kind (`str`): `mask` or `box`, what it was measured by.
        objects (`dict[tuple[str, int], ObjectScore]`): SAM 2's, by (example id, instance).
    """

    metrics: dict[str, float]
    phrases: dict[str, dict]
    curves: dict[str, list[float]]
    ground_truth: dict
    results: list[dict]
    measured: list[Measured]
    kind: str
    objects: dict[tuple[str, int], ObjectScore] = field(default_factory=dict)

    @property
    def pairs(self) -> list[Pair]:
        return [one.pair for one in self.measured]


def score(
    rows: Iterable[dict],
    store: PredictionStore,
    category_ids: dict[str, int],
    *,
    with_masks: bool,
    trained: set[str] | None = None,
    asked: Callable[[str], bool] = lambda text: True,
) -> Scored:
    """
    The numbers of an evaluation.

    Args:
        rows (`Iterable[dict]`): see `example.py`. store (`PredictionStore`): gathered.
        category_ids (`dict[str, int]`): phrase -> category id. with_masks (`bool`): score masks too.
        trained (`set[str]`, *optional*): phrases that the run trains. Where the rows ask others too, both kinds also get
            numbers of their own: what was learned, and what was forgotten.
        asked (`Callable[[str], bool]`): which phrases count. A near miss may miss one that does not.
    """
    truth = coco_ground_truth(rows, category_ids)
    return score_results(
        truth,
        store.coco_results(truth),
        store.coco_presence(truth),
        with_masks=with_masks,
        trained=trained,
        asked=asked,
        objects=store.objects,
    )


def score_results(
    truth: dict,
    results: list[dict],
    presence: dict[tuple[int, int], float] | None,
    *,
    with_masks: bool,
    trained: set[str] | None = None,
    asked: Callable[[str], bool] = lambda text: True,
    objects: dict[tuple[str, int], ObjectScore] | None = None,
) -> Scored:
    """As [`score`], of results in COCO's format; `presence`: (image id, category id) -> probability, `objects`: see [`Scored`]."""
    names = {category["id"]: category["name"] for category in truth["categories"]}
    ground_truth = {**truth, "annotations": [a for a in truth["annotations"] if asked(names[a["category_id"]])]}
    counted = [r for r in results if asked(names[r["category_id"]])]
    metrics, phrases, curves = {}, {}, {}
    kinds = ("mask", "box") if with_masks else ("box",)
    labelled = [a for a in truth["annotations"] if not a["iscrowd"]]
    # where boxes alone are labelled, they are what is measured
    own = "mask" if with_masks and (not labelled or any("segmentation" in a for a in labelled)) else "box"
    for kind in kinds:
        kind_truth = with_masks_only(ground_truth) if kind == "mask" else ground_truth
        scores = coco_scores(kind_truth, counted, kind)
        metrics |= {f"{kind}_{name}": value for name, value in scores.stats.items()}
        for category, numbers in scores.by_category.items():
            phrases.setdefault(names[category], {}).update({f"{kind}_{n}": v for n, v in numbers.items()})
        if kind == own:
            curves = {names[category]: curve for category, curve in scores.curves.items()}
        for group, (part, found) in _by_training(kind_truth, counted, trained).items():
            numbers = coco_average_precision(part, found, kind)
            metrics |= {f"{kind}_{name}_{group}": numbers[name] for name in ("AP", "AP50")}
    # near misses are told from all phrases of an image
    measured = measure(pairs_of(truth, results, presence), own)
    metrics |= summarize(measured, own, counted=asked)
    groups: dict[str, list[Measured]] = {}
    for one in measured:
        if asked(one.pair.phrase):
            groups.setdefault(one.pair.phrase, []).append(one)
    for phrase, group in sorted(groups.items()):
        phrases[phrase] = {**_counts(group), **phrases.get(phrase, {}), **summarize(group, own)}
    objects = objects or {}
    if objects:
        # prompts tell where a phrase is: whether it is there was never asked
        metrics, *own_numbers = (_without_concepts(one) for one in (metrics, *phrases.values()))
        phrases = dict(zip(phrases, own_numbers, strict=True))
        metrics |= object_numbers(objects.values())
    return Scored(metrics, phrases, curves, ground_truth, counted, measured, own, objects)


def _without_concepts(numbers: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in numbers.items() if name not in (*CONCEPT_NAMES, *ANSWER_NAMES)}


def _counts(group: list[Measured]) -> dict[str, int]:
    pairs = [one.pair for one in group]
    return {
        "images": sum(pair.is_present for pair in pairs),
        "absent": sum(pair.is_absent for pair in pairs),
        "instances": sum(len(pair.objects) for pair in pairs),
    }


def _by_training(truth: dict, results: list[dict], trained: set[str] | None) -> dict[str, tuple[dict, list[dict]]]:
    """`trained` and `other` parts of ground truth and results; nothing where one of them has no phrase."""
    names = {category["id"]: category["name"] for category in truth["categories"]}
    asked = {names[annotation["category_id"]] for annotation in truth["annotations"]}
    if trained is None or not asked & trained or not asked - trained:
        return {}
    parts = {}
    for group in ("trained", "other"):
        ids = {i for i, name in names.items() if (name in trained) == (group == "trained")}
        part = {
            **truth,
            "annotations": [a for a in truth["annotations"] if a["category_id"] in ids],
            "categories": [c for c in truth["categories"] if c["id"] in ids],
        }
        parts[group] = part, [r for r in results if r["category_id"] in ids]
    return parts


def with_masks_only(ground_truth: dict) -> dict:
    """Boxes without a mask cannot be scored as masks; their images keep their other instances."""
    return {**ground_truth, "annotations": [a for a in ground_truth["annotations"] if "segmentation" in a]}


def count_rows(rows: Iterable[dict]) -> tuple[int, int, int]:
    """The three normalisers of a whole evaluation: instances, known pairs, pairs with a semantic map."""
    instances = pairs = semantic = 0
    for row in rows:
        for phrase in row["phrases"]:
            objects = [row["instances"][i] for i in phrase["instances"] if not row["instances"][i]["is_crowd"]]
            crowd_alone = bool(phrase["instances"]) and not objects
            pairs += bool(objects) or (phrase["exhaustive"] and not crowd_alone)
            instances += len(objects)
            whole = all(o["segmentation"] is not None for o in objects)
            semantic += bool(objects) and phrase["exhaustive"] and whole
    return instances, pairs, semantic
