"""Watch a command that trains: by trackers, by the JSON log, and on a terminal by a bar for the whole sweep."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fastdc.common.log import Progress, live_bars, log_style, shows_progress, write_json
from fastdc.track.events import Event, listening
from fastdc.track.trackers import tracking


@contextmanager
def watching(trackers: Sequence[str], folder: Path) -> Iterator[None]:
    """Report what happens in the block to trackers, and on stderr as JSON lines or a bar.

    Args:
        trackers: names of trackers, see `tracking`.
        folder: where they may write.
    """
    with ExitStack() as stack:
        stack.enter_context(tracking(trackers, folder))
        if shows_progress() and log_style() == "json":
            stack.enter_context(listening(log_event))
        elif shows_progress() and live_bars() is not None:
            bar = SweepBar()
            stack.callback(bar.close)
            stack.enter_context(listening(bar.update))
        yield


def log_event(event: Event) -> None:
    """Write an event as a line of the JSON log."""
    write_json({**event, "time": round(event["time"], 3)})


class SweepBar:
    """Bar that counts the ended runs of a sweep and names those that are running."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._going: list[str] = []

    def update(self, event: Event) -> None:
        """Update the bar from an event; without a sweep there is no bar."""
        kind = event["event"]
        if kind == "sweep_started" and event["left"]:
            self._bar = Progress("sweep", event["cells"], "runs")
            self._bar.rated = False  # the sweep's own estimate of the time left is better than a rate
            self._bar.skip(event["cells"] - event["left"])
        if self._bar is None:
            return
        if kind == "cell_started":
            self._going = [*(cell for cell in self._going if cell != event["cell"]), event["cell"]]
            self._show(0)
        elif kind in ("cell_done", "cell_failed"):
            if event["cell"] in self._going:
                self._going.remove(event["cell"])
            left = event.get("seconds_left")
            self._bar.ends = None if left is None else time.monotonic() + left
            self._show(1)

    def _show(self, ended: int) -> None:
        """Redraw the bar at once, because the next event may be far off."""
        assert self._bar is not None
        more = f" and {len(self._going) - 1} more" if len(self._going) > 1 else ""
        self._bar.advance(ended, f"{self._going[0]}{more}" if self._going else "")
        if (bars := live_bars()) is not None:
            bars.refresh()

    def close(self) -> None:
        """Remove the bar, because the table that follows shows the same."""
        if self._bar is not None:
            self._bar.enabled = False
            self._bar.close()
