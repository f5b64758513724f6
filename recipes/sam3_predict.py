r"""Prediction of SAM 3: images and phrases to masks, with the base, a tuned model, an adapter, or a Hub id.

    python recipes/sam3_predict.py --model_name_or_path out/mine --images photos/ --phrases "pothole" "manhole cover"
    python recipes/sam3_predict.py --model_name_or_path out/mine --images 'photos/**/*.jpg' \
        --outputs coco labelme masks overlays
    python recipes/sam3_predict.py --model_name_or_path facebook/sam3 --images aerial.tif --phrases car \
        --tile_size 1008 --nms_iom 0.5

All phrases of an image share one pass of the vision encoder. The same command resumes a stopped one. The keys are the
model's keys, from the YAML files of sam3_ft.py; `--help` lists them.
"""

import logging
from pathlib import Path

from sam_ft.arguments import DataArguments, LossArguments, ModelArguments, PredictArguments, Sam3TrainingArguments
from sam_ft.arguments.parser import RecipeParser
from sam_ft.utils.console import as_program, stage


logger = logging.getLogger("sam_ft.run")


def make_parser() -> RecipeParser:
    """Build the parser of the model keys and of the prediction's keys."""
    return RecipeParser(
        (ModelArguments, PredictArguments), ignored=(DataArguments, LossArguments, Sam3TrainingArguments)
    )


def main(model_args: ModelArguments, predict_args: PredictArguments) -> None:
    """Predict masks and write them to files.

    Args:
        model_args (`ModelArguments`): Model to predict with.
        predict_args (`PredictArguments`): Images, phrases, exemplars, outputs and folder.
    """
    from sam_ft.inference.batch_prediction import PredictionJob, find_images, run_job
    from sam_ft.inference.prompt_files import read_exemplars
    from sam_ft.inference.sam3_predictor import Sam3Predictor
    from sam_ft.inference.weights_fingerprint import fingerprint
    from sam_ft.models.model_files import read_trained_phrases

    name, folder = model_args.model_name_or_path, Path(predict_args.predictions_dir)
    files = find_images(predict_args.images, folder)
    exemplars = read_exemplars(predict_args.exemplar_file, files) if predict_args.exemplar_file else {}
    trained = [] if exemplars else sorted(read_trained_phrases(name, model_args.model_revision) or [])
    phrases = predict_args.phrases or trained
    job = PredictionJob(
        files,
        phrases,
        folder,
        predict_args.outputs,
        exemplars,
        workers=predict_args.workers,
        skip_bad=predict_args.on_bad_images == "skip",
        settings={
            "model": name,
            "weights": fingerprint(name, model_args.model_revision),
            **{key: getattr(model_args, key) for key in ("model_revision", "resolution", "dtype", "train_masks")},
        },
    )
    logger.info("%s: %d images, prompts: %s", name, len(files), ", ".join(phrases) or "exemplar boxes")
    with stage("model"):
        predictor = Sam3Predictor.load(
            model_args.options(seed=0), options=predict_args.options(), device=predict_args.device
        )
        logger.info("  thresholds: %s", predictor.describe_thresholds())
    with stage("predictions"):
        for line in run_job(predictor, job):
            logger.info("  %s", line)
    logger.info("%s: %s", folder, ", ".join(predict_args.outputs))


if __name__ == "__main__":
    with as_program():
        main(*make_parser().parse())
