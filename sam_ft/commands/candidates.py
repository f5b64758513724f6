"""Candidates of a comparison: models and COCO results files, each evaluated on the same images."""

import dataclasses
import gc
from dataclasses import dataclass
from pathlib import Path

from ..data.loading import PhraseData
from ..evaluation.coco_results import read_results
from ..evaluation.predictions import PredictionStore, ScoredEvaluation, group_by_example, score_results
from ..metrics.average_precision import coco_ground_truth
from ..metrics.thresholds import Thresholds, read_thresholds
from ..models.families import FAMILIES
from ..models.family_spec import resolve
from ..models.model_files import detect_family
from .build import load_sam
from .retention_probe import build_retention
from .run import Run
from .run_family import convert_run


# First prompts of the families that take no phrases.
PROMPTS = tuple(dict.fromkeys(prompt for family in FAMILIES.values() for prompt in family.evaluation_prompts))


@dataclass
class Candidate:
    """
    Model or results file of a comparison.

    Attributes:
        name (`str`): Name in the report.
        source (`str`): Folder or Hub id of a model, or path of a COCO results file.
        prompt (`str`, *optional*): First prompt of a SAM 2: `point` or `box`.
    """

    name: str
    source: str
    prompt: str | None = None

    @property
    def is_results(self) -> bool:
        """Return whether `source` is a COCO results file."""
        return self.source.endswith(".json")


@dataclass
class CandidateEvaluation:
    """
    Evaluation of a candidate.

    Attributes:
        name (`str`): Name in the report.
        metrics (`dict[str, float]`): Metrics, with the prefix `eval_`.
        scored (`ScoredEvaluation`): Predictions and ground truth.
        thresholds (`Thresholds`, *optional*): Score thresholds saved with the model.
        probe (`PredictionStore`, *optional*): Predictions for the phrases of the retention probe.
        kinds (`dict[str, str]`): Kind of each phrase of the probe.
        sizes (`dict[str, tuple[int, int]]`): Height and width of each image of the probe.
        prompts (`str`, *optional*): Description of the prompts.
    """

    name: str
    metrics: dict[str, float]
    scored: ScoredEvaluation
    thresholds: Thresholds | None = None
    probe: PredictionStore | None = None
    kinds: dict[str, str] = dataclasses.field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    prompts: str | None = None

    @property
    def detections(self) -> dict[tuple[str, str], list[dict]]:
        """Detections by (example id, phrase)."""
        return group_by_example(self.scored.ground_truth, self.scored.results)


def parse_candidates(compare: list[str], model: str) -> list[Candidate]:
    """
    Parse the candidates of `compare`; the model of the run is the last one.

    Args:
        compare (`list[str]`): Entries SOURCE or NAME=SOURCE. `SOURCE#box` and `SOURCE#point` set the prompt of a SAM
            2.
        model (`str`): Folder or Hub id of the model.

    Raises:
        ValueError: If two candidates have the same name, or a results file does not exist.
    """
    candidates = []
    for entry in compare:
        entry, prompt = _split_prompt(entry)
        name, separator, source = entry.partition("=")
        name, source = (name.strip(), source.strip()) if separator else (get_short_name(entry), entry)
        if not name or not source or "/" in name or name.startswith("."):
            raise ValueError(f"`compare`: {entry!r} has no name that a folder can have. Write NAME=SOURCE")
        candidates.append(Candidate(name, source, prompt))
        if candidates[-1].is_results and not Path(source).is_file():
            raise ValueError(f"`compare`: there is no file {source!r}")
    candidates.append(Candidate(get_short_name(model), model))
    names = [candidate.name for candidate in candidates]
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate:
        raise ValueError(f"`compare`: two candidates are called {duplicate!r}. Name them as NAME=SOURCE")
    return candidates


def _split_prompt(entry: str) -> tuple[str, str | None]:
    source, separator, prompt = entry.rpartition("#")
    if not separator or "/" in prompt:
        return entry, None
    if prompt not in PROMPTS:
        raise ValueError(
            f"`compare`: {entry!r} ends in #{prompt}. The prompt of a SAM 2 is "
            f"{' or '.join(f'#{name}' for name in PROMPTS)}"
        )
    return source, prompt


def get_short_name(source: str) -> str:
    """Return the short name of a model or results file, the last part of its path or id."""
    path = Path(source.rstrip("/"))
    name = f"{path.parent.name}-{path.name}" if path.name.startswith("checkpoint-") and path.parent.name else path.name
    return name.removesuffix(".json")


