"""Conformance suite of trackers: the events of a short sweep, in the process that a sweep would start."""

import json
import os
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

from fastdc.conformance import recorded_tracker
from fastdc.conformance.suite import Suite, expect
from fastdc.track.events import emit, listening
from fastdc.track.trackers import Remote, all_trackers, close_all

CELLS = {"random | ipc 2": "cell_done", "pca | ipc 2": "cell_failed"}
EPOCHS = 3
PATIENCE, HANG_PATIENCE = 40.0, 2.0
"""Seconds that a tracker has for all events, its library's start included, and one that hangs for the rest."""
END_SECONDS, POLL_SECONDS = 5.0, 0.05
ENVIRONMENT = {"WANDB_MODE": "offline"}
"""Keeps the runs of this suite away from a user's account."""


class TrackerSuite(Suite):
    """Suite of trackers."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, folder)
        self.kind = all_trackers().get(name)

    def every_event_arrives(self) -> None:
        """Check that the tracker takes the events of a sweep in its own process, in order, and closes."""
        remote = self._track("sound")
        expected = [
            call
            for cell, end in CELLS.items()
            for call in (
                ["start", cell],
                *(["log", cell, epoch] for epoch in range(1, EPOCHS + 1)),
                ["finish", cell, "done" if end == "cell_done" else "failed"],
            )
        ]
        found = self._calls("sound")
        last = remote.problem or found[-1:]
        expect(found == [*expected, ["close"]], f"{last} after {len(found)} calls", f"{len(expected) + 1} calls")

    def its_own_fault_is_one_warning(self) -> None:
        """Check that a tracker that fails in an epoch is left behind."""
        remote = self._track("fail")
        expect("a fault of the suite" in remote.problem, remote.problem or "no warning", "its reason")

    def a_hang_ends_within_the_limit(self) -> None:
        """Check that a tracker that hangs, and what it started, ends with the sweep."""
        remote = self._track("hang")
        expect("did not end" in remote.problem, remote.problem or "no warning", "a warning that it did not end")
        limit = HANG_PATIENCE + END_SECONDS
        expect(remote.closing < limit, f"{remote.closing:.1f} s", f"at most {limit:.0f} s")

    def no_process_is_left(self) -> None:
        """Check that the processes of the checks before, and what they started, have ended."""
        left = [path.parent.name for path in self.folder.glob(f"*/{recorded_tracker.PROCESS}") if _group_lives(path)]
        expect(not left, f"processes of the checks {', '.join(left)}", "none")

    def _track(self, fault: str) -> "_Watched":
        """Send the events of a sweep to the tracker, wrapped in a `Recorded`."""
        target = f"{recorded_tracker.__name__}:{recorded_tracker.Recorded.__name__}"
        remote = _Watched(self.kind._replace(target=target), self.folder / fault)
        chosen = {recorded_tracker.INNER: self.kind.target, recorded_tracker.FAULT: fault}
        store = {"MLFLOW_TRACKING_URI": (self.folder / fault / "mlruns").as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true"}
        with patch.dict(os.environ, {**ENVIRONMENT, **store, **chosen}), listening(remote.send), closing(remote):
            _sweep()
            if fault == "hang":
                self._wait_for_hang()
            start = time.monotonic()
            close_all([remote], HANG_PATIENCE if fault == "hang" else PATIENCE)
            remote.closing = time.monotonic() - start
        return remote

    def _wait_for_hang(self) -> None:
        """Wait until the tracker has started and hangs in its first epoch."""
        deadline = time.monotonic() + PATIENCE
        while not any(call[0] == "hang" for call in self._calls("hang")):
            expect(time.monotonic() < deadline, f"no epoch after {PATIENCE:.0f} s", "one")
            time.sleep(POLL_SECONDS)

    def _calls(self, fault: str) -> list[list[object]]:
        path = self.folder / fault / recorded_tracker.CALLS
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class _Watched(Remote):
    """Remote that keeps the reason for which it was given up and the seconds of its end, and prints nothing."""

    problem, closing = "", 0.0

    def close(self) -> None:
        """End the tracker, if a check was left before that."""
        self.end()

    def give_up(self, reason: str) -> None:
        """End the tracker and keep the reason."""
        self.problem = self.problem or reason
        self.end()

    def _hear(self, answer: dict[str, Any]) -> None:
        if "where" not in answer:
            super()._hear(answer)


def _sweep() -> None:
    """Publish the events of a sweep of two runs."""
    emit("sweep_started", cells=len(CELLS), left=len(CELLS))
    for cell, end in CELLS.items():
        emit("cell_started", cell=cell, key="0123456789abcdef", labels={"method": cell.split()[0], "ipc": 2})
        for epoch in range(1, EPOCHS + 1):
            values = {"loss": 1 / epoch, "lr": 0.1, "top1": 50.0 if epoch == EPOCHS else None}
            emit("epoch", cell=cell, epoch=epoch, epochs=EPOCHS, images_per_second=100.0, **values)
        more = {"top1": 50.0} if end == "cell_done" else {"outcome": "failed", "reason": "an example"}
        emit(end, cell=cell, seconds=1.0, **more)
    emit("sweep_ended", cells=len(CELLS), ran=len(CELLS), states={"done": 1, "failed": 1})


def _group_lives(path: Path) -> bool:
    """Return whether a process of the tracker's group lives; its first process leads the group."""
    try:
        os.killpg(int(path.read_text()), 0)
    except ProcessLookupError:
        return False
    return True
