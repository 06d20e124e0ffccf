"""Faults that stock FFCV answers with a hang, a leak or a wrong picture: a clear error, and nothing left behind."""

import gc
import importlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastdc.beton import BetonFile
from fastdc.common.choices import EngineChoice
from fastdc.common.errors import LoaderError
from fastdc.loader import EvalView, Loader, LoaderRequest, TrainView, ViewRequest, open_loader
from fastdc.loader.batches import SampleOrder
from fastdc.loader.descriptor import StoredFile
from fastdc.loader.engines.ffcv import FfcvStream
from fastdc.loader.engines.ffcv_pipeline import Compiler, State, ViewDecoder, ViewPipeline, ffcv_loader
from tests.loader.conftest import SAMPLES, Shelf

# Imported only now, because ffcv_pipeline must be the first to import ffcv: it keeps torch's thread count.
Operation = importlib.import_module("ffcv.pipeline.operation").Operation

ENGINES: tuple[EngineChoice, ...] = ("resident", "ffcv")
BAD = 13


def cut_off(payload: bytearray) -> None:
    payload[len(payload) // 2 :] = bytes(len(payload) - len(payload) // 2)


def no_jpeg(payload: bytearray) -> None:
    payload[:] = bytes(len(payload))


def other_size(payload: bytearray) -> None:
    """Change the height in the frame header from 48 to 40: the picture decodes to a size other than stated."""
    frame = payload.index(b"\xff\xc0")
    assert payload[frame + 5 : frame + 7] == b"\x00\x30"
    payload[frame + 6] = 40


@pytest.fixture
def damaged(shelf: Shelf, tmp_path: Path) -> Callable[[Callable[[bytearray], None]], Path]:
    """Copy the JPEG beton with a changed payload of sample BAD."""

    def make(damage: Callable[[bytearray], None]) -> Path:
        path = tmp_path / "damaged.beton"
        shutil.copy(shelf.jpeg, path)
        with BetonFile(path) as file:
            start, payload = int(file.offsets[BAD]), bytearray(file.payload(BAD))
        damage(payload)
        with path.open("r+b") as handle:
            handle.seek(start)
            handle.write(payload)
        return path

    return make


@pytest.mark.timeout(60)
@pytest.mark.parametrize("damage", [cut_off, no_jpeg, other_size])
@pytest.mark.parametrize("view", [TrainView(8), EvalView(8)], ids=["train", "eval"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_damaged_jpeg_is_an_error_that_names_file_and_sample(
    damaged: Callable[[Callable[[bytearray], None]], Path],
    engine: EngineChoice,
    view: TrainView | EvalView,
    damage: Callable[[bytearray], None],
) -> None:
    path = damaged(damage)
    with (
        pytest.raises(LoaderError, match=rf"damaged\.beton: sample {BAD}: "),
        open_loader(path, view, batch_size=4, engine=engine) as loader,
    ):
        list(loader.epoch(0))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_error_names_the_samples_id_if_the_manifest_matches(
    shelf: Shelf, damaged: Callable[[Callable[[bytearray], None]], Path], engine: EngineChoice
) -> None:
    path = damaged(no_jpeg)

    def message() -> str:
        with (
            pytest.raises(LoaderError) as caught,
            open_loader(path, TrainView(8), batch_size=4, engine=engine) as loader,
        ):
            list(loader.epoch(0))
        return str(caught.value)

    shutil.copy(shelf.jpeg.with_suffix(".json"), path.with_suffix(".json"))
    assert f"damaged.beton: sample {BAD} ({BAD}): " in message()
    for other in (shelf.raw.with_suffix(".json").read_bytes(), b"{}"):
        path.with_suffix(".json").write_bytes(other)
        assert f"damaged.beton: sample {BAD}: " in message()


@pytest.mark.timeout(60)
def test_batches_before_the_damaged_one_are_delivered(
    damaged: Callable[[Callable[[bytearray], None]], Path],
) -> None:
    with open_loader(damaged(no_jpeg), TrainView(8), batch_size=4, engine="ffcv") as loader:
        iterator = loader.epoch(0)
        assert [next(iterator).indices[0].item() for _ in range(BAD // 4)] == [0, 4, 8]
        with pytest.raises(LoaderError):
            next(iterator)
        with pytest.raises(StopIteration):
            next(iterator)


def test_damage_in_an_unrequested_sample_is_ignored(
    damaged: Callable[[Callable[[bytearray], None]], Path],
) -> None:
    kept = np.array([k for k in range(SAMPLES) if k != BAD])
    with open_loader(damaged(no_jpeg), TrainView(8), batch_size=4, engine="ffcv", indices=kept) as loader:
        assert sum(len(batch.images) for batch in loader.epoch(0)) == SAMPLES - 1


@pytest.mark.timeout(60)
def test_loaders_opened_in_many_threads_restore_ffcv(shelf: Shelf) -> None:
    """Opening replaces FFCV's globals for a moment; interleaved threads must restore them."""
    before = ffcv_loader.OSCacheManager, Compiler.is_enabled
    assert (before[0].__name__, before[1]) == ("OSCacheManager", True)

    def cycle() -> None:
        for _ in range(10):
            open_loader(shelf.jpeg, TrainView(8), batch_size=4, engine="ffcv").close()

    workers = [threading.Thread(target=cycle) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (ffcv_loader.OSCacheManager, Compiler.is_enabled) == before


class FailingStage(Operation):
    """FFCV operation in plain Python that fails at the third batch."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, None]:
        return replace(previous_state, jit_mode=False), None

    def generate_code(self) -> Callable[[Any, Any], Any]:
        def stage(images: Any, memory: Any) -> Any:
            self.calls += 1
            if self.calls == 3:
                raise RuntimeError("the third batch burns")
            return images

        return stage


@pytest.mark.timeout(60)
def test_a_failing_stage_is_raised_in_the_consumer_with_its_samples(shelf: Shelf) -> None:
    """In stock FFCV the thread ends and the consumer hangs."""
    pipeline = ViewPipeline(str(shelf.jpeg), [ViewDecoder(), FailingStage()])
    request = LoaderRequest(shelf.jpeg, (ViewRequest(TrainView(8)),), batch_size=4, order_seed=0)
    stream = FfcvStream(StoredFile(shelf.jpeg), request.plan, 1, pipeline)
    order = SampleOrder(np.arange(SAMPLES), 0, shuffle=False)
    loader = Loader(request, stream, order)
    iterator = loader.epoch(0)
    next(iterator), next(iterator)
    start = time.monotonic()
    with pytest.raises(LoaderError, match=r"batch of samples 8, 9, 10, 11 cannot be made: RuntimeError: the third"):
        next(iterator)
    assert time.monotonic() - start < 5
    loader.close()


def resident_megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def break_early(loader: Loader, times: int) -> None:
    for epoch in range(times):
        for _ in loader.epoch(epoch):
            break


@pytest.mark.timeout(60)
@pytest.mark.parametrize("engine", ENGINES)
def test_early_breaks_leak_neither_threads_nor_memory_nor_files(shelf: Shelf, engine: EngineChoice) -> None:
    with open_loader(shelf.jpeg, TrainView(150), batch_size=4, engine=engine) as loader:
        break_early(loader, 20)
        gc.collect()
        before = threading.active_count(), len(os.listdir("/proc/self/fd")), resident_megabytes()
        break_early(loader, 100)
        gc.collect()
        after = threading.active_count(), len(os.listdir("/proc/self/fd")), resident_megabytes()
    assert after[:2] == before[:2]
    assert after[2] - before[2] < 20  # 100 epochs of FFCV's own buffers would take 1.4 GB


@pytest.mark.timeout(60)
@pytest.mark.parametrize("engine", ENGINES)
def test_opening_and_closing_leaks_neither_threads_nor_files(shelf: Shelf, engine: EngineChoice) -> None:
    def cycle() -> None:
        with open_loader(shelf.jpeg, TrainView(150), batch_size=4, engine=engine) as loader:
            break_early(loader, 1)

    for _ in range(3):
        cycle()
    gc.collect()
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        cycle()
    gc.collect()
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before


@pytest.mark.timeout(60)
@pytest.mark.parametrize("engine", ENGINES)
def test_closing_the_loader_ends_an_iterator_that_is_still_held(shelf: Shelf, engine: EngineChoice) -> None:
    threads = threading.active_count()
    loader = open_loader(shelf.jpeg, TrainView(200), batch_size=4, engine=engine)
    iterator = loader.epoch(0)
    next(iterator)
    loader.close()
    assert threading.active_count() == threads
    with pytest.raises(LoaderError, match="was closed"):
        next(iterator)


@pytest.mark.timeout(60)
def test_iterators_abandoned_in_many_threads_leave_nothing(shelf: Shelf) -> None:
    with open_loader(shelf.jpeg, TrainView(8), batch_size=2, engine="ffcv") as loader:
        before = threading.active_count()
        workers = [threading.Thread(target=break_early, args=(loader, 10)) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        gc.collect()
        assert threading.active_count() == before


@pytest.mark.timeout(100)
def test_loaders_side_by_side_neither_abort_the_process_nor_change_its_thread_counts(shelf: Shelf) -> None:
    """Under numba's workqueue layer they abort the process, so the test runs in a separate one. FFCV sets
    torch's count to 1 at import and to num_workers whenever a loader starts.
    """
    program = f"""
from pathlib import Path
import torch
torch.set_num_threads(3)
from fastdc.loader import TrainView, open_loader
path = Path({str(shelf.jpeg)!r})
loaders = [open_loader(path, TrainView(64), batch_size=3, engine="ffcv", seed=s, workers=2) for s in range(3)]
counts = {{torch.get_num_threads()}}
for epoch in range(5):
    for batches in zip(*(loader.epoch(epoch) for loader in loaders)):
        counts.add(torch.get_num_threads())
for loader in loaders:
    loader.close()
import numba
print(counts, torch.get_num_threads(), numba.get_num_threads() == numba.config.NUMBA_NUM_THREADS)
print(numba.threading_layer())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=90, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["{3}", "3", "True", "tbb"]), done.stderr


@pytest.mark.timeout(100)
def test_an_exit_in_the_middle_of_an_epoch_is_silent(shelf: Shelf) -> None:
    # A thread that takes Python's lock inside torch while Python ends would abort the process: make that likely.
    program = f"""
import sys, time, torch
from pathlib import Path
from fastdc.loader import TrainView, open_loader
from fastdc.loader.engines.ffcv import _Maker

made = _Maker.finish
def make_longer(self, *given):
    views, end = made(self, *given), time.monotonic() + 0.2
    while time.monotonic() < end:
        torch.empty(3, 64, 64, 3).permute(0, 3, 1, 2)
    return views

class SlowEnd:
    def __del__(self, sleep=time.sleep):
        sleep(1)

_Maker.finish, sys.slow_end = make_longer, SlowEnd()
loader = open_loader(Path({str(shelf.jpeg)!r}), TrainView(64), batch_size=1, engine="ffcv")
iterator = loader.epoch(0)
next(iterator)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=90, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_loaders_do_not_share_a_pipeline(shelf: Shelf) -> None:
    """FFCV takes the decoder out of the caller's list, so that a second loader gets no augmentation."""
    views = []
    for _ in range(2):
        with open_loader(shelf.jpeg, TrainView(8), batch_size=50, engine="ffcv") as loader:
            views.append(next(loader.epoch(0)).images)
    assert torch.equal(*views)
