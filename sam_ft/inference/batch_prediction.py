"""Predictions over files: in batches, with a bar, and going on where a killed run stopped."""

import dataclasses
import glob
import json
import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from torch.utils.data import DataLoader
from tqdm import tqdm

from ..data.readers.files import image_suffixes, images_in
from ..utils.json_files import read_json_file, write_json
from ..utils.output_folders import FolderKind, claim_settings, is_claimed, lock_folder
from ..utils.owned_files import OwnedFiles
from .output_writers import (
    file_names,
    write_coco,
    write_labelme,
    write_masks,
    write_overlay,
    write_yolo,
    write_yolo_names,
)  # fmt: skip
from .prompt_files import ObjectPrompt
from .sam3_predictor import VISUAL, Exemplars, ImagePrediction, Predictor, check_phrases
from .tiling import FileViews, Views


logger = logging.getLogger("sam_ft.run")

OUTPUTS = ("coco", "labelme", "yolo", "overlays", "masks")
PREDICTIONS = FolderKind(
    "predictions_dir", "predict.yaml", "prediction", "delete this one, to predict with the new settings"
)
_SHARED_FILES = ("coco.json", "results.json", "yolo/data.yaml")  # of all images together
_DONE = "predictions"  # one file an image; what is there is not predicted again


@dataclass
class PredictionJob:
    """
    Attributes:
        files (`dict[str, str]`): name -> image file; see [`find_images`]. phrases (`list[str]`). folder (`Path`): written to.
        outputs (`list[str]`): of `OUTPUTS`. prompts (`dict[str, Exemplars | list[ObjectPrompt]]`): name -> what is shown of the
            image: SAM 3's exemplar boxes, SAM 2's prompts. workers (`int`): processes that load images.
        skip_bad (`bool`): leave out what cannot be read, and list it at the end.
        settings (`dict`): of the model, so that a folder holds the answers of one.
    """

    files: dict[str, str]
    phrases: list[str]
    folder: Path
    outputs: list[str]
    prompts: dict[str, Exemplars | list[ObjectPrompt]] = field(default_factory=dict)
    workers: int = 0
    skip_bad: bool = False
    settings: dict = field(default_factory=dict)

    def __post_init__(self):
        self.phrases = check_phrases(self.phrases)
        unknown = [name for name in self.outputs if name not in OUTPUTS]
        if unknown:
            raise ValueError(f"`outputs` has no {unknown[0]!r}; choose from {', '.join(OUTPUTS)}")
        stray = next((name for name in self.prompts if name not in self.files), None)
        if stray is not None:
            raise ValueError(
                f"prompts are given for the image {stray!r}, which is not asked; asked are {', '.join(list(self.files)[:3])}, …"
            )
        if not self.phrases and not self.prompts:
            raise ValueError("there is nothing to ask; give phrases (SAM 3), or boxes and clicks")
        if not self.phrases:  # of the others nothing is asked: they are not even opened
            self.files = {name: file for name, file in self.files.items() if name in self.prompts}

    @property
    def classes(self) -> list[str]:
        """What answers are filed under, in one order for all images: the phrases, or the labels of prompts."""
        if self.phrases:
            return list(self.phrases)
        labels = [one.label for prompts in self.prompts.values() if isinstance(prompts, list) for one in prompts]
        return list(dict.fromkeys(labels)) or [VISUAL]


