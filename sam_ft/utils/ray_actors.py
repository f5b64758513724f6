"""Actors of a Ray cluster that process images or views: connection, resources, and results in order."""

import contextlib
import itertools
import logging
import os
import pickle
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from .errors import describe_error


logger = logging.getLogger("sam_ft.run")

MAX_PER_TASK = 256  # items of a task, which is repeated as a whole if its actor ends
_TASKS_PER_ACTOR = 16  # of a short list, so that all actors end at about the same time
_CPUS_PER_ACTOR = 4  # at most, of a model on CPUs
_SEND_EVERY_S = 1.0  # an actor sends its results together, because each message takes time
_CONNECT_TIMEOUT_S = 5
OBJECT_STORE_BYTES = 200 * 2**20  # of a cluster that is started here; images are not sent through it
_REMEDY = "Start the same command again: it continues"

# Processes items and yields a result for each, in order. Items and results are small and can be pickled.
Worker = Callable[[list], Iterator]


@dataclass(frozen=True)
class ActorPool:
    """
    Number and resources of the actors of a connected cluster.

    Attributes:
        count (`int`): Number of actors.
        num_cpus (`float`): CPUs of each.
        num_gpus (`int`): GPUs of each, 0 or 1.
    """

    count: int
    num_cpus: float
    num_gpus: int

    def __str__(self) -> str:
        resource = "1 GPU" if self.num_gpus else f"{self.num_cpus:g} CPU"
        return f"{self.count} actors with {resource} each"


