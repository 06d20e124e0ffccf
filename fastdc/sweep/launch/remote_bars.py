"""Progress bars for runs on remote workers, moved by their epoch events."""

from fastdc.common.log import Progress, live_bars
from fastdc.track import Event

MOST_BARS = 8


class RunBars:
    """Set of progress bars, one for each run.

    A terminal shows up to `MOST_BARS` of them. Elsewhere one run at a time reports its progress.
    """

    def __init__(self) -> None:
        self._most = MOST_BARS if live_bars() is not None else 1
        self._bars: dict[str, Progress] = {}

    def update(self, event: Event) -> None:
        """Advance the bar of the run whose epoch ended; ignore other events."""
        if event["event"] != "epoch":
            return
        cell, epoch = event["cell"], event["epoch"]
        bar = self._bars.get(cell)
        if bar is None:
            if len(self._bars) >= self._most:
                return
            bar = self._bars[cell] = Progress("train", event["epochs"], "epochs")
            bar.beside = True
            bar.skip(epoch - 1)  # epochs before the first event, as of a resumed run, do not count towards the rate
        accuracy = "" if event["top1"] is None else f", {event['top1']:.2f} % top-1"
        note = f"loss {event['loss']:.3f}{accuracy}, {event['images_per_second']:,.0f} images/s"
        bar.advance(epoch - bar.done, f"{cell}: {note}")

    def end(self, cell: str) -> None:
        """Remove the bar of a run that has ended, or whose worker was lost."""
        if cell in self._bars:
            bar = self._bars.pop(cell)
            bar.enabled = False  # no final line: the meter reports how the run ended
            bar.close()

    def close(self) -> None:
        """Remove all bars."""
        for cell in list(self._bars):
            self.end(cell)