def find_images(given: list[str], output_dir: Path | None = None) -> dict[str, str]:
    """
    Image files by a name of their own: the path below what they have in common, without its suffix.

    Args:
        given (`list[str]`): Files, folders (all images below them) and globs.
        output_dir (`Path`, *optional*): Folder of predictions; what an earlier call wrote below it is left out.

    Raises:
        `ValueError`: where one is not there, or holds no image.
    """
    files: list[str] = []
    for entry in given:
        if Path(entry).is_dir():
            found = [str(file) for file in images_in(Path(entry))]
        elif Path(entry).is_file():
            found = [entry]
        else:
            suffixes = image_suffixes()
            matched = sorted(glob.glob(entry, recursive=True))
            found = [file for file in matched if Path(file).suffix.lower() in suffixes and Path(file).is_file()]
        if not found:
            kind = (
                "the folder holds no image"
                if Path(entry).is_dir()
                else "there is no such file or folder, and no image matches"
            )
            raise ValueError(f"`images`: {entry!r}: {kind}")
        files += found
    files = list({Path(file).resolve(): file for file in files}.values())  # one that is named twice is asked once
    if output_dir is not None and is_claimed(output_dir, PREDICTIONS):
        own = [file for file in files if Path(file).resolve().is_relative_to(output_dir.resolve())]
        if own:
            logger.info("%d images below `predictions_dir` (%s) are left out", len(own), output_dir)
        if own and len(own) == len(files):
            raise ValueError(
                f"`images`: all {len(own)} of them lie below `predictions_dir`, {output_dir}. Name others"
            )
        files = [file for file in files if file not in set(own)]
    if not files:
        raise ValueError("`images`: give files, folders or globs, such as `--images photos/ more/*.jpg`")
    root = os.path.commonpath([Path(file).resolve().parent for file in files])
    below = [Path(file).resolve().relative_to(root) for file in files]
    stems = Counter(path.with_suffix("").as_posix() for path in below)
    named: dict[str, str] = {}
    for path, file in zip(below, files, strict=True):
        stem = path.with_suffix("").as_posix()
        name = stem if stems[stem] == 1 else path.as_posix()  # a.jpg beside a.png
        while name in named:
            name += "_"
        named[name] = file
    return named


def run_job(predictor: Predictor, job: PredictionJob) -> list[str]:
    """
    Predicts what is not there yet and writes it.

    Returns:
        `list[str]`: what there is to say of it.

    Raises:
        `ValueError`: on an image that cannot be read, unless told to skip it; where the folder holds answers to other questions.
    """
    settings = {
        "phrases": job.phrases,
        "outputs": sorted(job.outputs),
        "exemplars": {name: _plain(one) for name, one in job.prompts.items()},
        **dataclasses.asdict(predictor.options),
        **job.settings,
    }
    free = {"views_per_batch"}  # changes speed, no result
    done = job.folder / _DONE
    with lock_folder(job.folder, PREDICTIONS):
        claim_settings(
            job.folder,
            PREDICTIONS,
            json.loads(json.dumps({key: value for key, value in settings.items() if key not in free})),
            has_results=done.is_dir() and any(done.rglob("*.json")),
        )
        owned = OwnedFiles(job.folder, "prediction")
        owned.check_free(_SHARED_FILES, PREDICTIONS.argument)
        return _predict_missing(predictor, job, owned)


def _predict_missing(predictor: Predictor, job: PredictionJob, owned: OwnedFiles) -> list[str]:
    done = job.folder / _DONE
    left = {name: file for name, file in job.files.items() if _answer(done, name, file) is None}
    if len(left) < len(job.files):
        logger.info("%d of %d images were answered before; going on", len(job.files) - len(left), len(job.files))
    problems, filled = [], 0
    with tqdm(total=len(job.files), initial=len(job.files) - len(left), unit="image", disable=None) as bar:
        for views in _batches(predictor, left, job.workers):
            bad = [one for one in views if one.problem]
            if bad and not job.skip_bad:
                raise ValueError(f"{bad[0].problem}. Copy it again, or `--on_bad_images skip` to leave such files out")
            problems += [f"{left[one.name]}: {one.problem}" for one in bad]
            good = [one for one in views if not one.problem]
            for found in predictor.predict(good, job.phrases, job.prompts):
                filled += _write(found, left[found.name], job)
            bar.update(len(views))
    lines = _write_whole(job, done, owned)
    lines += [f"note: {filled} masks have holes, which YOLO cannot say: filled there"] if filled else []
    return lines + [f"left out: {problem}" for problem in problems]


def _plain(prompts: Exemplars | list[ObjectPrompt]):
    return [dataclasses.asdict(one) for one in prompts] if isinstance(prompts, list) else dataclasses.asdict(prompts)


