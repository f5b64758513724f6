"""Features of frozen encoders, computed once before training: ViT features on disk, text features in memory."""

import functools
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset
from transformers import TrainingArguments

from ..data.samples.collators import PLACEHOLDER, tokenize_phrases
from ..data.samples.feature_store import FeatureStore, check_is_cache, fingerprint_of, rows_fingerprint
from ..data.samples.views import EvaluationViews, TrainingViews
from ..models.families import get_resolution
from ..models.offloading import OffloadingModel
from ..models.sam3.model import Sam3ForConceptSegmentation
from ..utils.console import NOTE
from ..utils.processes import ProcessGroup
from ..utils.ray_actors import choose_items_per_task, connect, import_ray, map_items


logger = logging.getLogger("sam_ft.run")

TEXT_PARTS = ("text_encoder", "text_projection")
STORED_DTYPE = torch.bfloat16
_TEXT_BATCH_SIZE = 64


def cache_images(
    model: OffloadingModel,
    samples: dict[str, TrainingViews | EvaluationViews],
    folder: str | Path,
    args: TrainingArguments,
    *,
    views: int = 1,
    on_ray: bool = False,
) -> None:
    """
    Encode all images once, store the features in bfloat16 below `folder`, and offload the image encoder.

    The samples then read the stored features. Existing features are not computed again; processes share the work.

    Args:
        model (`OffloadingModel`): SAM 3 or SAM 2 with a frozen image encoder without adapters.
        samples (`dict[str, TrainingViews | EvaluationViews]`): Samples by the name of their sub-folder.
        folder (`str` or `Path`): Folder of the cache.
        args (`TrainingArguments`): Device, processes and precision.
        views (`int`): Number of augmented views of each training image; epoch e uses view `e % views`.
        on_ray (`bool`): Compute the features in actors of a Ray cluster that share the folder, `False` by default.

    Raises:
        ValueError: If the encoder is trained, the folder contains features of other data, views or weights, or the
            disk is too small.
    """
    folder = Path(folder)
    check_frozen_encoder(model)
    if folder.resolve().is_relative_to(Path(args.output_dir).resolve()):
        raise ValueError(
            f"`feature_cache` is {folder}, inside `output_dir` ({args.output_dir}), which a run with other settings "
            "may replace. Choose a folder outside `output_dir`"
        )
    weights = _compute_weights_fingerprint(model)
    group = ProcessGroup(args.process_index, args.world_size, args.local_process_index)
    with args.main_process_first(desc="feature cache"):
        check_is_cache(folder)
    for name, part in samples.items():
        number = views if isinstance(part, TrainingViews) else 1
        rows = part.rows.remove_columns("image")  # Decoding the images would be slow.
        fingerprint = {
            "weights": weights,
            "resolution": str(get_resolution(model.config)),
            "images": rows_fingerprint(part.rows),
            "views": fingerprint_of(part.describe_view(row, view) for row in rows for view in range(number)),
        }
        with args.main_process_first(desc="feature cache"):
            store = FeatureStore(folder / name, fingerprint, number)
        ids = rows["example_id"][:]
        fill = _fill_on_ray if on_ray else _fill
        group.run(lambda: fill(store, part, ids, model, args))  # noqa: B023 (called at once)
        if store.missing(ids):
            raise ValueError(
                f"`feature_cache`: {folder} is not the same folder for all processes. Choose one on a disk that all "
                "nodes share"
            )
        part.use(store)
    model.offload(*model.offloaded_when_cached)


