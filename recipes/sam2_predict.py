r"""Prediction of SAM 2: images, clicks and boxes to masks, with the base, a tuned model, an adapter, or a Hub id.

    python recipes/sam2_predict.py --model_name_or_path out/mine --images photos/ --prompt_file prompts.json
    python recipes/sam2_predict.py --model_name_or_path out/mine --images photos/ --prompt_file detections_coco.json \
        --outputs coco labelme masks

All objects of an image share one pass of the image encoder. The same command resumes a stopped one. The keys are the
model's keys, from the YAML files of sam2_ft.py; `--help` lists them.
"""

import logging
from pathlib import Path

from sam_ft.arguments import SAM2_ARGUMENTS, Sam2ModelArguments, Sam2PredictArguments
from sam_ft.arguments.parser import RecipeParser
from sam_ft.utils.console import as_program, stage


logger = logging.getLogger("sam_ft.run")


def make_parser() -> RecipeParser:
    """Build the parser of the model keys and of the prediction's keys."""
    return RecipeParser((Sam2ModelArguments, Sam2PredictArguments), ignored=SAM2_ARGUMENTS)


def main(model_args: Sam2ModelArguments, predict_args: Sam2PredictArguments) -> None:
    """Predict masks and write them to files.

    Args:
        model_args (`Sam2ModelArguments`): Model to predict with.
        predict_args (`Sam2PredictArguments`): Images, prompts, outputs and folder.
    """
    from sam_ft.inference.batch_prediction import PredictionJob, find_images, run_job
    from sam_ft.inference.prompt_files import read_prompts
    from sam_ft.inference.sam2_predictor import Sam2Predictor
    from sam_ft.inference.weights_fingerprint import fingerprint

    name = model_args.model_name_or_path
    files = find_images(predict_args.images, Path(predict_args.predictions_dir))
    prompts = read_prompts(predict_args.prompt_file, files)
    job = PredictionJob(
        files,
        [],
        Path(predict_args.predictions_dir),
        predict_args.outputs,
        prompts,
        workers=predict_args.workers,
        skip_bad=predict_args.on_bad_images == "skip",
        settings={
            "model": name,
            "weights": fingerprint(name, model_args.model_revision),
            **{key: getattr(model_args, key) for key in ("model_revision", "resolution", "dtype")},
        },
    )
    objects = sum(map(len, prompts.values()))
    logger.info("%s: %d images, %d objects prompted in %d of them", name, len(files), objects, len(prompts))
    with stage("model"):
        predictor = Sam2Predictor.load(
            model_args.options(seed=0), options=predict_args.options(), device=predict_args.device
        )
    with stage("predictions"):
        for line in run_job(predictor, job):
            logger.info("  %s", line)
    logger.info("%s: %s", predict_args.predictions_dir, ", ".join(predict_args.outputs))


if __name__ == "__main__":
    with as_program():
        main(*make_parser().parse())
