"""Batch prediction over image files, with a progress bar; a stopped job resumes with the images without a result."""

import dataclasses
import glob
import json
import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from torch.utils.data import DataLoader

from ..data.readers.files import image_suffixes, images_in
from ..options.keys import check_choice
from ..options.prediction import OUTPUTS
from ..utils.console import progress_bar
from ..utils.json_files import read_json_file, write_json
from ..utils.output_folders import FolderKind, claim_settings, is_claimed, lock_folder
from ..utils.owned_files import OwnedFiles
from .exemplars import Exemplars
from .output_writers import (
    derive_phrase_file_names,
    write_coco,
    write_labelme,
    write_masks,
    write_overlay,
    write_yolo,
    write_yolo_names,
)  # fmt: skip
from .phrases import VISUAL, check_phrases
from .predictor import ImagePrediction, Predictor
from .prompt_files import ObjectPrompt
from .prompted_views import PreparedReferences
from .tiling import FileViews, Views


logger = logging.getLogger("sam_ft.run")

PREDICTIONS = FolderKind(
    "predictions_dir", "predict.yaml", "prediction", "delete this folder to predict with the new settings"
)
_SHARED_FILES = ("coco.json", "results.json", "yolo/data.yaml")  # each covers all images
_RECORDS = "predictions"  # folder with one record per image; a recorded image is not predicted again


@dataclass
class PredictionJob:
    """
    Images, prompts and outputs of one batch prediction.

    Attributes:
        files (`dict[str, str]`): Image file by name; see [`find_images`].
        phrases (`list[str]`): Phrases that every image is prompted with; may be empty where `prompts` are given.
        folder (`Path`): Output folder.
        outputs (`list[str]`): Output formats, from `OUTPUTS`.
        prompts (`dict[str, Exemplars | list[ObjectPrompt]]`): Exemplar boxes (SAM 3) or object prompts (SAM 2) by
            image name.
        workers (`int`): Number of processes that load images, 0 by default.
        skip_bad (`bool`): Skip images that cannot be read and report them at the end, `False` by default.
        image_channels (`list[int]`): Three channels of the images, from 1; see [`read_channels`].
        settings (`dict`): Settings of the model; a folder contains the predictions of one model only.
        references (`PreparedReferences`, *optional*): References in other images.
    """

    files: dict[str, str]
    phrases: list[str]
    folder: Path
    outputs: list[str]
    prompts: dict[str, Exemplars | list[ObjectPrompt]] = field(default_factory=dict)
    workers: int = 0
    skip_bad: bool = False
    image_channels: list[int] = field(default_factory=list)
    settings: dict = field(default_factory=dict)
    references: PreparedReferences | None = None

    def __post_init__(self):
        self.phrases = check_phrases(self.phrases)
        check_choice("outputs", self.outputs, OUTPUTS)
        unmatched = next((name for name in self.prompts if name not in self.files), None)
        if unmatched is not None:
            raise ValueError(
                f"the prompts name the image {unmatched!r}, which is not among `images` "
                f"({', '.join(list(self.files)[:3])}, …). Add it to `images`, or remove its prompts"
            )
        if not self.phrases and not self.prompts:
            raise ValueError("there is no prompt; give phrases (SAM 3), or boxes and clicks")
        if not self.phrases:  # images without a prompt have no prediction, so they are not opened
            self.files = {name: file for name, file in self.files.items() if name in self.prompts}

    @property
    def classes(self) -> list[str]:
        """Class names of the detections, in one order for all images: the phrases, or the labels of the prompts."""
        if self.phrases:
            return list(self.phrases)
        labels = [prompt.label for prompts in self.prompts.values() if isinstance(prompts, list) for prompt in prompts]
        return list(dict.fromkeys(labels)) or [VISUAL]


