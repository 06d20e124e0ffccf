"""The remaining time of a sweep."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from fastdc.sweep.sweep_progress import Meter
from fastdc.track import listening


@pytest.mark.parametrize(
    ("workers", "left"), [(1, [400.0, 8.0, 6.0, 4.0, 2.0, None]), (2, [200.0, 160.0, 3.0, 2.0, 2.0, None])]
)
def test_a_single_wait_does_not_count_for_later_cells(
    workers: int, left: list[float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    cells: list[Any] = [SimpleNamespace(name=f"c{n}", key=f"k{n}", label={}, arch="a", seed=0) for n in range(6)]
    events: list[dict[str, Any]] = []
    with listening(events.append):
        meter = Meter({cell.key: 1.0 for cell in cells}, 6)
        meter.workers(workers)
        for number, cell in enumerate(cells):
            meter.start([cell])
            now += 80.0 if number < workers else 2.0
            meter.done(cell, {"top1": 50.0}, stored=True)
    assert [event["seconds_left"] for event in events if event["event"] == "cell_done"] == left
