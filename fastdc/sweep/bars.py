"""Bars for runs that workers elsewhere are at, moved by the news of their epochs."""

from fastdc.progress import Progress, live_bars
from fastdc.track import Event

MOST_BARS = 8


class RunBars:
    """One bar for each run on a terminal, `MOST_BARS` at most; elsewhere one run at a time says how far it is.

    Args:
        enabled: False shows nothing.
    """

    def __init__(self, enabled: bool) -> None:
        self._most = 0 if not enabled else MOST_BARS if live_bars() is not None else 1
        self._bars: dict[str, Progress] = {}

    def hear(self, event: Event) -> None:
        """Move the bar of the run whose epoch ended."""
        if event["event"] != "epoch":
            return
        cell, epoch = event["cell"], event["epoch"]
        bar = self._bars.get(cell)
        if bar is None:
            if len(self._bars) >= self._most:
                return
            bar = self._bars[cell] = Progress("train", event["epochs"], "epochs")
            bar.beside = True
            bar.skip(epoch - 1)
        accuracy = "" if event["top1"] is None else f", {event['top1']:.2f} % top-1"
        note = f"loss {event['loss']:.3f}{accuracy}, {event['images_per_second']:,.0f} images/s"
        bar.advance(epoch - bar.done, f"{cell}: {note}")

    def end(self, cell: str) -> None:
        """The run has ended, or its worker was lost."""
        if cell in self._bars:
            bar = self._bars.pop(cell)
            bar.enabled = False  # its end is told otherwise
            bar.close()

    def close(self) -> None:
        """Take all bars away."""
        for cell in list(self._bars):
            self.end(cell)
