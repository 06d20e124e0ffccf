"""Machine-independent counts: allocations, decodes, compilations, threads, files, memory."""

import gc
import os
import threading
from pathlib import Path

import numba
import numpy as np
import pytest

from fastdc.common.choices import EngineChoice
from fastdc.kernels.jpeg import streaming
from fastdc.kernels.views import resize
from fastdc.kernels.views import view_batches as batches
from fastdc.loader import EvalView, Loader, LoaderRequest, TrainView, ViewRequest, open_loader, open_stream
from fastdc.loader.stream import Output
from tests.loader.conftest import SAMPLES, Shelf

ENGINES: tuple[EngineChoice, ...] = ("resident", "ffcv")


def run(loader: Loader, epochs: range) -> None:
    """Iterate over epochs as a training does: one batch at a time."""
    for epoch in epochs:
        for _ in loader.epoch(epoch):
            pass


def compiled() -> int:
    """Return the specialisations of all kernels of the data path: each is a compilation, or a load from disk."""
    kernels = [
        value
        for module in (batches, resize, streaming)
        for value in vars(module).values()
        if isinstance(value, numba.core.dispatcher.Dispatcher)
    ]
    assert len(kernels) > 10
    return sum(len(kernel.signatures) for kernel in kernels)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("output", ["uint8", "float32"])
def test_no_memory_is_allocated_after_the_start_of_a_training(
    shelf: Shelf, engine: EngineChoice, output: Output
) -> None:
    with open_loader(shelf.jpeg, TrainView(64), batch_size=4, engine=engine, output=output) as loader:
        run(loader, range(20))  # 120 batches; the queue fills at any time, so the last buffer may be allocated late
        assert 1 <= loader.buffers_made <= 6


@pytest.mark.parametrize("engine", ENGINES)
def test_a_consumer_that_keeps_its_batches_gets_new_memory(shelf: Shelf, engine: EngineChoice) -> None:
    with open_loader(shelf.jpeg, TrainView(64), batch_size=1, engine=engine) as loader:
        kept = list(loader.epoch(0))
        assert len({batch.images.data_ptr() for batch in kept}) == SAMPLES
        slices = [batch.images[0, 1] for batch in kept]  # a slice keeps the whole buffer
        copies = [part.clone() for part in slices]
        del kept
        run(loader, range(1, 4))
        assert all((part == copy).all() for part, copy in zip(slices, copies, strict=True))


@pytest.mark.parametrize("name", ["jpeg", "raw", "mixed"])
def test_an_epoch_decodes_every_image_once(shelf: Shelf, name: str) -> None:
    with open_loader(getattr(shelf, name), TrainView(16), batch_size=5, shuffle=True, engine="ffcv") as loader:
        for epoch in range(3):
            run(loader, range(epoch, epoch + 1))
            assert (loader.decodes == epoch + 1).all()


def test_a_shared_stream_decodes_every_image_once(shelf: Shelf) -> None:
    requests = (*(ViewRequest(TrainView(16), seed) for seed in range(3)), ViewRequest(EvalView(20)))
    with open_stream(
        LoaderRequest(shelf.mixed, requests, batch_size=5, order_seed=1, shuffle=True, engine="ffcv")
    ) as loader:
        assert sum(len(batches[0].labels) for batches in loader.epoch_views(0)) == loader.num_samples
        assert (loader.decodes == 1).all()


def test_unrequested_samples_are_not_decoded(shelf: Shelf) -> None:
    with open_loader(shelf.jpeg, TrainView(8), batch_size=2, indices=np.array([3, 5]), engine="ffcv") as loader:
        run(loader, range(2))
        assert np.flatnonzero(loader.decodes).tolist() == [3, 5]


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_is_compiled_after_the_first_batch(shelf: Shelf, engine: EngineChoice) -> None:
    """This also holds for other views, sides, seeds, epochs, files, outputs and worker counts."""
    with open_loader(shelf.jpeg, TrainView(16), batch_size=4, engine=engine) as loader:
        run(loader, range(1))
    before = compiled()
    for path in (shelf.jpeg, shelf.raw, shelf.mixed):
        for view in (TrainView(9, tile_grid=2), TrainView(40)):
            for output in ("uint8", "float32"):
                with open_loader(
                    path, view, batch_size=3, seed=5, shuffle=True, engine=engine, output=output
                ) as loader:
                    run(loader, range(2))
    assert compiled() == before


def resident_megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def footprint() -> tuple[int, int]:
    """Return the numbers of threads and open files."""
    gc.collect()
    return threading.active_count(), len(os.listdir("/proc/self/fd"))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("engine", ENGINES)
def test_threads_files_and_memory_stay_flat_over_epochs_and_early_stops(shelf: Shelf, engine: EngineChoice) -> None:
    with open_loader(shelf.raw, TrainView(150), batch_size=4, engine=engine) as loader:
        for epoch in range(30):
            next(loader.epoch(epoch))
        before, megabytes = footprint(), resident_megabytes()
        run(loader, range(20))
        for epoch in range(1000):
            next(loader.epoch(epoch))
        assert footprint() == before
        assert resident_megabytes() - megabytes < 20  # 1000 batches' buffers would take 270 MB