def _batches(predictor: Predictor, files: dict[str, str], workers: int) -> Iterator[list[Views]]:
    options = predictor.options
    views = FileViews(files, predictor.resolution, options.tile_size, options.tile_overlap)
    whole = options.views_per_batch if options.tile_size is None else 1
    yield from DataLoader(views, batch_size=whole, num_workers=min(workers, len(files)), collate_fn=list)


def _write(found: ImagePrediction, image: str, job: PredictionJob) -> int:
    """Write all files of an image; the one that marks it as done comes last."""
    record = job.folder / _DONE / f"{found.name}.json"
    pending = record.with_name(f".{record.stem[-80:]}.pending")
    _check_writable(found, image, job, record, pending)
    record.parent.mkdir(parents=True, exist_ok=True)
    pending.touch()
    filled = 0
    writers = {"overlays": write_overlay, "masks": write_masks, "labelme": write_labelme}
    for name, writer in writers.items():
        if name in job.outputs:
            writer(found, image, job.folder / name)
    if "yolo" in job.outputs:
        filled = write_yolo(found, image, job.folder / "yolo", job.classes)
    write_json(record, {"image": _identity(image), **dataclasses.asdict(found)})
    pending.unlink()
    return filled


def _check_writable(found: ImagePrediction, image: str, job: PredictionJob, record: Path, pending: Path) -> None:
    """
    Refuse to replace files that this prediction did not write, or that were edited since.

    Files of an image are older than its record; without one, a killed process wrote them if its pending mark is there.

    Raises:
        `ValueError`: If there is such a file; names it.
    """
    if pending.exists():
        return
    written = record.stat().st_mtime_ns if record.is_file() else -1
    for file in _files_of(found, image, job):
        is_link = file.exists() and os.path.samefile(file, image)  # a picture of the YOLO output
        if file.exists() and not is_link and file.stat().st_mtime_ns > written:
            raise ValueError(
                f"`predictions_dir`: {file} was not written by this prediction, or was edited since. Move it away, or choose another "
                "`predictions_dir`"
            )


def _files_of(found: ImagePrediction, image: str, job: PredictionJob) -> list[Path]:
    folder, name = job.folder, found.name
    masks = file_names(list(found.detections)).values()
    files = {
        "overlays": [folder / "overlays" / f"{name}.jpg"],
        "labelme": [folder / "labelme" / f"{name}.json"],
        "masks": [folder / "masks" / name / f"{phrase}.png" for phrase in masks],
        "yolo": [
            folder / "yolo" / "labels" / f"{name}.txt",
            folder / "yolo" / "images" / f"{name}{Path(image).suffix}",
        ],
    }
    return [file for output in job.outputs for file in files.get(output, ())]


def _identity(image: str) -> list:
    """Which file an answer is of: another of its name in another folder, or one that was changed, is asked anew."""
    found = Path(image).stat()
    return [str(Path(image).resolve()), found.st_size, found.st_mtime_ns]


def _answer(done: Path, name: str, image: str) -> ImagePrediction | None:
    """What was found in an image; `None` where it was not asked yet."""
    file = done / f"{name}.json"
    if not file.is_file():
        return None
    content = read_json_file(file, "predictions_dir", remedy="Delete it, and the image is predicted again")
    return ImagePrediction(**content) if content.pop("image", None) == _identity(image) else None


def _write_whole(job: PredictionJob, done: Path, owned: OwnedFiles) -> list[str]:
    """Files of all images together, from what is done; how often each phrase was found."""
    phrases = job.classes
    counts: dict[str, list[int]] = {}
    names = []
    for found in _answers(done, job.files):
        names.append(found.name)
        for phrase, listed in found.detections.items():
            counts.setdefault(phrase, []).append(len(listed))
    if "yolo" in job.outputs and names:
        write_yolo_names(owned, phrases)
    if "coco" in job.outputs and names:
        files = {name: job.files[name] for name in names}
        write_coco(_answers(done, files), files, phrases, owned)
    return [
        f"{phrase}: {sum(found)} in {sum(map(bool, found))} of {len(found)} images"
        for phrase in phrases
        if (found := counts.get(phrase, []))
    ]


def _answers(done: Path, files: dict[str, str]) -> Iterator[ImagePrediction]:
    for name, image in files.items():
        found = _answer(done, name, image)
        if found is not None:
            yield found
