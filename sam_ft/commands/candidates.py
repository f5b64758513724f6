"""What can be compared: models, and other programs' results, each evaluated on the same images."""

import dataclasses
import gc
from dataclasses import dataclass
from pathlib import Path

from ..arguments import Run
from ..data.loading import PhraseData
from ..evaluation.coco_results import read_results
from ..evaluation.predictions import PredictionStore, Scored, by_example, score_results
from ..metrics.average_precision import coco_ground_truth
from ..metrics.thresholds import Thresholds, read_thresholds
from ..models.families import SAM2
from ..models.model_files import family_of
from .build import load_sam
from .model_kinds import KINDS, run_of
from .retention_probe import build_retention


PROMPTS = ("point", "box")


@dataclass
class Candidate:
    """What is compared: `source` is a model, or a COCO results file; `prompt`, of SAM 2, `point` or `box`."""

    name: str
    source: str
    prompt: str | None = None

    @property
    def is_results(self) -> bool:
        return self.source.endswith(".json")


@dataclass
class Evaluated:
    """
    Attributes:
        name (`str`). metrics (`dict[str, float]`): prefixed `eval_`. scored (`Scored`).
        thresholds (`Thresholds`, *optional*): those saved with the model. probe (`PredictionStore`, *optional*): its answers to phrases
            that are not trained; kinds, sizes: of those phrases and images. asked (`str`, *optional*): what it was asked, in words.
    """

    name: str
    metrics: dict[str, float]
    scored: Scored
    thresholds: Thresholds | None = None
    probe: PredictionStore | None = None
    kinds: dict[str, str] = dataclasses.field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    asked: str | None = None

    @property
    def detections(self) -> dict[tuple[str, str], list[dict]]:
        """By (example id, phrase)."""
        return by_example(self.scored.ground_truth, self.scored.results)


def candidates_of(compare: list[str], model: str) -> list[Candidate]:
    """
    What `compare` names, then the model. `SOURCE#box` and `SOURCE#point` say how a SAM 2 is prompted.

    Raises:
        `ValueError`: where two have one name, or a results file is not there.
    """
    found = []
    for entry in compare:
        entry, prompt = _prompt_of(entry)
        name, given, source = entry.partition("=")
        name, source = (name.strip(), source.strip()) if given else (name_of(entry), entry)
        if not name or not source or "/" in name or name.startswith("."):
            raise ValueError(f"`compare`: {entry!r} has no name that a folder can have; write NAME=SOURCE")
        found.append(Candidate(name, source, prompt))
        if found[-1].is_results and not Path(source).is_file():
            raise ValueError(f"`compare`: there is no file {source!r}")
    found.append(Candidate(name_of(model), model))
    names = [candidate.name for candidate in found]
    double = next((name for name in names if names.count(name) > 1), None)
    if double:
        raise ValueError(f"`compare`: two are called {double!r}; give them names, NAME=SOURCE")
    return found


def _prompt_of(entry: str) -> tuple[str, str | None]:
    source, given, prompt = entry.rpartition("#")
    if not given or "/" in prompt:
        return entry, None
    if prompt not in PROMPTS:
        raise ValueError(
            f"`compare`: {entry!r} ends in #{prompt}; SAM 2 is prompted with {' or '.join(f'#{one}' for one in PROMPTS)}"
        )
    return source, prompt


def name_of(source: str) -> str:
    """Short name of a model or results file: the last part of its path or id."""
    path = Path(source.rstrip("/"))
    name = f"{path.parent.name}-{path.name}" if path.name.startswith("checkpoint-") and path.parent.name else path.name
    return name.removesuffix(".json")


def evaluate_model(candidate: Candidate, data: PhraseData, trained: set[str] | None, run: Run) -> Evaluated:
    """Loads a model, scores it, asks SAM 3 the probe, and lets it go. A model of the other kind than the run's is evaluated by that kind's defaults."""
    own = candidate.source == run.model.model_name_or_path  # whose revision is the run's
    revision = run.model.model_revision if own else None
    family = family_of(candidate.source, revision)
    if candidate.prompt and family is not SAM2:
        raise ValueError(
            f"`compare`: {candidate.source!r} is a {family.title}, which takes phrases; leave out #{candidate.prompt}"
        )
    kind = KINDS[family.key]
    run = run_of(kind, run, **({"eval_prompt": candidate.prompt} if candidate.prompt else {}))
    model_args = dataclasses.replace(run.model, model_name_or_path=candidate.source, model_revision=revision)
    run = dataclasses.replace(run, model=model_args)
    model, processor = load_sam(run.model, run.training.seed, to_train=False)
    trainer = kind.build(model, processor, data, run.data, run.loss, run.training)
    if family is not SAM2:  # which is asked no phrases
        trainer.trained_phrases = trained
    metrics = trainer.evaluate()
    thresholds = read_thresholds(Path(candidate.source))
    result = Evaluated(candidate.name, metrics, trainer.scored, thresholds, asked=run.data.asked())
    retention = build_retention(trainer, data, run.data)
    if retention.probe is not None:
        answers = retention.ask()
        result.probe, result.kinds, result.sizes = answers["probe"], retention.probe.kinds, retention.sizes()
        if "known" in answers:
            result.metrics["eval_retention_AP50"] = retention.precision(answers["known"])
    del trainer, model
    gc.collect()
    return result


def evaluate_results(
    candidate: Candidate, data: PhraseData, trained: set[str] | None, *, with_masks: bool
) -> Evaluated:
    """
    Scores a COCO results file in the data set's own image and category ids.

    Raises:
        `ValueError`: naming the file and record, where it is none, or an id is not the data set's.
    """
    rows = data.validation.remove_columns("image")
    truth = coco_ground_truth(rows, data.category_ids)
    results = read_results(candidate.source, truth)
    with_masks &= all("segmentation" in one for one in results)
    scored = score_results(truth, results, None, with_masks=with_masks, trained=trained)
    metrics = {f"eval_{name}": value for name, value in scored.metrics.items()}
    return Evaluated(candidate.name, metrics, scored)
