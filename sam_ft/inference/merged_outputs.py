"""Output files that cover all images of a batch prediction, written in one pass over the records."""

from collections import Counter
from contextlib import ExitStack

from ..utils.owned_files import OwnedFiles
from ..utils.text import count_noun
from .coco_output import CocoOutput
from .cvat_output import CvatOutput
from .image_outputs import FILE_OUTPUTS, EarlierImageOutputs
from .label_studio_output import LabelStudioOutput
from .output_target import OutputTarget
from .output_writers import write_yolo_names
from .parquet_output import ParquetOutput, find_table_files
from .prediction_job import PredictionJob
from .prediction_records import PredictionRecords


_KIND, _ARGUMENT = "prediction", "predictions_dir"
_FILES = (*CocoOutput.FILES, *CvatOutput.FILES, *LabelStudioOutput.FILES, "yolo/data.yaml")
_MAX_PROBLEMS = 100  # lines about images that cannot be read


def check_merged_outputs(job: PredictionJob) -> None:
    """
    Check before a prediction that its merged files may be written.

    Args:
        job (`PredictionJob`): Images, prompts and outputs.

    Raises:
        `ValueError`: If a file of such a name exists that no prediction wrote, or that was edited since.
    """
    tables = find_table_files(job.folder) if "parquet" in job.outputs else []
    OwnedFiles(job.folder, _KIND).check_free([*_FILES, *tables], _ARGUMENT)


def write_merged_outputs(job: PredictionJob, records: PredictionRecords) -> list[str]:
    """
    Write the files that cover all images.

    Args:
        job (`PredictionJob`): Images, prompts and outputs.
        records (`PredictionRecords`): Records of all images.

    Returns:
        `list[str]`: Lines for the log: detections per phrase, notes, and skipped images.

    Raises:
        `ValueError`: If an image has no prediction and is not to be skipped, or if it changed since it was predicted.
    """
    owned, phrases = OwnedFiles(job.folder, _KIND), job.classes
    images, hits, detected = Counter(), Counter(), Counter()
    problems, num_problems = [], 0
    with ExitStack() as stack:
        outputs = [stack.enter_context(output) for output in _create_outputs(job, owned)]
        for image, prediction, problem in records.read():
            if prediction is None:
                _check_skipped(job, image, problem)
                num_problems += 1
                problems += [f"skipped: {image}: {problem}"] * (num_problems <= _MAX_PROBLEMS)
                continue
            for output in outputs:
                output.add(image, prediction)
            for phrase, detections in prediction.detections.items():
                images[phrase] += 1
                hits[phrase] += bool(detections)
                detected[phrase] += len(detections)
    if "yolo" in job.outputs:
        write_yolo_names(owned, phrases)
    if num_problems > len(problems):
        problems.append(f"skipped: {num_problems - len(problems)} more images")
    counted = [phrase for phrase in phrases if images[phrase]]
    notes = []
    for output in outputs:
        if isinstance(output, LabelStudioOutput):
            notes.append(f"note: {output.describe_server()}")
        elif isinstance(output, EarlierImageOutputs):
            notes += output.notes
    numbers = {p: count_noun(detected[p], "detection") for p in counted}
    totals = {p: count_noun(images[p], "image") for p in counted}
    return [f"{p}: {numbers[p]} in {hits[p]:,} of {totals[p]}" for p in counted] + notes + problems


def _create_outputs(job: PredictionJob, owned: OwnedFiles) -> list:
    outputs: list = []
    root = job.images.find_common_folder() if {"coco", "cvat", "label_studio"} & {*job.outputs} else ""
    target = OutputTarget(owned, job.classes, root)
    if "coco" in job.outputs:
        outputs.append(CocoOutput(target))
    if "cvat" in job.outputs:
        outputs.append(CvatOutput(target))
    if "parquet" in job.outputs:
        outputs.append(ParquetOutput(owned, job.classes))
    if "label_studio" in job.outputs:
        outputs.append(LabelStudioOutput(target, job.model_version))
    if FILE_OUTPUTS & {*job.outputs}:
        outputs.append(EarlierImageOutputs(job.folder))
    return outputs


def _check_skipped(job: PredictionJob, image, problem: str | None) -> None:
    """Check that an image without a prediction may be left out."""
    if problem is None:
        raise ValueError(f"`images`: {image} changed during the prediction. Start the same command again")
    if not job.skip_bad:
        raise ValueError(
            f"{problem}. An earlier call with `--on_bad_images skip` left this image out. Correct it, or set the key "
            "again"
        )
