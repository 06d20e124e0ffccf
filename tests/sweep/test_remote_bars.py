"""Bars of runs on workers: what is said of epochs that another process trains."""

import pytest

from fastdc.common import log as progress
from fastdc.sweep.launch.remote_bars import MOST_BARS, RunBars
from tests.sweep.test_scheduler import epoch_event


@pytest.fixture(autouse=True)
def every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_SECONDS", 0.0)


def test_without_a_terminal_one_run_at_a_time_says_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    bars = RunBars()
    for cell in ("a", "b"):
        bars.update(epoch_event(cell, 3))
    bars.end("b")
    bars.end("a")
    bars.update(epoch_event("b", 5))
    bars.close()
    lines = [
        line.split(" epochs,")[0] + line[line.rindex(", b" if ", b" in line else ", a") :] for line in said(capsys)
    ]
    assert said(capsys) == []
    assert lines == [
        "train: 3/9, a: loss 1.500, 70 images/s",
        "train: 5/9, b: loss 1.500, 70 images/s",
    ]


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_run_that_starts_over_counts_from_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    bars = RunBars()
    for epoch in (4, 5, 2):
        bars.update(epoch_event("a", epoch))
    assert [line.split()[1] for line in said(capsys)] == ["4/9", "5/9", "2/9"]


def test_there_are_never_more_bars_than_a_screen_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastdc.sweep.launch.remote_bars.live_bars", lambda: object())
    bars = RunBars()
    for number in range(50):
        bars.update(epoch_event(str(number), 1))
    assert len(bars._bars) == MOST_BARS


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress_shown(False):
        bars = RunBars()
        bars.update(epoch_event("a", 1))
        bars.close()
    assert said(capsys) == []
