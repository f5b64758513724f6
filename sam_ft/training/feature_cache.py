"""What frozen encoders say of images and phrases, computed once before training."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate.utils import gather_object
from torch.utils.data import DataLoader, Dataset
from transformers import TrainingArguments

from ..data.samples.collators import PLACEHOLDER, TEXT_LENGTH
from ..data.samples.feature_store import FeatureStore, check_is_cache, fingerprint_of, rows_fingerprint
from ..data.samples.pipeline import EvaluationSamples, TrainingSamples
from ..models.offloading import ParkingModel
from ..models.sam3.config import side_of
from ..models.sam3.model import Sam3ForConceptSegmentation


logger = logging.getLogger("sam_ft.run")

TEXT = ("text_encoder", "text_projection")
STORED = torch.bfloat16
_TEXTS_AT_ONCE = 64


def cache_images(
    model: ParkingModel,
    samples: dict[str, TrainingSamples | EvaluationSamples],
    folder: str | Path,
    args: TrainingArguments,
    *,
    views: int = 1,
) -> None:
    """
    Computes what the frozen image encoder says of every image, stores it in bfloat16 under `folder/NAME`, lets the samples read it
    back, and parks the encoder. What is there already is not computed again; processes share the work.

    Args:
        model (`ParkingModel`): SAM 3 or SAM 2 without gradients or adapters in what its `encode_images` is made of.
        samples (`dict[str, TrainingSamples | EvaluationSamples]`): by the name of their sub-folder.
        folder (`str` or `Path`).
        args (`TrainingArguments`): device, processes, precision.
        views (`int`): augmented views of each training image; epoch e sees view `e % views`.

    Raises:
        `ValueError`: where the encoder is trained, where the folder is of other data, views or weights, and where the disk is
            too small; says how much is needed.
    """
    folder = Path(folder)
    if any(p.requires_grad for n, p in model.named_parameters() if n.startswith(model.cached_from)):
        raise ValueError("`feature_cache` needs an image encoder that is not trained: add vision_encoder to `freeze`")
    if folder.resolve().is_relative_to(Path(args.output_dir).resolve()):
        raise ValueError(
            f"`feature_cache` is {folder}, inside `output_dir` ({args.output_dir}), which a run with other settings may replace. "
            "Choose a folder of its own"
        )
    weights = fingerprint_of(
        part
        for name, tensor in model.state_dict().items()
        if name.startswith(model.cached_from)
        for part in (name, tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    )
    with args.main_process_first(desc="feature cache"):
        check_is_cache(folder)
    for name, part in samples.items():
        number = views if isinstance(part, TrainingSamples) else 1
        light = part.rows.remove_columns("image")
        fingerprint = {
            "weights": weights,
            "resolution": str(side_of(model.config)),
            "images": rows_fingerprint(part.rows),
            "views": fingerprint_of(part.describe_view(row, view) for row in light for view in range(number)),
        }
        with args.main_process_first(desc="feature cache"):
            store = FeatureStore(folder / name, fingerprint, number)
        _together(lambda: _fill(store, part, light["example_id"], model, args))  # noqa: B023 (called at once)
        if store.missing(light["example_id"]):
            raise ValueError(
                f"`feature_cache`: {folder} is not one folder for all processes. Choose one that all nodes share"
            )
        part.use(store)
    model.park(*model.parked_when_cached)


def _together(work: Callable[[], None]) -> None:
    """Does each process's share; where one fails all do, so that none waits for it."""
    problem = None
    try:
        work()
    except ValueError as error:
        problem = str(error)
    problems = [text for text in gather_object([problem]) if text]
    if problems:
        raise ValueError(problems[0])


class _Views(Dataset):
    """Pictures of (index, view), so that they are decoded while the device works."""

    def __init__(self, samples: TrainingSamples | EvaluationSamples, wanted: list[tuple[int, int]]):
        self.samples, self.wanted = samples, wanted

    def __len__(self):
        return len(self.wanted)

    def __getitem__(self, number: int) -> tuple[int, int, torch.Tensor]:
        return *self.wanted[number], self.samples.view(*self.wanted[number])


def _fill(store: FeatureStore, samples, ids: list[str], model: ParkingModel, args) -> None:
    total = len(ids) * store.views
    # each process's share is fixed, whatever the others have written by now
    missing = [
        item
        for item in store.missing(ids)
        if (item[0] * store.views + item[1]) % args.world_size == args.process_index
    ]
    loader = DataLoader(
        _Views(samples, missing), batch_size=None, num_workers=args.dataloader_num_workers if missing else 0
    )
    for name in model.parked_when_cached if missing else ():  # else they never go to the device
        model.get_submodule(name).to(args.device).eval()
    for done, (index, view, image) in enumerate(loader):
        features = _encode(model, image, args)
        if done == 0:
            _check_space(store.folder, features.nbytes, len(missing) * args.world_size)
            size = features.nbytes / 1e6
            logger.info("  %s: %d of %d views to compute, %.1f MB each", store.folder, len(missing), total, size)
        store.write(ids[index], view, features)
    if not missing:
        logger.info("  %s: all %d views are there", store.folder, total)


@torch.no_grad()
def _encode(model: ParkingModel, image: torch.Tensor, args) -> torch.Tensor:
    with torch.autocast(args.device.type, torch.bfloat16, enabled=args.uses_bf16()):
        return model.encode_images(image[None].to(args.device))[0].to(STORED)


def _check_space(folder: Path, size: int, number: int) -> None:
    free, needed = shutil.disk_usage(folder).free, size * number
    if needed > free:
        raise ValueError(
            f"`feature_cache`: {number} views of {size / 1e6:.1f} MB need {needed / 1e9:.1f} GB, but {folder} has {free / 1e9:.1f} "
            "GB left. Choose a folder on a larger disk, fewer `cache_views`, or a lower `resolution`"
        )


@torch.no_grad()
def cache_texts(
    model: Sam3ForConceptSegmentation, tokenizer, texts: list[str], args: TrainingArguments
) -> dict[str, torch.Tensor]:
    """
    What the frozen text tower says of every phrase, `(32, C)` each, held in memory; parks the tower.

    Raises:
        `ValueError`: where the tower is trained.
    """
    if any(p.requires_grad for name in TEXT for p in model.get_submodule(name).parameters()):
        raise ValueError("`cache_text` needs a text tower that is not trained: add text_encoder to `freeze`")
    for name in TEXT:
        model.get_submodule(name).to(args.device).eval()
    texts, features = [*dict.fromkeys([*texts, PLACEHOLDER])], {}
    for begin in range(0, len(texts), _TEXTS_AT_ONCE):
        chunk = texts[begin : begin + _TEXTS_AT_ONCE]
        tokens = tokenizer(
            chunk, padding="max_length", max_length=TEXT_LENGTH, truncation=True, return_tensors="pt"
        ).to(args.device)
        with torch.autocast(args.device.type, torch.bfloat16, enabled=args.uses_bf16()):
            answers = model.encode_texts(tokens["input_ids"], tokens["attention_mask"])
        features |= dict(zip(chunk, answers.cpu(), strict=True))
    model.park(*TEXT)
    return features
