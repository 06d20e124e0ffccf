"""Open a loader: check the arguments and choose the engine."""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from fastdc.common.errors import ConfigError, LoaderError
from fastdc.common.threads import usable_cpus
from fastdc.loader.batches import Engine, EpochLoader, SampleOrder, SharedLoader, ViewStream
from fastdc.loader.descriptor import StoredFile
from fastdc.loader.engines.decoded import resident_bytes, resident_key
from fastdc.loader.engines.device import device_suits, open_device
from fastdc.loader.engines.ffcv_support import ffcv_problem
from fastdc.loader.engines.resident import open_resident
from fastdc.loader.file_checks import check_labels, check_samples
from fastdc.loader.image_cache import CACHE, available_memory
from fastdc.loader.stream import Delivery, Output, ViewPlan
from fastdc.loader.view_settings import View, ViewRequest

EngineChoice = Literal["auto", "ffcv", "resident", "device"]
SharedEngineChoice = Literal["auto", "ffcv", "resident"]

LARGE_PART_BYTES = 256_000_000
"""Decoded images of fewer bytes are kept in memory even if only some of them are read."""

_RESIDENT_SHARE = 4  # "auto" keeps images in memory when they take at most a quarter of it


def open_loader(
    path: Path,
    view: View,
    *,
    batch_size: int,
    seed: int = 0,
    order_seed: int | None = None,
    shuffle: bool = False,
    indices: NDArray[np.int64] | None = None,
    views: int = 1,
    engine: EngineChoice = "auto",
    workers: int | None = None,
    output: Output = "uint8",
    device: torch.device | str | None = None,
) -> EpochLoader:
    """Open a beton as batches of one view.

    Order and augmentation depend only on (seed, epoch, sample). The views are therefore the same for all engines, any
    number of workers and any batch size. Only the device engine's may differ, by at most one level, because of its
    arithmetic. All engines keep the last, short batch.

    Args:
        path: the beton.
        view: `TrainView` or `EvalView`.
        batch_size: samples in a batch, at least 1.
        seed: seed of the augmentation, and of the order unless `order_seed` is given.
        order_seed: seed of the order, for several loaders that must see the same samples together.
        shuffle: a new order in each epoch; else file order, or the order of `indices`.
        indices: the samples to load, each once; None for all.
        views: visits to each sample in an epoch, each with its own order and draws; the first visits equal those of
            `views` = 1.
        engine: "resident" keeps decoded images in memory. "ffcv" decodes them in every epoch. "device" keeps them in
            the memory of `device` and makes the views there. "auto" is device if `device` is CUDA and the images, all
            of one size, take at most a quarter of its free memory; resident if they take at most a quarter of the free
            main memory (or are decoded already); else ffcv.
        workers: threads; None for one per CPU.
        output: "uint8": images are uint8 [B, S, S, 3]; "float32": normalised float32 [B, 3, S, S], see `Batch`.
        device: where the consumer computes; None for the CPU. For CUDA, batches lie in page-locked memory, or with the
            device engine on the device.

    Raises:
        LoaderError: no samples, invalid indices or labels, an undecodable image, or an engine that cannot be used.
        BetonError: the file is not a valid beton.
        ConfigError: batch_size, workers, views, engine, output or device is out of range.
    """
    delivery = _delivery(output, device)
    _check_settings(batch_size, workers, views, engine, EngineChoice)
    plan, order_seed = ViewPlan([ViewRequest(view, seed)], delivery), seed if order_seed is None else order_seed
    stream, order = _open(path, plan, order_seed, shuffle, indices, views, engine, workers)
    return EpochLoader(Path(path), stream, view, order, batch_size)


def open_shared(
    path: Path,
    requests: Sequence[ViewRequest],
    *,
    batch_size: int,
    order_seed: int,
    shuffle: bool = True,
    indices: NDArray[np.int64] | None = None,
    views: int = 1,
    engine: SharedEngineChoice = "auto",
    workers: int | None = None,
    output: Output = "uint8",
    device: torch.device | str | None = None,
) -> SharedLoader:
    """Open a beton as one stream for several consumers: the same samples, each with its own views.

    Every image is read and decoded once for all of them. Batch k equals, bit for bit, that of `open_loader` with view
    k, seed k and the same `order_seed`.

    Args:
        requests: the view of each consumer; at least one.
        order_seed: seed of the order of samples, which all share.
        path, batch_size, shuffle, indices, views, engine, workers, output, device: as for `open_loader`, but without
            the device engine.

    Raises:
        LoaderError, BetonError, ConfigError: as `open_loader`; ConfigError also if there are no requests.
    """
    delivery = _delivery(output, device)
    _check_settings(batch_size, workers, views, engine, SharedEngineChoice)
    if not requests:
        raise ConfigError("requests are empty, expected at least one ViewRequest")
    plan = ViewPlan(requests, delivery)
    stream, order = _open(path, plan, order_seed, shuffle, indices, views, engine, workers, shared=True)
    return SharedLoader(Path(path), stream, requests, plan.places, order, batch_size)


