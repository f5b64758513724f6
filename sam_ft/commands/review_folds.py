"""Out-of-fold predictions of a label review: one training run for each fold, which predicts the images left out."""

import dataclasses
import gc
import logging
from pathlib import Path

from ..arguments import DataArguments, LossArguments, ModelArguments, ParsedTraining
from ..evaluation.predictions import PredictionStore, group_by_example, read_evaluation
from ..metrics.label_overlap import LOWEST_SCORE
from ..models.model_files import read_trained_phrases
from ..utils.console import stage
from ..utils.json_files import read_json_file, to_json
from ..utils.owned_files import OwnedFiles
from .build import load_sam
from .build_sam3 import build_sam3_trainer
from .finetune import fine_tune
from .review_data import ReviewData
from .run import Run, build_run


logger = logging.getLogger("sam_ft.run")

FEATURES_FOLDER = "features"
UNTRAINED = "untrained"
_PREDICTIONS = "predictions"
# The best checkpoint of a fold is not chosen and its run is not stopped by metrics, because they are measured on the
# labels that the model must not have seen. Pictures, trackers and probes of the folds are left out.
_FOLD_KEYS = {
    "eval_strategy": "no",
    "load_best_model_at_end": False,
    "early_stopping_patience": None,
    "eval_before": False,
    "num_pictures": 0,
    "report_to": "none",
    "dry_run": False,
    "start_over": False,
}
_FOLD_DATA_KEYS = {"probe_images": 0, "probe_dataset": None}
_LEFT_OUT = ("push_to_hub", "resume_from_checkpoint")
FIXED_KEYS = ("output_dir", *_FOLD_KEYS, *_FOLD_DATA_KEYS, *_LEFT_OUT)  # keys of a training that a review sets


def get_fold_name(fold: int | None) -> str:
    """Return the name of the folder of a fold's run, numbered from 1; `untrained` for `None`."""
    return UNTRAINED if fold is None else f"fold-{fold + 1}"


def get_predictions_name(fold: int | None) -> str:
    """Return the relative path of the predictions of a fold, which are written when its run is complete."""
    return f"{_PREDICTIONS}/{get_fold_name(fold)}.json"


def list_fold_models(folder: Path, num_folds: int) -> list[Path]:
    """
    Return the folders of the trained models of a review, which `Sam3Predictor.from_pretrained` loads.

    Args:
        folder (`Path`): Folder of a review whose folds are complete.
        num_folds (`int`): Number of folds.
    """
    return [folder / get_fold_name(fold) for fold in range(num_folds)]


@dataclasses.dataclass
class FoldRuns:
    """
    Runs of the folds of a review.

    Args:
        model (`ModelArguments`): Keys of the model.
        data_args (`DataArguments`): Keys of the data.
        loss (`LossArguments`): Keys of the loss.
        training (`ParsedTraining`): Keys of the training.
        folder (`Path`): Folder of the review.
    """

    model: ModelArguments
    data_args: DataArguments
    loss: LossArguments
    training: ParsedTraining
    folder: Path

    @property
    def feature_cache(self) -> str | None:
        """Folder of the features of all images; below that of the review unless it is set on the command line."""
        if not self.data_args.feature_cache or "feature_cache" in self.training.command_line_keys:
            return self.data_args.feature_cache
        return str(self.folder / FEATURES_FOLDER)

    def build(self, fold: int | None) -> Run:
        """Build the run of a fold, with the keys of the user except `FIXED_KEYS`."""
        keys = self.training.keys
        keys = dataclasses.replace(
            keys,
            output_dir=str(self.folder / get_fold_name(fold)),
            save_strategy="epoch" if keys.save_strategy == "best" else keys.save_strategy,
            eval_score_threshold=min(keys.eval_score_threshold, LOWEST_SCORE),
            **_FOLD_KEYS,
        )
        transformers = {name: value for name, value in self.training.transformers.items() if name not in _LEFT_OUT}
        data = dataclasses.replace(self.data_args, feature_cache=self.feature_cache, **_FOLD_DATA_KEYS)
        return build_run(self.model, data, self.loss, ParsedTraining(keys, transformers))

    def predict(self, data: ReviewData, owned: OwnedFiles) -> tuple[PredictionStore, dict[str, int | None]]:
        """
        Predict all images, each by the model of its fold; folds with predictions are not trained again.

        Args:
            data (`ReviewData`): The images and their folds.
            owned (`OwnedFiles`): Files of the review's folder.

        Returns:
            `tuple[PredictionStore, dict[str, int | None]]`: Predictions, and the fold that predicted each example.
        """
        folds = [None] if data.folds is None else range(data.folds.num_folds)
        merged, fold_of = PredictionStore(), {}
        for fold in folds:
            name = get_predictions_name(fold)
            if not (self.folder / name).is_file():
                store = self._evaluate(data) if fold is None else self._train_and_predict(fold, data)
                owned.write_text(name, to_json(store.to_plain(), name), "review_dir")
                gc.collect()
            remedy = "Delete it and run the same command again, which predicts the fold again"
            store = PredictionStore.from_plain(read_json_file(self.folder / name, "review_dir", remedy=remedy))
            merged.detections |= store.detections
            merged.presence |= store.presence
            fold_of |= dict.fromkeys((example for example, _ in store.presence), fold)
        return merged, fold_of

    def _train_and_predict(self, fold: int, data: ReviewData) -> PredictionStore:
        run, fold_data = self.build(fold), data.fold_data(fold)
        name, counts = get_fold_name(fold), (len(fold_data.train), len(fold_data.validation))
        with stage(f"{name} of {data.folds.num_folds}"):
            logger.info("%s: trained on %d images, predicts %d others", name, *counts)
            fine_tune(run, fold_data, is_part=True)
        return _read_predictions(Path(run.training.output_dir))

    def _evaluate(self, data: ReviewData) -> PredictionStore:
        """Predict all images with the model as it is."""
        run, all_data = self.build(None), data.fold_data(None)
        with stage("predictions"):
            model, processor = load_sam(run.model, run.training.seed, to_train=False)
            trainer = build_sam3_trainer(model, processor, all_data, run.data, run.loss, run.training)
            trainer.trained_phrases = read_trained_phrases(run.model.model_name_or_path, run.model.model_revision)
            trainer.evaluate()
        return _read_predictions(Path(run.training.output_dir))


def _read_predictions(run_folder: Path) -> PredictionStore:
    """Read the predictions of the evaluation at the end of a run."""
    truth, results, presence = read_evaluation(run_folder / "eval")
    examples = {image["id"]: image["example_id"] for image in truth["images"]}
    names = {category["id"]: category["name"] for category in truth["categories"]}
    detections = {
        key: [{name: value for name, value in result.items() if not name.endswith("_id")} for result in group]
        for key, group in group_by_example(truth, results).items()
    }
    return PredictionStore(
        detections, {(examples[image], names[category]): p for (image, category), p in presence.items()}
    )
