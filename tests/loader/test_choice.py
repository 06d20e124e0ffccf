"""The announced engine is the one that is used."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fastdc.common import gpu_share, threads
from fastdc.common.errors import LoaderError
from fastdc.common.threads import loader_cpus, share_cpus, usable_cpus
from fastdc.loader import EvalView, TrainView, choose_engine, engine_for_part, open_loader
from fastdc.loader import open as opening
from fastdc.loader.engines.device import device_memory
from fastdc.loader.engines.ffcv_support import ffcv_problem
from fastdc.loader.image_cache import CACHE
from fastdc.loader.view_settings import View


@pytest.mark.parametrize("engine", ["auto", "ffcv", "resident", "device"])
def test_the_chosen_engine_opens(betons: Any, engine: Any) -> None:
    view = TrainView(28)
    with open_loader(betons.train, view, batch_size=8, engine=engine) as loader:
        assert choose_engine(betons.train, view, engine) == loader.engine


def test_a_missing_file_is_named(tmp_path: Any) -> None:
    with pytest.raises(LoaderError, match=r"none\.beton"):
        choose_engine(tmp_path / "none.beton", TrainView(28))


def test_a_small_part_of_a_large_set_is_streamed(betons: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    view = TrainView(28)
    CACHE.clear()
    assert engine_for_part(betons.train, view, 60) == "resident", "120 images of 28 px are no large set"
    monkeypatch.setattr(opening, "LARGE_PART_BYTES", 120 * 28 * 28 * 3)
    assert engine_for_part(betons.train, view, 60) == ("resident" if ffcv_problem() else "ffcv")
    assert engine_for_part(betons.train, view, 61) == "resident", "more than half"
    with open_loader(betons.train, view, batch_size=8, engine="resident") as loader:
        next(loader.epoch(0))
    assert engine_for_part(betons.train, view, 60) == "resident", "decoded already"


@pytest.mark.parametrize(
    ("view", "share", "engine"),
    [
        (TrainView(28), 1.0, "device"),
        (TrainView(28), 0.1, "device"),  # pixels may differ by one level, so no number of processes may matter
        (EvalView(28, 32), 1.0, "device"),
        (EvalView(28, 32), 0.5, "device"),
        (EvalView(28, 32), 0.4, "resident"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("free", [0, 10**12])
def test_a_gpus_size_decides_and_not_what_is_free_there(
    betons: Any, monkeypatch: pytest.MonkeyPatch, view: View, share: float, engine: str, free: int
) -> None:
    needed = 120 * 28 * 28 * 3  # bytes of the decoded images, and of their validation views
    monkeypatch.setattr(gpu_share, "_share", share)
    monkeypatch.setattr(gpu_share, "OTHER_BYTES", 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=8 * needed))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 8 * needed))
    assert choose_engine(betons.train, view, "auto", "cuda") == engine


def test_training_images_of_more_than_a_quarter_of_a_gpu_stay_in_main_memory(
    betons: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    total = 4 * 120 * 28 * 28 * 3 - 1
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=total))
    assert choose_engine(betons.train, TrainView(28), "auto", "cuda") == "resident"


def test_what_is_left_on_a_gpu_is_bounded_by_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (60 * 10**9, 80 * 10**9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 5 * 10**9)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 2 * 10**9)
    assert device_memory(torch.device("cuda")) == (60 + 5 - 2) * 10**9
    monkeypatch.setattr(gpu_share, "_share", 0.25)
    assert device_memory(torch.device("cuda")) == (20 - 2) * 10**9 - gpu_share.OTHER_BYTES


def test_threads_that_load_are_divided(betons: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_cpu_share", 1.0)  # put back after the test
    assert loader_cpus() == usable_cpus()
    monkeypatch.setattr(threads, "host_cpus", lambda: 48)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for share, expected in ((1 / 3, 16), (1 / 49, 1), (0.3, 14)):
        share_cpus(share)
        assert loader_cpus() == expected
    share_cpus(1 / 12)
    with open_loader(betons.train, TrainView(28), batch_size=8, engine="resident") as loader:
        assert loader._stream.workers == 4  # type: ignore[attr-defined]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert loader_cpus() == 2