def evaluate_model(candidate: Candidate, data: PhraseData, trained: set[str] | None, run: Run) -> CandidateEvaluation:
    """
    Load a model, evaluate it, and release its memory; SAM 3 is also evaluated on the retention probe.

    Args:
        candidate (`Candidate`): Model to evaluate.
        data (`PhraseData`): Evaluation data.
        trained (`set[str]`, *optional*): Phrases on which the model of the run was trained.
        run (`Run`): Keys. A model of the other family is evaluated with the defaults of its family.
    """
    is_run_model = candidate.source == run.model.model_name_or_path  # `model_revision` belongs to this model alone.
    revision = run.model.model_revision if is_run_model else None
    family = detect_family(candidate.source, revision)
    if candidate.prompt and candidate.prompt not in family.evaluation_prompts:
        raise ValueError(
            f"`compare`: {candidate.source!r} is a {family.title}, which takes phrases. Leave out #{candidate.prompt}"
        )
    run = convert_run(run, family, **({"eval_prompt": candidate.prompt} if candidate.prompt else {}))
    model_args = dataclasses.replace(run.model, model_name_or_path=candidate.source, model_revision=revision)
    if not is_run_model and family.takes_phrases:  # The concepts of the run belong to its model.
        model_args = dataclasses.replace(model_args, concepts=[])
    run = dataclasses.replace(run, model=model_args)
    model, processor = load_sam(run.model, run.training.seed, to_train=False)
    trainer = resolve(family.build_trainer)(model, processor, data, run.data, run.loss, run.training)
    if family.takes_phrases:
        trainer.trained_phrases = trained
    metrics = trainer.evaluate()
    thresholds = read_thresholds(Path(candidate.source))
    scored, prompts = trainer.evaluator.scored, run.data.describe_prompts()
    result = CandidateEvaluation(candidate.name, metrics, scored, thresholds, prompts=prompts)
    retention = build_retention(trainer, data, run.data)
    if retention.probe is not None:
        predictions = retention.predict()
        result.probe, result.kinds, result.sizes = predictions["probe"], retention.probe.kinds, retention.sizes()
        if "labelled" in predictions:
            result.metrics["eval_retention_AP50"] = retention.compute_ap50(predictions["labelled"])
    del trainer, model
    gc.collect()
    return result


def evaluate_results(
    candidate: Candidate, data: PhraseData, trained: set[str] | None, *, with_masks: bool
) -> CandidateEvaluation:
    """
    Score a COCO results file whose image and category ids are those of the data set.

    Args:
        candidate (`Candidate`): Results file.
        data (`PhraseData`): Evaluation data.
        trained (`set[str]`, *optional*): Trained phrases, which get metrics of their own.
        with_masks (`bool`): Whether to score masks, if all results have one.

    Raises:
        ValueError: If the file is malformed or contains an unknown id. The message names file and record.
    """
    rows = data.validation.remove_columns("image")
    truth = coco_ground_truth(rows, data.category_ids)
    results = read_results(candidate.source, truth)
    with_masks &= all("segmentation" in result for result in results)
    scored = score_results(truth, results, None, with_masks=with_masks, trained=trained)
    metrics = {f"eval_{name}": value for name, value in scored.metrics.items()}
    return CandidateEvaluation(candidate.name, metrics, scored)


def count_unchanged_pairs(evaluated: list[CandidateEvaluation], trained: set[str]) -> int | None:
    """
    Count the (image, phrase) pairs of untrained phrases if the outputs of the first and the last evaluation are equal.

    Args:
        evaluated (`list[CandidateEvaluation]`): Evaluations of the same images.
        trained (`set[str]`): Trained phrases.

    Returns:
        `int` or `None`: Number of the pairs; `None` if an output differs or nothing was compared.
    """
    before, after = (_outputs_of(evaluation, trained) for evaluation in (evaluated[0], evaluated[-1]))
    return len(after) if len(evaluated) > 1 and after and before == after else None


def _outputs_of(evaluation: CandidateEvaluation, trained: set[str]) -> dict[tuple, tuple]:
    """Return presence and detections of untrained phrases, by part of the evaluation, image and phrase."""
    outputs: dict[tuple, tuple] = {
        ("evaluation", pair.image_id, pair.phrase): (pair.presence, pair.detections)
        for pair in evaluation.scored.pairs
        if pair.phrase not in trained
    }
    if evaluation.probe is not None:
        presence, detections = evaluation.probe.presence, evaluation.probe.detections
        outputs |= {("probe", *key): (presence[key], detections.get(key, [])) for key in presence}
    return outputs