def find_images(entries: list[str], output_dir: Path | None = None) -> dict[str, str]:
    """
    Find image files and give each a unique name: its path below the common folder, without the suffix.

    Args:
        entries (`list[str]`): Files, folders (all images below them) and globs.
        output_dir (`Path`, *optional*): Folder of predictions; files that an earlier call wrote there are skipped.

    Returns:
        `dict[str, str]`: Image file by name.

    Raises:
        `ValueError`: If an entry does not exist or contains no image.
    """
    files: list[str] = []
    for entry in entries:
        if Path(entry).is_dir():
            matched = [str(file) for file in images_in(Path(entry))]
        elif Path(entry).is_file():
            matched = [entry]
        else:
            suffixes = image_suffixes()
            paths = sorted(glob.glob(entry, recursive=True))
            matched = [file for file in paths if Path(file).suffix.lower() in suffixes and Path(file).is_file()]
        if not matched:
            problem = (
                "the folder contains no image"
                if Path(entry).is_dir()
                else "there is no such file or folder, and no image matches"
            )
            raise ValueError(f"`images`: {entry!r}: {problem}")
        files += matched
    files = list({Path(file).resolve(): file for file in files}.values())  # a file that is named twice counts once
    if output_dir is not None and is_claimed(output_dir, PREDICTIONS):
        written = [file for file in files if Path(file).resolve().is_relative_to(output_dir.resolve())]
        if written:
            logger.info("%d images below `predictions_dir` (%s) are skipped", len(written), output_dir)
        if written and len(written) == len(files):
            raise ValueError(
                f"`images`: all {len(written)} files lie below `predictions_dir`, {output_dir}. Give other images"
            )
        files = [file for file in files if file not in set(written)]
    if not files:
        raise ValueError("`images`: give files, folders or globs, such as `--images photos/ more/*.jpg`")
    root = os.path.commonpath([Path(file).resolve().parent for file in files])
    below = [Path(file).resolve().relative_to(root) for file in files]
    stems = Counter(path.with_suffix("").as_posix() for path in below)
    by_name: dict[str, str] = {}
    for path, file in zip(below, files, strict=True):
        stem = path.with_suffix("").as_posix()
        name = stem if stems[stem] == 1 else path.as_posix()  # `a.jpg` and `a.png` keep their suffixes
        while name in by_name:
            name += "_"
        by_name[name] = file
    return by_name


def run_job(predictor: Predictor, job: PredictionJob) -> list[str]:
    """
    Predict the images that have no result yet and write all outputs.

    Args:
        predictor (`Predictor`): Predictor of SAM 3 or SAM 2.
        job (`PredictionJob`): Images, prompts and outputs.

    Returns:
        `list[str]`: Lines for the log: detections per phrase, notes, and skipped images.

    Raises:
        `ValueError`: If an image cannot be read and `skip_bad` is false, or if the folder contains predictions of
            other settings.
    """
    settings = {
        "phrases": job.phrases,
        "outputs": sorted(job.outputs),
        "image_channels": job.image_channels,
        "exemplars": {name: _to_plain(prompts) for name, prompts in job.prompts.items()},
        **dataclasses.asdict(predictor.options),
        **job.settings,
    }
    not_compared = {"views_per_batch"}  # changes the speed, not the result
    records = job.folder / _RECORDS
    with lock_folder(job.folder, PREDICTIONS):
        claim_settings(
            job.folder,
            PREDICTIONS,
            json.loads(json.dumps({key: value for key, value in settings.items() if key not in not_compared})),
            has_results=records.is_dir() and any(records.rglob("*.json")),
        )
        owned = OwnedFiles(job.folder, "prediction")
        owned.check_free(_SHARED_FILES, PREDICTIONS.argument)
        return _predict_missing(predictor, job, owned)


def _predict_missing(predictor: Predictor, job: PredictionJob, owned: OwnedFiles) -> list[str]:
    records = job.folder / _RECORDS
    missing = {name: file for name, file in job.files.items() if _read_prediction(records, name, file) is None}
    num_done = len(job.files) - len(missing)
    if num_done:
        logger.info("%d of %d images were predicted before; resuming", num_done, len(job.files))
    problems, filled = [], 0
    with progress_bar(total=len(job.files), initial=num_done, leave=True) as bar:
        for batch in _load_batches(predictor, missing, job):
            bad = [views for views in batch if views.problem]
            if bad and not job.skip_bad:
                raise ValueError(f"{bad[0].problem}. Correct it, or set `--on_bad_images skip` to skip such files")
            problems += [f"{missing[views.name]}: {views.problem}" for views in bad]
            readable = [views for views in batch if not views.problem]
            for prediction in predictor.predict_job(readable, job):
                filled += _write_image(prediction, missing[prediction.name], job)
            bar.update(len(batch))
    lines = _write_shared(job, records, owned)
    lines += [f"note: {filled} masks have holes; the YOLO format has none, so they are filled there"] if filled else []
    return lines + [f"skipped: {problem}" for problem in problems]


def _to_plain(prompts: Exemplars | list[ObjectPrompt]):
    if isinstance(prompts, list):
        return [dataclasses.asdict(prompt) for prompt in prompts]
    return dataclasses.asdict(prompts)


def _load_batches(predictor: Predictor, files: dict[str, str], job: PredictionJob) -> Iterator[list[Views]]:
    views = FileViews(files, predictor.resolution, *predictor.tiling, channels=job.image_channels)
    # The tiles of one image fill a batch.
    batch_size = predictor.options.views_per_batch if views.tile_size is None else 1
    yield from DataLoader(views, batch_size=batch_size, num_workers=min(job.workers, len(files)), collate_fn=list)