def import_ray():
    """
    Import Ray with Ray Data.

    Raises:
        `ImportError`: If it is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError(f'Ray ({error}). Run `pip install "sam-ft[ray]"`') from error
    return ray


@contextlib.contextmanager
def connect(
    address: str | None = None,
    num_actors: int | None = None,
    device: str | None = None,
    object_store_bytes: int | None = OBJECT_STORE_BYTES,
) -> Iterator[ActorPool]:
    """
    Connect to a Ray cluster, or use the connection that this process has; leave one that was opened here at the end.

    Args:
        address (`str`, *optional*): Address of the cluster: `host:port` or `auto`. Default: that of the environment
            variable `RAY_ADDRESS`, or else a cluster of this machine that ends with the context.
        num_actors (`int`, *optional*): Number of actors; see [`choose_actors`].
        device (`str`, *optional*): Device of the model; an accelerator by default, if there is one.
        object_store_bytes (`int`, *optional*): Size of the object store of a cluster that is started here; enough for
            small items and results by default, and Ray's default for `None`.

    Returns:
        `Iterator[ActorPool]`: Actors that the cluster is used with.

    Raises:
        `ImportError`: If Ray is not installed.
        `ValueError`: If there is no cluster at the address.
    """
    ray = import_ray()
    is_opened_here = not ray.is_initialized()
    if is_opened_here:
        _open_connection(ray, check_reachable(address), object_store_bytes)
    try:
        pool = choose_actors(ray.cluster_resources(), [node["Resources"] for node in ray.nodes()], num_actors, device)
        logger.info("  Ray %s: %s", ray.__version__, pool)
        yield pool
    finally:
        if is_opened_here:
            ray.shutdown()


def choose_actors(
    total: dict, nodes: list[dict], num_actors: int | None, device: str | None, reserved_cpus: int = 0
) -> ActorPool:
    """
    Choose number and resources of the actors: one GPU each, or up to four CPUs each in a cluster without GPUs.

    Args:
        total (`dict`): Resources of the cluster.
        nodes (`list[dict]`): Resources of its nodes; an actor lies on one node.
        num_actors (`int`, *optional*): Number of actors. Default: number of GPUs, or that of CPUs divided by 4.
        device (`str`, *optional*): Device of the model.
        reserved_cpus (`int`): Number of CPUs that remain for other tasks, 0 by default.

    Returns:
        `ActorPool`: The actors.
    """
    num_gpus, num_cpus = int(total.get("GPU", 0)), total.get("CPU", 0) - reserved_cpus
    if (device or "").startswith("cuda") or (device is None and num_gpus):
        return ActorPool(num_actors or max(num_gpus, 1), 1, 1)
    count = num_actors or max(int(num_cpus // _CPUS_PER_ACTOR), 1)
    smallest = min((node["CPU"] for node in nodes if node.get("CPU", 0) >= 1), default=1)
    share = min(num_cpus / count, smallest, _CPUS_PER_ACTOR)
    return ActorPool(count, int(share) if share >= 1 else 0.5, 0)


def map_items(
    items: Iterable[tuple[int, object]],
    make_worker: Callable[[], Worker],
    pool: ActorPool,
    items_per_task: int = MAX_PER_TASK,
) -> Iterator[tuple[int, object]]:
    """
    Process items, such as entries of images, in the actors of a connected cluster.

    Each actor builds its worker once. Tasks of an actor that ends are repeated. Results wait in the object store of
    the cluster, whose size bounds them, until the caller takes them.

    Args:
        items (`Iterable[tuple[int, object]]`): Index and value of each item; they are read once.
        make_worker (`Callable[[], Worker]`): Picklable function that builds the worker of an actor.
        pool (`ActorPool`): The actors.
        items_per_task (`int`): Number of items that an actor receives at once.

    Returns:
        `Iterator[tuple[int, object]]`: Index and result of each item, in the order of the items.

    Raises:
        `ValueError`: If a worker raises an error that the user can act on, or an actor ends repeatedly.
    """
    ray = import_ray()
    tasks = iter(items)
    blocks = []
    while task := list(itertools.islice(tasks, items_per_task)):
        blocks.append(ray.put(pa.table({"items": [pickle.dumps(task)]})))
    if not blocks:
        return
    dataset = ray.data.from_arrow_refs(blocks)
    dataset.context.execution_options.preserve_order = True
    dataset.context.enable_progress_bars = False
    results = dataset.map_batches(
        _WorkerActor,
        fn_constructor_kwargs={"folder": os.getcwd(), "make_worker": make_worker},
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=min(pool.count, len(blocks))),
        num_cpus=pool.num_cpus,
        num_gpus=pool.num_gpus,
    )
    try:
        for table in results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
            for content in table.column("results").to_pylist():
                finished, problem = pickle.loads(content)
                yield from finished
                if problem is not None:
                    raise ValueError(problem)
    except ray.exceptions.RayTaskError:
        raise  # a defect of the program, whose traceback is needed
    except ray.exceptions.RayError as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"the Ray cluster failed ({reason}). {_REMEDY}") from error


def run_task(function: Callable[[], object], pool: ActorPool) -> object:
    """
    Run a function once in a process with the resources of an actor.

    Args:
        function (`Callable[[], object]`): Picklable function.
        pool (`ActorPool`): The actors.

    Returns:
        The result of the function.
    """
    ray = import_ray()
    return ray.get(ray.remote(num_cpus=pool.num_cpus, num_gpus=pool.num_gpus)(function).remote())


def choose_items_per_task(num_items: int, batch_size: int, pool: ActorPool) -> int:
    """
    Choose the number of items of a task: a multiple of the batch, and several tasks for each actor if possible.

    Args:
        num_items (`int`): Number of items of all tasks.
        batch_size (`int`): Number of items that are processed at once.
        pool (`ActorPool`): The actors.
    """
    share = -(-num_items // (pool.count * _TASKS_PER_ACTOR))
    return max(1, -(-min(share, MAX_PER_TASK) // batch_size)) * batch_size


class _WorkerActor:
    """
    Actor that holds a worker.

    Args:
        folder (`str`): Working folder of the command, to which its paths are relative.
        make_worker (`Callable[[], Worker]`): Function that builds the worker.
    """

    def __init__(self, folder: str, make_worker: Callable[[], Worker]):
        with contextlib.suppress(OSError):  # other machines need not have it, for images in an object store
            os.chdir(folder)
        self._worker: Callable | None = None
        self._problem = None
        try:
            self._worker = make_worker()
        except Exception as error:
            self._problem = _describe(error)

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        for content in table.column("items").to_pylist():
            indices, values = zip(*pickle.loads(content), strict=True)
            finished, sent, problem = [], time.monotonic(), self._problem
            try:
                results = self._worker(list(values)) if problem is None and self._worker is not None else ()
                for index, result in zip(indices, results, strict=problem is None):
                    finished.append((index, result))
                    if time.monotonic() - sent > _SEND_EVERY_S:
                        yield _pack(finished, None)
                        finished, sent = [], time.monotonic()
            except Exception as error:
                problem = _describe(error)
            yield _pack(finished, problem)


def _describe(error: Exception) -> str:
    """Return the line of an error that the user can act on; raise another one."""
    line = describe_error(error)
    if line is None:
        raise error
    return line


def _pack(finished: list, problem: str | None) -> pa.Table:
    """Return a block of one row, because Ray divides blocks of several rows."""
    return pa.table({"results": [pickle.dumps((finished, problem))]})


def _open_connection(ray, address: str, object_store_bytes: int | None) -> None:
    options = {}
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # Errors are raised too, except for a lost cluster.
        options = {"object_store_memory": object_store_bytes, "include_dashboard": False}
    in_main_thread = threading.current_thread() is threading.main_thread()
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        with _without_native_messages():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"`ray_address`: {address} cannot be used ({reason.rstrip('.')}). Check that a cluster of this version of "
            "Ray runs there; if it requires a token, set the environment variable RAY_AUTH_MODE=token"
        ) from error
    finally:
        if in_main_thread and on_terminate is not None:
            signal.signal(signal.SIGTERM, on_terminate)  # Ray replaces it.
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):  # of the console; the others write Ray's own files
            handler.setLevel(logging.ERROR)


def check_reachable(address: str | None) -> str:
    """
    Check that something listens at an address: Ray itself waits for minutes, and then ends the process.

    Args:
        address (`str`, *optional*): Address of a cluster; see [`connect`].

    Returns:
        `str`: The address that is used; `local` for a cluster that is started for this process.

    Raises:
        `ValueError`: If nothing listens there, or the address is not valid.
    """
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address in ("local", "auto"):
        return address
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(
            f"`ray_address` must be HOST:PORT of the head of a Ray cluster, or auto for the cluster of this machine, "
            f"got {address!r}"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ValueError(
            f"`ray_address`: no Ray cluster answers at {address} ({error.strerror or error}). Correct the address, "
            "start the cluster (`ray start --head`), or leave the key out for a cluster of this machine"
        ) from error
    return address


@contextlib.contextmanager
def _without_native_messages() -> Iterator[None]:
    """Discard what the compiled part of Ray writes to stderr while it connects."""
    before = os.dup(2)
    with open(os.devnull, "wb") as discard:
        os.dup2(discard.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
