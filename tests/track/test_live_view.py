"""The display on a terminal: nested bars drawn in place, messages above them, nothing left behind."""

import io
import re
import time
from pathlib import Path

import pytest

from fastdc.common import log as module
from fastdc.common.log import Progress, choose_log, live_bars, log_message, progress
from fastdc.track import emit, watching


class Screen(io.StringIO):
    """Terminal on stderr with its screen. (A pseudo terminal would lag on a busy machine.)"""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """Return the current screen, by the few control sequences that bars need; others fail the test."""
        rows, at = [""], 0
        for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", self.getvalue()):
            if part == "\n":
                at += 1
                rows += [""] * (at + 1 - len(rows))
            elif part == "\x1b[1A":
                at -= 1
            elif part == "\x1b[2K":
                rows[at] = ""
            elif part.startswith("\x1b"):
                assert part.endswith("m"), f"{part!r}"
            elif part != "\r":
                rows[at] += part
        return [row.rstrip() for row in rows if row.strip()]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Return a screen of 100 columns."""
    made = Screen()
    monkeypatch.setattr(module, "error_stream", lambda: made)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(module, "LIVE_INTERVAL_SECONDS", 0.0)
    return made


def test_sweep_run_and_epoch_are_shown_one_inside_the_other(screen: Screen, tmp_path: Path) -> None:
    with watching((), tmp_path):
        emit("sweep_started", cells=8, left=5)
        emit("cell_started", cell="pca ipc 10 seed 0", key="k", labels={})
        with progress("train resnet18 on pca.beton", 400, "steps", inner=100) as bar:
            bar.advance(250, "epoch 3/4, loss 1.234", images=8000)
            shown = screen.lines()
            assert [re.split(r" +[━╸╺]+ +", line)[0] for line in shown] == [
                "sweep",
                "  pca ipc 10 seed 0",
                "  train resnet18 on pca.beton",
                "    epoch",
                "    epoch 3/4, loss 1.234",
            ]
            assert shown[0].endswith("3/8 runs")
            assert re.search(r"250/400 steps, 0 s left, [\d,]+ images/s, [\d,]+", shown[2])
            assert shown[3].endswith("50/100 steps")
            log_message("a message")
            assert screen.lines()[0] == "a message"
            assert screen.lines()[1:] == shown
        emit("cell_done", cell="pca ipc 10 seed 0", seconds=3.0, seconds_left=125.0)
        assert [line.split()[-7:] for line in screen.lines()[1:]] == [["4/8", "runs,", "2", "min", "5", "s", "left"]]
    assert screen.lines() == ["a message"]
    assert "\x1b[?25l" not in screen.getvalue()  # the cursor was never hidden: kill -9 leaves a sound terminal


def test_a_sweep_is_drawn_at_the_first_event_and_its_time_counts_down(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIVE_INTERVAL_SECONDS", 1000.0)
    with watching((), tmp_path):
        emit("sweep_started", cells=8, left=8)
        emit("cell_started", cell="pca ipc 10 seed 0", key="k", labels={})
        assert screen.lines()[1] == "  pca ipc 10 seed 0"
        emit("cell_done", cell="pca ipc 10 seed 0", seconds=3.0, seconds_left=125.0)
        assert screen.lines()[0].endswith("1/8 runs, 2 min 5 s left")
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 60.0)
        emit("cell_started", cell="random", key="k", labels={})
        assert screen.lines()[0].endswith("1/8 runs, 1 min 5 s left")


def test_the_outermost_bar_leaves_its_last_line(screen: Screen) -> None:
    with progress("write x", 10) as bar, progress("inside", 3) as inside:
        inside.advance(3)
        bar.advance(10)
    (line,) = screen.lines()
    assert line.startswith("write x: 10/10 images, ")


@pytest.mark.parametrize("columns", [20, 40, 200])
def test_bars_fit_any_width(columns: int, screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    with progress("a label of many words [red] \x1b[31m", 1000, inner=10) as bar:
        bar.advance(5, ("note " * 20).strip())
        shown = screen.lines()
    assert 0 < max(map(len, shown)) <= columns
    assert len(shown) == 3
    assert not re.search(r" +(\x1b\[\d+m)*\n", screen.getvalue())  # only text would wrap in a narrower window
    assert ("s left" in shown[0]) == (columns >= 40)  # with little room, numbers take precedence over bars


def test_no_bars_without_a_terminal(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    choose_log("plain")
    assert live_bars() is None
    choose_log("auto")
    assert live_bars() is not None
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "dumb")
    assert live_bars() is None
    monkeypatch.setattr(module, "PLAIN_INTERVAL_SECONDS", 0.0)
    with progress("write x", 10) as bar:
        bar.advance(10)
    assert "\x1b" not in "".join(screen.lines())
    assert all(line.startswith("write x: 10/10 images, ") for line in screen.lines())


def test_a_closed_terminal_ends_no_work(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    bar = Progress("write x", 10)

    def gone(_text: str) -> int:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(screen, "write", gone, raising=False)
        bar.advance(5)
        assert not bar.enabled
        assert not log_message("unseen")
        bar.advance(5)
        bar.close()
    assert bar.done == 10
