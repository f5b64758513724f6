"""Predictions of an evaluation: stored per process, gathered once, scored on the host."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from accelerate.utils import gather_object

from ..metrics.average_precision import coco_average_precision, coco_ground_truth, coco_scores
from ..metrics.objects import ObjectScore, object_numbers
from ..metrics.pairs import Pair, pairs_of
from ..metrics.summary import Measured, measure, summarize
from ..reporting.metric_specs import METRICS, MetricGroup
from ..utils.json_files import read_json_file, write_json


@dataclass
class PredictionStore:
    """
    Store of predictions by (example id, phrase), so that a repeated example counts once.

    Attributes:
        detections (`dict[tuple[str, str], list[dict]]`): Detections, see [`to_detections`].
        presence (`dict[tuple[str, str], float]`): Probability that the phrase is in the image.
        losses (`dict[tuple[str, ...], float]`): Example ids of a batch -> its share of the evaluation loss.
        objects (`dict[tuple[str, int], ObjectScore]`): (example id, instance) -> scores of SAM 2's predictions.
        corrected (`dict[tuple[str, str], list[dict]]`): SAM 2's detections after all clicks, keyed as `detections`.
        problems (`dict[tuple[str, ...], str]`): Example ids of a batch -> reason why its predictions are unusable.
    """

    detections: dict = field(default_factory=dict)
    presence: dict = field(default_factory=dict)
    losses: dict = field(default_factory=dict)
    objects: dict = field(default_factory=dict)
    corrected: dict = field(default_factory=dict)
    problems: dict = field(default_factory=dict)

    def to_plain(self) -> dict:
        """Return plain values for JSON; the inverse of [`from_plain`]."""
        return {
            "presence": [[*key, probability] for key, probability in sorted(self.presence.items())],
            "detections": [[*key, detections] for key, detections in sorted(self.detections.items())],
        }

    @classmethod
    def from_plain(cls, content: dict) -> "PredictionStore":
        """Build a store from the values of [`to_plain`]."""
        detections = {(example, phrase): values for example, phrase, values in content["detections"]}
        return cls(detections, {(example, phrase): p for example, phrase, p in content["presence"]})

    def gather(self) -> None:
        """Merge the stores of all processes into each of them; a collective call."""
        for other in gather_object([vars(self)]):
            for name, values in other.items():
                getattr(self, name).update(values)

    def to_coco_presence(self, ground_truth: dict) -> dict[tuple[int, int], float]:
        """Return presence by (image id, category id), with the ids of [`coco_ground_truth`]."""
        images = {image["example_id"]: image["id"] for image in ground_truth["images"]}
        categories = {category["name"]: category["id"] for category in ground_truth["categories"]}
        return {(images[example], categories[phrase]): p for (example, phrase), p in sorted(self.presence.items())}

    def to_coco_results(self, ground_truth: dict) -> list[dict]:
        """Return detections as COCO results, with the ids of [`coco_ground_truth`]."""
        images = {image["example_id"]: image["id"] for image in ground_truth["images"]}
        categories = {category["name"]: category["id"] for category in ground_truth["categories"]}
        return [
            {"image_id": images[example_id], "category_id": categories[phrase], **detection}
            for (example_id, phrase), detections in sorted(self.detections.items())
            for detection in detections
        ]


def save_evaluation(scored: "ScoredEvaluation", folder: Path) -> None:
    """
    Write an evaluation to a folder.

    The files are `results.json` and `ground_truth.json` in COCO's format, `presence.json`, `phrases.json` with the
    metrics of each phrase and, for SAM 2, `objects.json` with the scores of each object.

    Args:
        scored (`ScoredEvaluation`): Metrics and data of the evaluation.
        folder (`Path`): Output folder; created where it does not exist.
    """
    presence = [{"image_id": pair.image_id, "phrase": pair.phrase, "presence": pair.presence} for pair in scored.pairs]
    contents = {"results": scored.results, "ground_truth": scored.ground_truth, "presence": presence}
    folder.mkdir(parents=True, exist_ok=True)
    if scored.objects:
        contents["objects"] = [[*key, asdict(object_score)] for key, object_score in sorted(scored.objects.items())]
    for name, content in {**contents, "phrases": scored.phrases}.items():
        write_json(folder / f"{name}.json", content)


def read_evaluation(folder: Path) -> tuple[dict, list[dict], dict[tuple[int, int], float]]:
    """Read ground truth, results and presence by (image id, category id) that [`save_evaluation`] wrote."""
    results, truth, presence = (
        read_json_file(folder / f"{name}.json", remedy="Evaluate again")
        for name in ("results", "ground_truth", "presence")
    )
    ids = {category["name"]: category["id"] for category in truth["categories"]}
    probabilities = {(p["image_id"], ids[p["phrase"]]): p["presence"] for p in presence if p["presence"] is not None}
    return truth, results, probabilities


def read_objects(folder: Path) -> dict[tuple[str, int], ObjectScore]:
    """Read the object scores that [`save_evaluation`] wrote; empty without them."""
    file = folder / "objects.json"
    entries = read_json_file(file, remedy="Evaluate again") if file.is_file() else []
    return {(example, instance): ObjectScore(**values) for example, instance, values in entries}


def group_by_example(truth: dict, results: list[dict]) -> dict[tuple[str, str], list[dict]]:
    """Group results by (example id, phrase)."""
    examples = {image["id"]: image["example_id"] for image in truth["images"]}
    names = {category["id"]: category["name"] for category in truth["categories"]}
    detections: dict = {}
    for result in results:
        detections.setdefault((examples[result["image_id"]], names[result["category_id"]]), []).append(result)
    return detections


@dataclass
class ScoredEvaluation:
    """
    Metrics of an evaluation with the data they are computed from.

    Attributes:
        metrics (`dict[str, float]`): `mask_AP` … `box_ARl` and the metrics of [`summarize`]. With both trained and
            untrained phrases also `mask_AP50_trained`, `mask_AP50_untrained` and the same for boxes and AP.
        phrases (`dict[str, dict]`): Metrics of each phrase.
        curves (`dict[str, list[float]]`): Precision of each phrase at IoU 0.5 over 101 recall steps.
        ground_truth (`dict`): Ground truth in COCO's format.
        results (`list[dict]`): Results in COCO's format.
        measured (`list[Measured]`): Measurements of each (image, phrase) pair.
        kind (`str`): `mask` or `box`, the basis of the measurements.
        objects (`dict[tuple[str, int], ObjectScore]`): SAM 2's scores by (example id, instance).
        groups (`dict[str, set[int]]`): Category ids of `trained` and `untrained` phrases; empty without both.
    """

    metrics: dict[str, float]
    phrases: dict[str, dict]
    curves: dict[str, list[float]]
    ground_truth: dict
    results: list[dict]
    measured: list[Measured]
    kind: str
    objects: dict[tuple[str, int], ObjectScore] = field(default_factory=dict)
    groups: dict[str, set[int]] = field(default_factory=dict)

    @property
    def pairs(self) -> list[Pair]:
        """All measured pairs."""
        return [item.pair for item in self.measured]


def score(
    rows: Iterable[dict],
    store: PredictionStore,
    category_ids: dict[str, int],
    *,
    with_masks: bool,
    trained: set[str] | None = None,
    is_counted: Callable[[str], bool] = lambda _: True,
) -> ScoredEvaluation:
    """
    Compute the metrics of an evaluation.

    Args:
        rows (`Iterable[dict]`): Rows of `sam_ft/data/row_schema.py`; their images are not read.
        store (`PredictionStore`): Gathered predictions.
        category_ids (`dict[str, int]`): Phrase -> category id.
        with_masks (`bool`): Also score masks.
        trained (`set[str]`, *optional*): Trained phrases. If the rows also contain other phrases, both groups have
            separate metrics.
        is_counted (`Callable[[str], bool]`): Predicate of phrases that count, default all. The others still define
            near misses.

    Returns:
        `ScoredEvaluation`: Metrics and measurements.
    """
    truth = coco_ground_truth(rows, category_ids)
    return score_results(
        truth,
        store.to_coco_results(truth),
        store.to_coco_presence(truth),
        with_masks=with_masks,
        trained=trained,
        is_counted=is_counted,
        objects=store.objects,
    )


def score_results(
    truth: dict,
    results: list[dict],
    presence: dict[tuple[int, int], float] | None,
    *,
    with_masks: bool,
    trained: set[str] | None = None,
    is_counted: Callable[[str], bool] = lambda _: True,
    objects: dict[tuple[str, int], ObjectScore] | None = None,
) -> ScoredEvaluation:
    """
    Compute the metrics of results in COCO's format.

    Args:
        truth (`dict`): Ground truth of [`coco_ground_truth`].
        results (`list[dict]`): COCO results.
        presence (`dict[tuple[int, int], float]`, *optional*): (image id, category id) -> probability.
        with_masks (`bool`): As in [`score`].
        trained (`set[str]`, *optional*): As in [`score`].
        is_counted (`Callable[[str], bool]`): As in [`score`].
        objects (`dict[tuple[str, int], ObjectScore]`, *optional*): SAM 2's scores by (example id, instance).

    Returns:
        `ScoredEvaluation`: Metrics and measurements.
    """
    names = {category["id"]: category["name"] for category in truth["categories"]}
    ground_truth = {**truth, "annotations": [a for a in truth["annotations"] if is_counted(names[a["category_id"]])]}
    counted = [r for r in results if is_counted(names[r["category_id"]])]
    metrics: dict[str, float] = {}
    phrases: dict[str, dict[str, float]] = {}
    curves = {}
    kinds = ("mask", "box") if with_masks else ("box",)
    labelled = [a for a in truth["annotations"] if not a["iscrowd"]]
    # Data sets with boxes only are measured by boxes.
    measured_kind = "mask" if with_masks and (not labelled or any("segmentation" in a for a in labelled)) else "box"
    for kind in kinds:
        kind_truth = select_annotations_with_masks(ground_truth) if kind == "mask" else ground_truth
        scores = coco_scores(kind_truth, counted, kind)
        metrics |= {f"{kind}_{name}": value for name, value in scores.stats.items()}
        for category, numbers in scores.by_category.items():
            phrases.setdefault(names[category], {}).update({f"{kind}_{n}": v for n, v in numbers.items()})
        if kind == measured_kind:
            curves = {names[category]: curve for category, curve in scores.curves.items()}
        for group, (part, part_results) in _by_training(kind_truth, counted, trained).items():
            numbers = coco_average_precision(part, part_results, kind)
            metrics |= {f"{kind}_{name}_{group}": numbers[name] for name in ("AP", "AP50")}
    # Near misses depend on all phrases of an image.
    measured = measure(pairs_of(truth, results, presence), measured_kind)
    objects = objects or {}
    # Prompts give each object's location, so that presence and concept metrics do not apply.
    excluded = {MetricGroup.CONCEPT, MetricGroup.PHRASE} if objects else set()
    metrics |= _select_metrics(summarize(measured, is_counted), excluded)
    by_phrase: dict[str, list[Measured]] = {}
    for item in measured:
        if is_counted(item.pair.phrase):
            by_phrase.setdefault(item.pair.phrase, []).append(item)
    for phrase, of_phrase in sorted(by_phrase.items()):
        numbers = _select_metrics(summarize(of_phrase), excluded)
        phrases[phrase] = {**_counts(of_phrase), **phrases.get(phrase, {}), **numbers}
    metrics |= object_numbers(objects.values())
    groups = _split_categories(ground_truth, trained)
    return ScoredEvaluation(metrics, phrases, curves, ground_truth, counted, measured, measured_kind, objects, groups)


def _select_metrics(numbers: dict[str, float], excluded: set[MetricGroup]) -> dict[str, float]:
    """Select the metrics of the registry, without those of the excluded groups."""
    return {n: value for n, value in numbers.items() if n in METRICS and METRICS[n].group not in excluded}


def _counts(group: list[Measured]) -> dict[str, int]:
    pairs = [item.pair for item in group]
    return {
        "images": sum(pair.is_present for pair in pairs),
        "absent": sum(pair.is_absent for pair in pairs),
        "instances": sum(len(pair.objects) for pair in pairs),
    }


def _split_categories(truth: dict, trained: set[str] | None) -> dict[str, set[int]]:
    """Return the category ids of `trained` and `untrained` phrases; empty if a part has no annotation."""
    names = {category["id"]: category["name"] for category in truth["categories"]}
    annotated = {names[annotation["category_id"]] for annotation in truth["annotations"]}
    if trained is None or not annotated & trained or not annotated - trained:
        return {}
    ids = {i for i, name in names.items() if name in trained}
    return {"trained": ids, "untrained": names.keys() - ids}


def _by_training(truth: dict, results: list[dict], trained: set[str] | None) -> dict[str, tuple[dict, list[dict]]]:
    """Split ground truth and results as [`_split_categories`]."""
    parts = {}
    for group, ids in _split_categories(truth, trained).items():
        part = {
            **truth,
            "annotations": [a for a in truth["annotations"] if a["category_id"] in ids],
            "categories": [c for c in truth["categories"] if c["id"] in ids],
        }
        parts[group] = part, [r for r in results if r["category_id"] in ids]
    return parts


def select_annotations_with_masks(ground_truth: dict) -> dict:
    """Return the ground truth without the annotations that have no mask."""
    return {**ground_truth, "annotations": [a for a in ground_truth["annotations"] if "segmentation" in a]}


def count_rows(rows: Iterable[dict]) -> tuple[int, int, int]:
    """
    Count the loss normalisers of a whole evaluation.

    Args:
        rows (`Iterable[dict]`): Rows of `sam_ft/data/row_schema.py`; their images are not read.

    Returns:
        `tuple[int, int, int]`: Instances, pairs labelled as present or absent, and pairs with a semantic map.
    """
    instances = pairs = semantic = 0
    for row in rows:
        for phrase in row["phrases"]:
            objects = [row["instances"][i] for i in phrase["instances"] if not row["instances"][i]["is_crowd"]]
            has_crowd_only = bool(phrase["instances"]) and not objects
            pairs += bool(objects) or (phrase["exhaustive"] and not has_crowd_only)
            instances += len(objects)
            has_all_masks = all(o["segmentation"] is not None for o in objects)
            semantic += bool(objects) and phrase["exhaustive"] and has_all_masks
    return instances, pairs, semantic