def _open(
    path: Path,
    plan: ViewPlan,
    order_seed: int,
    shuffle: bool,
    indices: NDArray[np.int64] | None,
    views: int,
    engine: EngineChoice,
    workers: int | None,
    shared: bool = False,
) -> tuple[ViewStream, SampleOrder]:
    """Return the stream of the chosen engine and the order of its samples."""
    with ExitStack() as stack:
        file = StoredFile(Path(path))
        stack.callback(file.close)
        samples = check_samples(file.path, file.num_samples, indices)
        order = SampleOrder(samples, order_seed, shuffle, views, file.num_samples)
        check_labels(file)
        threads = min(workers or usable_cpus(), 256)
        chosen = _choose_engine(file, plan, engine, shared)
        if chosen == "resident":
            return open_resident(file, plan, threads), order
        if chosen == "device":
            return open_device(file, plan, threads), order
        from fastdc.loader.engines.ffcv import open_ffcv  # here, because it imports ffcv, which takes a second

        stream = open_ffcv(file, plan, threads)
        stack.pop_all()  # this stream still reads the file, and closes it itself
        return stream, order
    raise AssertionError("ExitStack swallows nothing")  # unreachable; mypy assumes that a context may swallow errors


def choose_engine(
    path: Path, view: View, engine: EngineChoice = "auto", device: torch.device | str | None = None
) -> Engine:
    """Return the engine that `open_loader` would use now; it reads only the file's tables.

    Raises:
        LoaderError, BetonError, ConfigError: as `open_loader`.
    """
    plan = ViewPlan([ViewRequest(view, 0)], _delivery("uint8", device))
    with closing(StoredFile(Path(path))) as file:
        return _choose_engine(file, plan, engine, shared=False)


def engine_for_part(path: Path, view: View, count: int) -> SharedEngineChoice:
    """Return the engine for one pass over `count` samples: "ffcv" for a small part of a large beton, else "auto".

    The resident engine would decode the whole set first. For a third of Imagenette-160 that doubles the time of the
    pass and takes 0.9 GB more memory. It costs nothing if this process has decoded the set already.
    """
    with closing(StoredFile(Path(path))) as file:
        held = resident_key(file.identity, view) in CACHE
        if held or 2 * count > file.num_samples or resident_bytes(file, view) < LARGE_PART_BYTES:
            return "auto"
    return "auto" if ffcv_problem() else "ffcv"


def _delivery(output: str, device: torch.device | str | None) -> Delivery:
    """Return the form of the images.

    Raises:
        ConfigError: no such output or device.
    """
    if output not in get_args(Output):
        raise ConfigError(f"loader output {output!r} does not exist, expected uint8 or float32")
    try:
        found = torch.device("cpu" if device is None else device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"device {device!r}: {str(error).splitlines()[0]}") from error
    if found.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {found}: expected cpu or cuda")
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {found}: torch finds no CUDA device here; use cpu")
    if str(found) == "cuda":  # name each device one way, or its cache would hold images twice
        found = torch.device("cuda", torch.cuda.current_device())
    return Delivery(output, found)  # type: ignore[arg-type]


def _check_settings(batch_size: int, workers: int | None, views: int, engine: str, choice: object) -> None:
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size}: expected at least 1")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers={workers}: expected at least 1")
    if views < 1:
        raise ConfigError(f"views={views}: expected at least 1 visit to each sample in an epoch")
    if engine not in get_args(choice):
        *others, last = get_args(choice)
        raise ConfigError(f"loader engine {engine!r} does not exist, expected {', '.join(others)} or {last}")


def _choose_engine(file: StoredFile, plan: ViewPlan, engine: EngineChoice, shared: bool) -> Engine:
    """Return the engine to use; see `open_loader`.

    Raises:
        LoaderError: the requested engine cannot be used, or no engine has room for the images.
    """
    if engine == "ffcv":
        problem = ffcv_problem()
        if problem:
            raise LoaderError(f"{file.path}: the ffcv engine cannot be used: {problem}; or use the resident engine")
        return "ffcv"
    if engine == "device":
        return "device"  # `open_device` checks whether the images fit
    on_cuda = plan.delivery.device.type == "cuda"
    if engine == "auto" and on_cuda and not shared and device_suits(file, plan, _RESIDENT_SHARE):
        return "device"
    needed = {resident_key(file.identity, r.view): resident_bytes(file, r.view) for r in plan.requests}
    missing = sum(size for key, size in needed.items() if key not in CACHE)
    if missing == 0:
        return "resident"
    free = available_memory()
    if engine == "auto" and missing > free // _RESIDENT_SHARE and ffcv_problem() is None:
        return "ffcv"
    if missing > free:
        raise LoaderError(
            f"{file.path}: its decoded images take {missing / 1e6:,.0f} MB but {free / 1e6:,.0f} MB of memory are free;"
            " use the ffcv engine (pip install 'fastdc[ffcv]') or images of lower resolution"
        )
    return "resident"
