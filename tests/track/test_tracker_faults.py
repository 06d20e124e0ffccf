"""A tracker that is missing, fails, hangs or crashes costs one warning and no result."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from fastdc.common.extras import install_extra
from fastdc.track import emit, listening, trackers, tracking
from fastdc.track.tracker_process import redacted
from fastdc.track.trackers import TRACKERS, Kind, all_trackers
from tests.sweep.conftest import start_python

KEY = "hunter2-0123456789"


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register every class of `fakes.py` as a tracker, with short timeouts."""
    for name in ("Notes", "Raising", "Hanging", "Crashing", "Exiting", "Absent", "Chatting", "Garbling", "Forking"):
        monkeypatch.setitem(all_trackers().parts, name.lower(), Kind("numpy", f"tests.track.fakes:{name}", name))
    monkeypatch.setitem(all_trackers().parts, "missing", Kind("no_such_package_at_all", "x:y", "Missing"))
    monkeypatch.setattr(trackers, "CLOSE_SECONDS", 5.0)
    monkeypatch.setenv("FAKE_API_KEY", KEY)


def train(cells: int = 1, epochs: int = 3) -> None:
    """Publish the events of `cells` runs."""
    for cell in range(cells):
        emit("cell_started", cell=f"c{cell}", key=f"k{cell}", labels={"method": "random"})
        for epoch in range(epochs):
            emit("epoch", cell=f"c{cell}", epoch=epoch + 1, epochs=epochs, loss=0.5, lr=0.1, top1=None)
        emit("cell_done", cell=f"c{cell}", seconds=1.0, top1=50.0, dataset="tiny", balanced=False)


def test_a_tracker_gets_every_run_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tracking(["notes"], tmp_path):
        train(cells=1, epochs=2)
        emit("epoch", cell="unheard of", epoch=1, loss=1.0)
        emit("cell_started", cell="cut", key="k", labels={})
    assert (tmp_path / "notes.txt").read_text().splitlines() == [
        "start c0 k0 {'method': 'random'}",
        "log c0 1 {'loss': 0.5, 'lr': 0.1}",
        "log c0 2 {'loss': 0.5, 'lr': 0.1}",
        "finish c0 done {'seconds': 1.0, 'top1': 50.0}",
        "start cut k {}",
        "finish cut interrupted {}",
        "close",
    ]
    assert capsys.readouterr().err == "Notes: notes.txt\n"


