"""Pictures of an evaluation: choice of the images, drawing, and a callback that sends them to the trackers."""

from pathlib import Path

from datasets import Dataset
from transformers import TrainerCallback

from ..evaluation.predictions import PredictionStore, ScoredEvaluation, group_by_example, read_evaluation
from ..reporting.comparisons import save_comparisons
from .trackers import log_picture


def select_pictured_rows(rows: Dataset, number: int, trained_phrases: set[str]) -> Dataset:
    """
    Select the images to draw; images that contain a trained phrase come first.

    Args:
        rows (`Dataset`): Rows of the evaluation.
        number (`int`): Largest number of images.
        trained_phrases (`set[str]`): Trained phrases.
    """
    phrases = rows.remove_columns("image")["phrases"]
    order = sorted(
        range(len(rows)), key=lambda i: not any(p["instances"] and p["text"] in trained_phrases for p in phrases[i])
    )
    return rows.select(order[:number])


def save_evaluation_pictures(
    folder: Path, rows: Dataset, scored: ScoredEvaluation, store: PredictionStore, extra_detections: dict[str, dict]
) -> None:
    """
    Draw ground truth and predictions, beside those before training if they are of the same data.

    Args:
        folder (`Path`): Output folder of the evaluation.
        rows (`Dataset`): Rows of the drawn images.
        scored (`ScoredEvaluation`): Metrics and data of the evaluation.
        store (`PredictionStore`): Predictions of the evaluation.
        extra_detections (`dict[str, dict]`): Further detections to draw, by title.
    """
    columns = {"prediction": store.detections}
    before = folder.parent / "before"
    if folder != before and (before / "presence.json").is_file():
        truth, results, _ = read_evaluation(before)
        if truth == scored.ground_truth:  # Another run may have left results of another data set.
            columns = {"before": group_by_example(truth, results), "after": store.detections}
    phrases = [category["name"] for category in scored.ground_truth["categories"]]
    save_comparisons(rows, columns | extra_detections, folder / "pictures", phrases)


class PictureLogCallback(TrainerCallback):
    """
    Callback that sends the pictures of each evaluation to the trackers.

    Args:
        trainer (`Trainer`): Trainer whose other callbacks are the trackers.
    """

    def __init__(self, trainer):
        self.trainer = trainer

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        sheet = Path(args.output_dir) / "eval" / "pictures.png"
        # The evaluation before training has another prefix.
        is_in_training = any(name.startswith("eval_") for name in metrics or ())
        if not state.is_world_process_zero or not is_in_training or not sheet.is_file():
            return
        log_picture(self.trainer.callback_handler.callbacks, "eval/pictures", sheet, state.global_step)
