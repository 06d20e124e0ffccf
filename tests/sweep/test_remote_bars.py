"""Progress of runs on workers: output about epochs in another process."""

import pytest

from fastdc.common import log as progress
from fastdc.sweep.launch.remote_bars import MOST_BARS, RunBars
from tests.sweep.test_scheduler import epoch_event


@pytest.fixture(autouse=True)
def every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_SECONDS", 0.0)


def test_without_a_terminal_one_run_at_a_time_reports_progress(capsys: pytest.CaptureFixture[str]) -> None:
    bars = RunBars()
    for cell in ("a", "b"):
        bars.update(epoch_event(cell, 3))
    bars.end("b")
    bars.end("a")
    bars.update(epoch_event("b", 5))
    bars.close()
    lines = [
        line.split(" epochs,")[0] + line[line.rindex(", b" if ", b" in line else ", a") :] for line in printed(capsys)
    ]
    assert printed(capsys) == []
    assert lines == [
        "train: 3/9, a: loss 1.500, 70 images/s",
        "train: 5/9, b: loss 1.500, 70 images/s",
    ]


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_restarted_run_counts_from_its_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    bars = RunBars()
    for epoch in (4, 5, 2):
        bars.update(epoch_event("a", epoch))
    assert [line.split()[1] for line in printed(capsys)] == ["4/9", "5/9", "2/9"]


def test_bars_never_exceed_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastdc.sweep.launch.remote_bars.live_bars", lambda: object())
    bars = RunBars()
    for number in range(50):
        bars.update(epoch_event(str(number), 1))
    assert len(bars._bars) == MOST_BARS


def test_quiet_hides_all_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress_shown(False):
        bars = RunBars()
        bars.update(epoch_event("a", 1))
        bars.close()
    assert printed(capsys) == []
