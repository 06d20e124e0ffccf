"""Open a loader with the engine that suits its file."""

from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fastdc.common.choices import EngineChoice
from fastdc.common.errors import LoaderError
from fastdc.common.extras import install_extra
from fastdc.common.threads import loader_cpus
from fastdc.loader.batches import Engine, Loader, SampleOrder, ViewStream
from fastdc.loader.descriptor import StoredFile
from fastdc.loader.engines.decoded import resident_bytes, resident_key
from fastdc.loader.engines.device import device_suits, open_device
from fastdc.loader.engines.ffcv_support import ffcv_problem
from fastdc.loader.engines.resident import open_resident
from fastdc.loader.file_checks import check_labels, check_samples
from fastdc.loader.image_cache import CACHE, available_memory
from fastdc.loader.request import LoaderRequest
from fastdc.loader.stream import Delivery, Output, ViewPlan
from fastdc.loader.view_settings import View, ViewRequest

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
) -> Loader:
    """Open a beton as batches of one view.

    Order and augmentation depend only on (seed, epoch, sample), not on the number of workers or the batch size. "ffcv"
    and "resident" give the same bytes; "device" may differ by one level. All engines keep the last, short batch.

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
            the memory of `device` and makes the views there. "auto" takes the first that applies:

            * device: `device` is CUDA, all images have one size, and they fill at most a quarter of its memory.
              Validation views count against this process's share of the GPU.
            * resident: they fill at most a quarter of the free main memory, or are decoded already.
            * ffcv: otherwise.
        workers: threads; None for one per CPU that this process may use.
        output: "uint8": images are uint8 [B, S, S, 3]; "float32": normalised float32 [B, 3, S, S], see `Batch`.
        device: where the consumer computes; None for the CPU. For CUDA, batches lie in page-locked memory, or with the
            device engine on the device.

    Raises:
        LoaderError: no samples, invalid indices or labels, an undecodable image, or an engine that cannot be used.
        BetonError: the file is not a valid beton.
        ConfigError: batch_size, workers, views, engine, output or device is out of range.
    """
    return open_stream(
        LoaderRequest(
            Path(path),
            (ViewRequest(view, seed),),
            batch_size=batch_size,
            order_seed=seed if order_seed is None else order_seed,
            shuffle=shuffle,
            indices=indices,
            visits=views,
            engine=engine,
            workers=workers,
            output=output,
            device=device,
        )
    )


def open_stream(request: LoaderRequest) -> Loader:
    """Open a beton as one stream of all requested views, for which every image is read and decoded once.

    Raises:
        LoaderError, BetonError: as `open_loader`.
    """
    with ExitStack() as stack:
        file = StoredFile(request.path)
        stack.callback(file.close)
        samples = check_samples(file.path, file.num_samples, request.indices)
        check_labels(file)
        stream = _open_engine(file, request)
        if stream.engine == "ffcv":
            stack.pop_all()  # this stream still reads the file, and closes it itself
    order = SampleOrder(samples, request.order_seed, request.shuffle, request.visits, file.num_samples)
    return Loader(request, stream, order)


def _open_engine(file: StoredFile, request: LoaderRequest) -> ViewStream:
    plan, threads = request.plan, min(request.workers or loader_cpus(), 256)
    chosen = _choose_engine(file, plan, request.engine)
    if chosen == "resident":
        return open_resident(file, plan, threads)
    if chosen == "device":
        return open_device(file, plan, threads)
    from fastdc.loader.engines.ffcv import open_ffcv  # here, because it imports ffcv, which takes a second

    return open_ffcv(file, plan, threads)


def choose_engine(
    path: Path, view: View, engine: EngineChoice = "auto", device: torch.device | str | None = None
) -> Engine:
    """Return the engine that `open_loader` would use now; it reads only the file's tables.

    Raises:
        LoaderError, BetonError, ConfigError: as `open_loader`.
    """
    request = LoaderRequest(Path(path), (ViewRequest(view),), batch_size=1, order_seed=0, engine=engine, device=device)
    with closing(StoredFile(request.path)) as file:
        return _choose_engine(file, request.plan, engine)


def engine_for_part(path: Path, view: View, count: int) -> Engine:
    """Return the engine for one pass over `count` samples: "ffcv" for a small part of a large beton.

    The resident engine would decode the whole set first. For a third of Imagenette-160 that doubles the time of the
    pass and takes 0.9 GB more memory. It costs nothing if this process has decoded the set already. Any other pass
    takes the engine that "auto" chooses on the CPU, so its pixels do not depend on the device.

    Raises:
        LoaderError, BetonError: as `open_loader`.
    """
    with closing(StoredFile(Path(path))) as file:
        held = resident_key(file.identity, view) in CACHE
        small = 2 * count <= file.num_samples and resident_bytes(file, view) >= LARGE_PART_BYTES
        if small and not held and ffcv_problem() is None:
            return "ffcv"
        return _choose_engine(file, ViewPlan([ViewRequest(view)], Delivery()), "auto")


def _choose_engine(file: StoredFile, plan: ViewPlan, engine: EngineChoice) -> Engine:
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
    on_cuda = plan.delivery.device.type == "cuda" and plan.one_kind
    if engine == "auto" and on_cuda and device_suits(file, plan, _RESIDENT_SHARE):
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
            f" use images of lower resolution, or the ffcv engine ({install_extra('ffcv')})"
        )
    return "resident"