def _compute_weights_fingerprint(model: OffloadingModel) -> str:
    return fingerprint_of(
        part
        for name, tensor in model.state_dict().items()
        if name.startswith(model.cached_from)
        for part in (name, tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    )


def check_frozen_encoder(model: OffloadingModel) -> None:
    """Raise `ValueError` if the image encoder is trained, so that its features cannot be cached."""
    if any(p.requires_grad for n, p in model.named_parameters() if n.startswith(model.cached_from)):
        raise ValueError("`feature_cache` needs a frozen image encoder. Add vision_encoder to `freeze`")


class _Views(Dataset):
    """Images of (index, view) keys, as a data set whose workers decode them while the device computes."""

    def __init__(self, samples: TrainingViews | EvaluationViews, keys: list[tuple[int, int]]):
        self.samples, self.keys = samples, keys

    def __len__(self):
        return len(self.keys)

    def __getitem__(self, number: int) -> tuple[int, int, torch.Tensor]:
        return *self.keys[number], self.samples.view(*self.keys[number])


def _fill(store: FeatureStore, samples, ids: list[str], model: OffloadingModel, args) -> None:
    total = len(ids) * store.views
    # The share of each process does not depend on the features that other processes have written so far.
    missing = [
        item
        for item in store.missing(ids)
        if (item[0] * store.views + item[1]) % args.world_size == args.process_index
    ]
    loader = DataLoader(
        _Views(samples, missing), batch_size=None, num_workers=args.dataloader_num_workers if missing else 0
    )
    for name in model.offloaded_when_cached if missing else ():  # A complete cache needs no encoder on the device.
        model.get_submodule(name).to(args.device).eval()
    for done, (index, view, image) in enumerate(loader):
        features = _encode(model, image, args.device, args.uses_bf16())
        if done == 0:
            _check_space(store.folder, features.nbytes, len(missing) * args.world_size)
            _log_missing(store, len(missing), total, features.nbytes)
        store.write(ids[index], view, features)
    if not missing:
        _log_missing(store, 0, total, 0)


def _log_missing(store: FeatureStore, missing: int, total: int, num_bytes: int) -> None:
    work = f"{missing} of {total} views to compute, {num_bytes / 1e6:.1f} MB each"
    logger.log(NOTE, "feature cache    %s: %s", store.folder, work if missing else f"all {total} views are stored")


@torch.no_grad()
def _encode(model: OffloadingModel, image: torch.Tensor, device: torch.device, bf16: bool) -> torch.Tensor:
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        return model.encode_images(image[None].to(device))[0].to(STORED_DTYPE)


class _EncodingWorker:
    """
    Image encoder in an actor, which writes the features of `(index, view)` items.

    Args:
        model (`ray.ObjectRef`): Reference of the model in the cluster.
        samples (`TrainingViews` or `EvaluationViews`): Samples.
        store (`FeatureStore`): Store on a disk that all machines share.
        ids (`list[str]`): Example ids.
        device (`str`): Device type; an actor with a GPU uses its own.
        bf16 (`bool`): Whether to encode under bfloat16 autocast.
    """

    def __init__(self, model, samples, store: FeatureStore, ids: list[str], device: str, bf16: bool):
        self.model, self.device, self.bf16 = import_ray().get(model), torch.device(device), bf16
        self.samples, self.store, self.ids = samples, store, ids
        for name in self.model.offloaded_when_cached:
            self.model.get_submodule(name).to(self.device).eval()

    def __call__(self, keys: list[tuple[int, int]]) -> Iterator[int]:
        """Yield the size of each item's features in bytes."""
        for index, view in keys:
            features = _encode(self.model, self.samples.view(index, view), self.device, self.bf16)
            self.store.write(self.ids[index], view, features)
            yield features.nbytes


def _fill_on_ray(store: FeatureStore, samples, ids: list[str], model: OffloadingModel, args) -> None:
    missing = store.missing(ids)
    if not missing:
        _log_missing(store, 0, len(ids) * store.views, 0)
        return
    if args.world_size > 1:
        raise ValueError(
            "`cache_engine: ray` starts its own processes, but this run has several. Compute the features in a run of "
            "one process first, with the same `feature_cache`"
        )
    device = args.device.type
    with connect(device=device, object_store_bytes=None) as pool:
        model_ref = import_ray().put(model)
        make_worker = functools.partial(_EncodingWorker, model_ref, samples, store, ids, device, args.uses_bf16())
        sizes = map_items(enumerate(missing), make_worker, pool, choose_items_per_task(len(missing), 1, pool))
        for number, num_bytes in sizes:
            if number == 0:
                _check_space(store.folder, num_bytes, len(missing))
                _log_missing(store, len(missing), len(ids) * store.views, num_bytes)


def _check_space(folder: Path, size: int, number: int) -> None:
    free, needed = shutil.disk_usage(folder).free, size * number
    if needed > free:
        raise ValueError(
            f"`feature_cache`: {number} views of {size / 1e6:.1f} MB need {needed / 1e9:.1f} GB, but {folder} has "
            f"{free / 1e9:.1f} GB free. Choose a folder on a larger disk, fewer `cache_views`, or a lower `resolution`"
        )


@torch.no_grad()
def cache_texts(
    model: Sam3ForConceptSegmentation, tokenizer, texts: list[str], args: TrainingArguments
) -> dict[str, torch.Tensor]:
    """
    Encode all phrases once and offload the text encoder.

    Args:
        model (`Sam3ForConceptSegmentation`): SAM 3 with a frozen text encoder.
        tokenizer (`PreTrainedTokenizerBase`): Tokenizer of the phrases.
        texts (`list[str]`): Phrases; duplicates are encoded once.
        args (`TrainingArguments`): Device and precision.

    Returns:
        `dict[str, torch.Tensor]`: Text features of shape `(32, C)` by phrase, on the CPU.

    Raises:
        ValueError: If the text encoder is trained.
    """
    if any(p.requires_grad for name in TEXT_PARTS for p in model.get_submodule(name).parameters()):
        raise ValueError("`cache_text` needs a frozen text encoder. Add text_encoder to `freeze`")
    for name in TEXT_PARTS:
        model.get_submodule(name).to(args.device).eval()
    texts, features = [*dict.fromkeys([*texts, PLACEHOLDER])], {}
    for begin in range(0, len(texts), _TEXT_BATCH_SIZE):
        chunk = texts[begin : begin + _TEXT_BATCH_SIZE]
        tokens = tokenize_phrases(tokenizer, chunk).to(args.device)
        with torch.autocast(args.device.type, torch.bfloat16, enabled=args.uses_bf16()):
            encoded = model.encode_texts(tokens["input_ids"], tokens["attention_mask"])
        features |= dict(zip(chunk, encoded.cpu(), strict=True))
    model.offload(*TEXT_PARTS)
    return features