def _write_image(prediction: ImagePrediction, image: str, job: PredictionJob) -> int:
    """Write all files of an image, its record last; return the number of masks with filled holes."""
    record = job.folder / _RECORDS / f"{prediction.name}.json"
    pending = record.with_name(f".{record.stem[-80:]}.pending")
    _check_writable(prediction, image, job, record, pending)
    record.parent.mkdir(parents=True, exist_ok=True)
    pending.touch()
    filled = 0
    writers = {
        "overlays": partial(write_overlay, channels=job.image_channels),
        "masks": write_masks,
        "labelme": write_labelme,
    }
    for name, writer in writers.items():
        if name in job.outputs:
            writer(prediction, image, job.folder / name)
    if "yolo" in job.outputs:
        filled = write_yolo(prediction, image, job.folder / "yolo", job.classes)
    write_json(record, {"image": _identity(image), **dataclasses.asdict(prediction)})
    pending.unlink()
    return filled


def _check_writable(prediction: ImagePrediction, image: str, job: PredictionJob, record: Path, pending: Path) -> None:
    """
    Refuse to replace files that this prediction did not write, or that were edited since.

    The files of an image are older than its record. Files without a record belong to a killed process if its pending
    marker exists.

    Raises:
        `ValueError`: If there is such a file; names it.
    """
    if pending.exists():
        return
    written = record.stat().st_mtime_ns if record.is_file() else -1
    for file in _list_outputs(prediction, image, job):
        is_link = file.exists() and os.path.samefile(file, image)  # the YOLO output links the source image
        if file.exists() and not is_link and file.stat().st_mtime_ns > written:
            raise ValueError(
                f"`predictions_dir`: {file} was not written by this prediction, or was edited since. Move it away, or "
                "choose another `predictions_dir`"
            )


def _list_outputs(prediction: ImagePrediction, image: str, job: PredictionJob) -> list[Path]:
    folder, name = job.folder, prediction.name
    mask_names = derive_phrase_file_names(list(prediction.detections)).values()
    files = {
        "overlays": [folder / "overlays" / f"{name}.jpg"],
        "labelme": [folder / "labelme" / f"{name}.json"],
        "masks": [folder / "masks" / name / f"{phrase}.png" for phrase in mask_names],
        "yolo": [
            folder / "yolo" / "labels" / f"{name}.txt",
            folder / "yolo" / "images" / f"{name}{Path(image).suffix}",
        ],
    }
    return [file for output in job.outputs for file in files.get(output, ())]


def _identity(image: str) -> list:
    """Path, size and modification time of an image: a prediction is repeated if one of them differs."""
    stat = Path(image).stat()
    return [str(Path(image).resolve()), stat.st_size, stat.st_mtime_ns]


def _read_prediction(records: Path, name: str, image: str) -> ImagePrediction | None:
    """Read the recorded prediction of an image; `None` if there is none of this file."""
    file = records / f"{name}.json"
    if not file.is_file():
        return None
    content = read_json_file(file, "predictions_dir", remedy="Delete it; the image is then predicted again")
    keys = {"image", *(field.name for field in dataclasses.fields(ImagePrediction))}
    if not isinstance(content, dict) or set(content) != keys:
        raise ValueError(
            f"`predictions_dir`: {file} is no record of a prediction, so this command did not write it. Move it "
            "away, or choose another `predictions_dir`"
        )
    return ImagePrediction(**content) if content.pop("image", None) == _identity(image) else None


def _write_shared(job: PredictionJob, records: Path, owned: OwnedFiles) -> list[str]:
    """Write the files that cover all images; return one line per phrase with its number of detections."""
    phrases = job.classes
    counts: dict[str, list[int]] = {}
    names = []
    for prediction in _read_predictions(records, job.files):
        names.append(prediction.name)
        for phrase, detections in prediction.detections.items():
            counts.setdefault(phrase, []).append(len(detections))
    if "yolo" in job.outputs and names:
        write_yolo_names(owned, phrases)
    if "coco" in job.outputs and names:
        files = {name: job.files[name] for name in names}
        write_coco(_read_predictions(records, files), files, phrases, owned)
    return [
        f"{phrase}: {sum(numbers)} in {sum(map(bool, numbers))} of {len(numbers)} images"
        for phrase in phrases
        if (numbers := counts.get(phrase, []))
    ]


def _read_predictions(records: Path, files: dict[str, str]) -> Iterator[ImagePrediction]:
    for name, image in files.items():
        prediction = _read_prediction(records, name, image)
        if prediction is not None:
            yield prediction
