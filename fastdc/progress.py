"""Progress on stderr: a live bar on a terminal, one plain line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from fastdc.text import plain

PLAIN_INTERVAL_SECONDS = 10.0


def error_stream() -> TextIO | None:
    """stderr; None where the process was started with it closed."""
    return sys.stderr


def write_error(text: str) -> bool:
    """Write text to stderr as it is; False where nobody can read it, which must not end the work."""
    stream = error_stream()
    if stream is None:
        return False
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):  # ValueError: the stream was closed within Python
        return False
    return True


def say(message: str) -> bool:
    """Write a message to stderr as one line that cannot act on the terminal; False where nobody can read it."""
    return write_error(f"{plain(' '.join(message.split()))}\n")


class Progress:
    """Counts work done and says how fast it goes and how long it will still take.

    Args:
        label: what is being done ("write train.beton").
        total: how many units there are; None when unknown.
        unit: the unit's plural name ("images").
        enabled: False keeps it silent.
    """

    def __init__(self, label: str, total: int | None, unit: str = "images", enabled: bool = True) -> None:
        self.label, self.total, self.unit, self.enabled = label, total, unit, enabled
        self.done = self._skipped = 0
        self.note = ""
        self._start = time.monotonic()
        stream = error_stream()
        self._terminal = stream is not None and not stream.closed and stream.isatty()
        self._last = self._start

    def advance(self, count: int = 1, note: str = "") -> None:
        """Add `count` finished units; `note` (the loss, say) is shown behind the rate."""
        self.done += count
        self.note = note
        now = time.monotonic()
        if self.enabled and now - self._last >= (0.2 if self._terminal else PLAIN_INTERVAL_SECONDS):
            self._last = now
            self._show(now, final=False)

    def skip(self, count: int) -> None:
        """Count `count` units that were done in an earlier run: they tell nothing about this one's rate."""
        self.done += count
        self._skipped += count

    def close(self) -> None:
        """Show the final line, if anything was shown before or on a terminal."""
        now = time.monotonic()
        if self.enabled and (self._terminal or self._last > self._start):
            self._show(now, final=True)

    def _show(self, now: float, final: bool) -> None:
        line = self._line(now)
        text = f"\r\x1b[K{line}" + ("\n" if final else "") if self._terminal else f"{line}\n"
        self.enabled = write_error(text)

    def _line(self, now: float) -> str:
        seconds = max(now - self._start, 1e-9)
        rate = (self.done - self._skipped) / seconds
        parts = [f"{self.label}: {self.done:,}" + (f"/{self.total:,}" if self.total else "") + f" {self.unit}"]
        parts.append(f"{rate:,.1f} {self.unit}/s" if rate < 100 else f"{rate:,.0f} {self.unit}/s")
        if self.total and rate > 0:
            parts.append(f"{format_seconds((self.total - self.done) / rate)} left")
        return plain(", ".join(parts + ([self.note] if self.note else [])))


def format_seconds(seconds: float) -> str:
    """A duration as people say it: 45 s, 12 min 5 s, 3 h 20 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@contextmanager
def progress(label: str, total: int | None, unit: str = "images", enabled: bool = True) -> Iterator[Progress]:
    """A `Progress` that is closed however the block ends."""
    bar = Progress(label, total, unit, enabled)
    try:
        yield bar
    finally:
        bar.close()