def test_a_missing_library_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda package: None)
    trackers.Remote(TRACKERS["wandb"], tmp_path).send({"event": "sweep_started"})
    assert f"the package wandb is not installed; {install_extra('trackers')}; cont" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "the package no_such_package_at_all is not installed; install the package of this plug-in again"),
        ("raising", "ConnectionError: https://***@host refused ***"),
        ("hanging", "did not end within 5 s"),
        ("crashing", "its process ended with exit code -6"),
        ("exiting", "SystemExit: no login"),
        ("chatting", "its library wrote into the pipe of its answers"),
        ("garbling", "its library wrote into the pipe of its answers"),
        ("absent", "AttributeError: module 'tests.track.fakes' has no attribute 'Absent'"),
    ],
)
def test_a_failing_tracker_costs_one_warning_and_the_others_continue(
    name: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = time.monotonic()
    with tracking([name, "notes"], tmp_path):
        train()
        during = time.monotonic() - start
    assert during < 4.0  # training does not wait
    assert time.monotonic() - start < 20.0
    captured = capsys.readouterr().err
    assert [line for line in captured.splitlines() if "warning" in line] == [
        f"warning: {name.title()}: {reason}; continuing without it; no result is lost"
    ]
    assert KEY not in captured
    assert "finish c0 done" in (tmp_path / "notes.txt").read_text()
    if name == "hanging":
        assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()


def test_trackers_end_in_parallel(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(trackers, "CLOSE_SECONDS", 1.0)
    monkeypatch.setattr(trackers, "PATIENCE_SECONDS", 0.1)
    for number in range(3):
        kind = all_trackers().parts["hanging"]._replace(title=f"Hanging {number}")
        monkeypatch.setitem(all_trackers().parts, f"hanging{number}", kind)
    with tracking([f"hanging{number}" for number in range(3)], tmp_path):
        train()
        start = time.monotonic()
    assert time.monotonic() - start < 2.5
    captured = [line for line in capsys.readouterr().err.splitlines() if not line.endswith("notes.txt")]
    waited, *warnings = captured
    assert waited == "Hanging 0, Hanging 1, Hanging 2: still writing; waits for 1 s at most"
    assert [line.split(";")[0] for line in warnings] == [
        f"warning: Hanging {number}: did not end within 1 s" for number in range(3)
    ]


def test_child_processes_end_with_their_tracker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tracking(["forking"], tmp_path):
        train()
    assert "warning" not in capsys.readouterr().err
    wait_for(lambda: has_ended(int((tmp_path / "pid").read_text())))


def has_ended(process: int) -> bool:
    """Return whether a process has ended or is a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_blocked_tracker_is_given_up_while_training_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "HANG_SECONDS", 0.2)
    start, slowest = time.monotonic(), 0.0
    with tracking(["hanging"], tmp_path):
        emit("cell_started", cell="c", key="k", labels={})
        while time.monotonic() - start < 5.0 and "warning" not in capsys.readouterr().err:
            before = time.monotonic()
            emit("epoch", cell="c", epoch=1, loss=1.0, lr=0.1, long="x" * 20_000)  # three are more than a pipe holds
            slowest = max(slowest, time.monotonic() - before)
            time.sleep(0.01)
    assert slowest < 0.5
    assert time.monotonic() - start < 5.0


def test_the_queue_of_a_tracker_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "MOST_WAITING_BYTES", 100_000)
    remote = trackers.Remote(all_trackers().parts["hanging"], tmp_path)
    for _ in range(20):
        remote.send({"event": "cell_started", "cell": "c", "key": "k", "labels": {"long": "x" * 20_000}})
    assert remote._off
    assert not remote._waiting


def test_sweeps_leave_nothing_behind(tmp_path: Path) -> None:
    before, running = len(os.listdir("/proc/self/fd")), children()  # other tests leave theirs
    for _ in range(3):
        with tracking(["notes", "exiting"], tmp_path):
            train()
    assert len(os.listdir("/proc/self/fd")) == before
    assert children() <= running


def children() -> set[str]:
    """Return child processes that were not waited for."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue  # it has ended
        if int(parent) == os.getpid():
            found.add(folder.name)
    return found


def test_a_failing_listener_gets_no_further_events(capsys: pytest.CaptureFixture[str]) -> None:
    events = []
    with listening(lambda event: 1 / 0), listening(events.append):
        train(epochs=1)
    assert len(events) == 3
    assert capsys.readouterr().err.count("warning") == 1
    train()
    assert len(events) == 3


def test_secrets_stay_out_of_messages() -> None:
    environment = {"WANDB_API_KEY": "abcdef", "MLFLOW_TRACKING_PASSWORD": "pass-word", "HOME": "/root", "X_KEY": "k"}
    text = "abcdef at http://me:pw@server/ with pass-word in /root, ok"
    assert redacted(text, environment) == "*** at http://***@server/ with *** in /root, ok"


KILLED = """
import os, sys, time
from pathlib import Path
from fastdc.track import emit, tracking
from fastdc.track.trackers import TRACKERS, Kind
TRACKERS["fake"] = Kind("numpy", f"tests.track.fakes:{sys.argv[2]}", "Fake")
with tracking(["fake"], Path(sys.argv[1])):
    emit("cell_started", cell="c", key="k", labels={})
    print("going", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_sweep_leaves_no_tracker_alive(number: signal.Signals, tmp_path: Path) -> None:
    process = start_python(KILLED, str(tmp_path), "Notes")
    assert process.stdout is not None
    assert process.stdout.readline() == "going\n"
    notes = tmp_path / "notes.txt"
    wait_for(lambda: notes.exists())
    process.send_signal(number)
    process.communicate(timeout=20)
    wait_for(lambda: notes.read_text().endswith("finish c interrupted {}\nclose\n"))


def test_a_hanging_tracker_ends_soon_after_a_killed_sweep(tmp_path: Path) -> None:
    process = start_python(KILLED, str(tmp_path), "Orphan")
    pid = tmp_path / "pid"
    wait_for(lambda: pid.exists() and pid.read_text())
    process.kill()
    process.communicate(timeout=20)
    assert not has_ended(int(pid.read_text()))
    wait_for(lambda: has_ended(int(pid.read_text())))


def wait_for(condition: object, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_no_key_is_on_a_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "CLOSE_SECONDS", 0.1)
    with tracking(["hanging"], tmp_path):
        emit("cell_started", cell="c", key="k", labels={})
        wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        process = Path("/proc", (tmp_path / "pid").read_text())
        command = (process / "cmdline").read_bytes()
        assert (process / "oom_score_adj").read_text() == "1000\n"  # if memory runs out, training survives
        assert (process / "stat").read_text().rpartition(")")[2].split()[16] == str(min(os.nice(0) + 10, 19))
    assert command.split(b"\0")[1:4] == [b"-P", b"-m", b"fastdc.track.tracker_process"]
