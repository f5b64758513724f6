"""Prediction over a data set of Ray Data: images in, one row a detection out, streamed through actors."""

import contextlib
import hashlib
import itertools
import os
import pickle
from collections.abc import Iterator, Sequence

import datasets
import fsspec
import numpy as np
import pyarrow as pa
from PIL import Image

from ..data.detection_tables import TABLES
from ..options.prediction import PredictOptions
from ..utils.ray_actors import MAX_PER_TASK, choose_actors, import_ray
from .image_sources import find_images
from .parquet_output import describe_detection
from .phrases import check_phrases
from .predictor import ImagePrediction
from .sam3_predictor import Sam3Predictor
from .tiling import Views, cut_views, open_trusted_image


IMAGE_COLUMNS = ("image", "bytes", "jpg", "jpeg", "png", "webp")  # the first one that a data set has is read
NAME_COLUMNS = ("path", "__key__")  # names of the images
_ENTRY = "image_entry"  # pickled entries of images that are found by `find_images`
_ROWS_PER_BLOCK = 16  # of a data set of `datasets`
_LEFT_OUT = ("image_id", "predicted_iou")  # columns that need all images in one order, or that only SAM 2 has
SCHEMA = pa.schema([column for column in TABLES["detections"] if column.name not in _LEFT_OUT])


def predict(
    dataset,
    model: str,
    phrases: Sequence[str],
    *,
    options: PredictOptions | None = None,
    actors: int | None = None,
    gpus_per_actor: float | None = None,
    batch_size: int = 16,
    **loading,
):
    """
    Predict every instance of phrases in a data set of images with SAM 3, in actors that hold the model.

    Nothing runs before the result is consumed. Images and detections are streamed: Ray Data bounds their memory, and
    repeats the work of actors that end. This process is connected to a local Ray cluster unless it is connected to
    one already.

    Args:
        dataset (`ray.data.Dataset`, `datasets.Dataset`, `datasets.IterableDataset` or `list[str]`): Data set with an
            image column `image`, `bytes`, `jpg`, `jpeg`, `png` or `webp`, whose values are the content of an image
            file, a path or URL, a Hub image, or pixels `(H, W)` or `(H, W, C)`; or files, folders, globs, tar and
            parquet files and Hub data sets, as of `--images`.
        model (`str`): Folder or Hub id of a model or an adapter. Each machine of the cluster must be able to load it.
        phrases (`Sequence[str]`): Noun phrases.
        options (`PredictOptions`, *optional*): Thresholds and tiling; the defaults if not given.
        actors (`int`, *optional*): Number of actors. Default: as many as the GPUs of the cluster allow, or a quarter
            of its CPUs if it has no GPU.
        gpus_per_actor (`float`, *optional*): GPUs of each actor, such as 0.5 for two actors on a GPU. Default: 1, or
            0 if the cluster has no GPU.
        batch_size (`int`): Number of images that an actor receives at once, 16 by default; `options.views_per_batch`
            sets how many of them are predicted in one forward pass.
        loading: Fields of [`ModelOptions`], such as `dtype="bfloat16"`.

    Returns:
        `ray.data.Dataset`: One row a detection with the columns of the table `detections` of the parquet output
            except `image_id` and `predicted_iou`. `image` is the value of the column `path` or `__key__`, or the path
            of a Hub image; without them, a digest of the image.

    Raises:
        `ImportError`: If Ray is not installed.
        `ValueError`: If a phrase is empty, or `dataset` contains no image. An image that cannot be read ends the
            execution, unless `max_errored_blocks` of Ray's `DataContext` allows it.

    Examples:
        >>> images = ray.data.read_images("s3://bucket/photos", include_paths=True)
        >>> detections = predict(images, "out/mine", ["pothole", "manhole cover"])
        >>> detections.write_parquet("s3://bucket/detections")
    """
    ray = import_ray()
    texts = check_phrases(list(phrases) if not isinstance(phrases, str) else phrases)
    if not texts:
        raise ValueError("`phrases` is empty. Give at least one noun phrase")
    if not ray.is_initialized():
        ray.init()
    nodes = [node["Resources"] for node in ray.nodes()]
    pool = choose_actors(
        ray.cluster_resources(), nodes, actors, None if gpus_per_actor != 0 else "cpu", reserved_cpus=1
    )
    num_gpus = pool.num_gpus if gpus_per_actor is None else gpus_per_actor
    count = pool.count if actors or not num_gpus else max(int(pool.count / num_gpus), 1)
    return _to_ray(ray, dataset).map_batches(
        _DetectionActor,
        fn_constructor_args=(os.getcwd(), model, texts, options, loading),
        batch_size=batch_size,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=count),
        num_cpus=pool.num_cpus,
        num_gpus=num_gpus,
    )


