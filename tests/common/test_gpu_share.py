"""Processes that divide a GPU: what each may use depends on its share alone."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fastdc.common import gpu_share
from fastdc.common.gpu_share import OTHER_BYTES, gpu_budget, own_gpu_budget, take_gpu_share

TOTAL = 80 * 10**9


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Calls that limit torch's memory on a GPU of 80 GB."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(gpu_share, "_share", 1.0)  # put back after the test
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=TOTAL))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *call: calls.append(call))
    return calls


def test_a_gpu_of_its_own_is_not_limited() -> None:
    assert gpu_budget(TOTAL) == TOTAL


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_shares_and_what_cuda_itself_takes_fit_together(limited: list[tuple[Any, ...]], count: int) -> None:
    take_gpu_share(1 / count)
    assert count * (gpu_budget(TOTAL) + OTHER_BYTES) <= TOTAL
    ((fraction, device),) = limited
    assert (int(fraction * TOTAL + 0.5), device) == (gpu_budget(TOTAL), 0)


def test_a_process_knows_its_own_budget(limited: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert own_gpu_budget() == TOTAL
    take_gpu_share(1 / 4)
    assert own_gpu_budget() == TOTAL // 4 - OTHER_BYTES


def test_a_small_share_keeps_half_of_it(limited: list[tuple[Any, ...]]) -> None:
    take_gpu_share(1 / 100)
    assert gpu_budget(TOTAL) == TOTAL // 100 // 2
