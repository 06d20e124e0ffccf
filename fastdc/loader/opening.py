"""Opening a loader: checks, and the choice between the two engines."""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fastdc.beton import BetonFile
from fastdc.errors import ConfigError, LoaderError
from fastdc.loader.batches import Engine, EpochLoader, SampleOrder, check_labels, check_samples
from fastdc.loader.ffcv_support import ffcv_problem
from fastdc.loader.memory import CACHE, FileIdentity, available_memory, file_identity
from fastdc.loader.resident import open_resident, resident_bytes, resident_key
from fastdc.loader.views import View
from fastdc.threads import usable_cpus

EngineChoice = Literal["auto", "ffcv", "resident"]

_RESIDENT_SHARE = 4  # "auto" keeps images in memory when they take at most a quarter of it


def open_loader(
    path: Path,
    view: View,
    *,
    batch_size: int,
    seed: int = 0,
    shuffle: bool = False,
    indices: NDArray[np.int64] | None = None,
    engine: EngineChoice = "auto",
    workers: int | None = None,
) -> EpochLoader:
    """Open a beton as batches of one view.

    Both engines, any number of workers and any batch size give the same views: order and augmentation depend only on
    (seed, epoch, sample). Both keep the last, short batch.

    Args:
        path: the beton.
        view: `TrainView` or `EvalView`.
        batch_size: samples in a batch, at least 1.
        seed: seed of order and augmentation.
        shuffle: a new order in each epoch; else file order, or the order of `indices`.
        indices: the samples to load, each once; None for all.
        engine: "resident" keeps decoded images in memory, "ffcv" decodes them in every epoch; "auto" is resident when
            they take at most a quarter of the free memory (or are decoded already), else ffcv.
        workers: threads; None for one per CPU.

    Raises:
        LoaderError: no samples, unsound indices or labels, an undecodable image, or an engine that cannot be used.
        BetonError: the file is not a sound beton.
        ConfigError: batch_size, workers or engine is out of range.
    """
    path = Path(path)
    _check_settings(batch_size, workers, engine)
    identity = file_identity(path)
    with BetonFile(path) as file:
        if file_identity(path) != identity:
            raise LoaderError(f"{path}: was replaced while it was opened; try again")
        samples = check_samples(path, file.num_samples, indices)
        check_labels(path, file.labels)
        order = SampleOrder(samples, seed, shuffle)
        threads = min(workers or usable_cpus(), 256)
        if _choose_engine(file, identity, view, engine) == "resident":
            return open_resident(file, identity, view, order, batch_size, threads)
    from fastdc.loader.ffcv_engine import open_ffcv  # imports ffcv, which takes a second

    return open_ffcv(path, identity, view, order, batch_size, threads)


def _check_settings(batch_size: int, workers: int | None, engine: str) -> None:
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size}: expected at least 1")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers={workers}: expected at least 1")
    if engine not in ("auto", "ffcv", "resident"):
        raise ConfigError(f"loader engine {engine!r} does not exist, expected auto, ffcv or resident")


def _choose_engine(file: BetonFile, identity: FileIdentity, view: View, engine: EngineChoice) -> Engine:
    """The engine to use; see `open_loader`.

    Raises:
        LoaderError: ffcv is asked for but not usable, or the images fit neither way.
    """
    if engine == "ffcv":
        problem = ffcv_problem()
        if problem:
            raise LoaderError(f"{file.path}: the ffcv engine cannot be used: {problem}; or use the resident engine")
        return "ffcv"
    if resident_key(identity, view) in CACHE:
        return "resident"
    needed, free = resident_bytes(file, view), available_memory()
    if engine == "auto" and needed > free // _RESIDENT_SHARE and ffcv_problem() is None:
        return "ffcv"
    if needed > free:
        raise LoaderError(
            f"{file.path}: its decoded images take {needed / 1e6:,.0f} MB but {free / 1e6:,.0f} MB of memory are free; "
            "use the ffcv engine (pip install 'fastdc[ffcv]') or images of lower resolution"
        )
    return "resident"