def _to_ray(ray, dataset):
    """Convert the data set of [`predict`] to one of Ray."""
    if isinstance(dataset, datasets.Dataset | datasets.IterableDataset):
        return _from_hub_dataset(ray, dataset)
    if isinstance(dataset, str):
        raise ValueError(f"`dataset` is the string {dataset!r}; give a list, [{dataset!r}]")
    if not isinstance(dataset, Sequence):
        return dataset
    images, blocks = iter(find_images(list(dataset), argument="dataset")), []
    while entries := list(itertools.islice(images, MAX_PER_TASK)):
        blocks.append(ray.put(pa.table({_ENTRY: [pickle.dumps(entry) for entry in entries]})))
    return ray.data.from_arrow_refs(blocks)


def _from_hub_dataset(ray, dataset):
    """Convert a data set of `datasets`; `from_huggingface` would read a streamed one without its filters."""
    is_table = isinstance(dataset, datasets.Dataset)
    num_shards = -(-len(dataset) // MAX_PER_TASK) or 1 if is_table else dataset.num_shards
    shards = ray.data.from_items(list(range(num_shards)), override_num_blocks=num_shards)
    shard_args = {"dataset": dataset, "num_shards": num_shards}
    return shards.map_batches(_read_shards, batch_size=1, batch_format="numpy", fn_kwargs=shard_args)


def _read_shards(batch: dict[str, np.ndarray], dataset, num_shards: int) -> Iterator[pa.Table]:
    for index in batch["item"].tolist():
        shard = dataset.shard(num_shards=num_shards, index=index)
        for rows in shard.with_format("arrow").iter(batch_size=_ROWS_PER_BLOCK):
            yield rows if isinstance(rows, pa.Table) else pa.table(rows)


class _DetectionActor:
    """Actor that predicts batches of rows; see [`predict`] for the arguments."""

    def __init__(self, folder: str, model: str, phrases: list[str], options: PredictOptions | None, loading: dict):
        with contextlib.suppress(OSError):  # other machines need not have it, for images in an object store
            os.chdir(folder)
        self.predictor = Sam3Predictor.from_pretrained(model, options=options, **loading)
        self.phrases = phrases

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        names, views = [], []
        for number, (name, image) in enumerate(_read_rows(batch)):
            names.append(name)
            views.append(self._cut(image, str(number), name))  # Names may occur several times.
        rows = []
        for name, prediction in zip(names, self.predictor.predict(views, self.phrases), strict=True):
            rows += self._describe(name, prediction)
        return pa.Table.from_pylist(rows, schema=SCHEMA)

    def _cut(self, image, key: str, name: str) -> Views:
        try:
            opened = _open_image(image)
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"the image {name} cannot be read ({error})") from error
        return cut_views(opened, key, self.predictor.resolution, *self.predictor.tiling)

    def _describe(self, name: str, prediction: ImagePrediction) -> list[dict]:
        common = {"image": name, "height": prediction.height, "width": prediction.width}
        return [
            common | describe_detection(phrase, number, detection)
            for number, phrase in enumerate(self.phrases, 1)
            for detection in prediction.detections.get(phrase, [])
        ]


def _read_rows(batch: dict[str, np.ndarray]) -> Iterator[tuple[str, object]]:
    """Yield name and image of each row."""
    if _ENTRY in batch:
        for content in batch[_ENTRY]:
            entry = pickle.loads(content)
            yield entry.name, entry.load()
        return
    column = next((name for name in IMAGE_COLUMNS if name in batch), None)
    if column is None:
        raise ValueError(
            f"the data set has the columns {', '.join(batch)}, of which none is an image column. Rename the column of "
            f"the images to `{IMAGE_COLUMNS[0]}` by `rename_columns`"
        )
    names = next((batch[name] for name in NAME_COLUMNS if name in batch), [None] * len(batch[column]))
    for name, image in zip(names, batch[column], strict=True):
        yield str(name or _derive_name(image)), image


def _derive_name(image) -> str:
    """Return the path of an image, or a digest of its content."""
    if isinstance(image, str):
        return image
    if isinstance(image, dict):
        return image.get("path") or _derive_name(image["bytes"])
    content = image if isinstance(image, bytes) else np.asarray(image).tobytes()
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _open_image(image) -> Image.Image:
    """Open a value of an image column."""
    if isinstance(image, dict):
        image = image.get("bytes") or image.get("path")
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, np.ndarray):
        return Image.fromarray(image.squeeze(-1) if image.ndim == 3 and image.shape[-1] == 1 else image)
    if isinstance(image, str) and "://" in image:
        with fsspec.open(image) as stream:
            image = stream.read()
    return open_trusted_image(image)
