"""Show progress on stderr: live bars on a terminal, periodic plain lines elsewhere, JSON lines for programs."""

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TextIO

from fastdc.common.text import plain

if TYPE_CHECKING:
    from fastdc.common.bars import LiveBars

PLAIN_INTERVAL_SECONDS = 10.0
LIVE_INTERVAL_SECONDS = 0.2

LogStyle = Literal["auto", "plain", "json"]

_style: LogStyle = "auto"
_bars: "LiveBars | None" = None
_hiding = 0  # open blocks that hide progress; a count, because blocks of two threads may overlap


def choose_log(style: LogStyle) -> None:
    """Set the form of this process's log; `auto` is live bars on a terminal and plain lines elsewhere."""
    global _style
    _style = style


def log_style() -> LogStyle:
    """Return the form that `choose_log` set."""
    return _style


@contextmanager
def progress_shown(shown: bool) -> Iterator[None]:
    """Show progress of the work in the block, or hide it; a block inside a hidden one stays hidden."""
    global _hiding
    _hiding += not shown
    try:
        yield
    finally:
        _hiding -= not shown


def shows_progress() -> bool:
    """Return whether progress is shown here, see `progress_shown`."""
    return not _hiding


def error_stream() -> TextIO | None:
    """Return stderr; None if the process was started with it closed."""
    return sys.stderr


def write_error(text: str) -> bool:
    """Write text to stderr unchanged; return False if that fails, which must not end the work."""
    stream = error_stream()
    if stream is None:
        return False
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):  # ValueError: Python code closed the stream
        return False
    return True


def write_json(value: dict[str, Any]) -> bool:
    """Write one JSON object as a line on stderr; NaN and infinity become null. Return False if writing fails."""
    return write_error(json.dumps(_finite(value), allow_nan=False, default=str) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def log_message(text: str, *, in_events: bool = False) -> bool:
    """Write a message to stderr as one line without control characters; return False if writing fails.

    Args:
        in_events: whether an event reports the same to programs; the JSON log then leaves the message out.
    """
    text = plain(" ".join(text.split()))
    if _style == "json":
        return in_events or write_json({"time": round(time.time(), 3), "event": "message", "text": text})
    if _bars is not None and _bars.shown:
        return _bars.print(text)
    return write_error(f"{text}\n")


def live_bars() -> "LiveBars | None":
    """Return the bars of this process's terminal; None if stderr is no terminal or cannot move its cursor."""
    global _bars
    stream = error_stream()
    if _style != "auto" or stream is None or stream.closed or not stream.isatty():
        return None
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return None
    if _bars is None or _bars.stream is not stream:
        from fastdc.common.bars import LiveBars

        _bars = LiveBars(stream)
    return _bars


class Progress:
    """Counter of finished work that reports its rate and the time left.

    Args:
        label: name of the work ("write train.beton").
        total: number of units; None if unknown.
        unit: plural name of the unit ("images").
        inner: units of one part of the work (steps of an epoch), which gets its own bar on a terminal.

    Attributes:
        enabled: whether it is shown; False inside `progress_shown(False)`, and once stderr cannot be written.
        note: text shown after the rate.
        rated: False if units differ too much for a rate to mean anything.
        ends: expected end by `time.monotonic`, None if unknown; read only if `rated` is False.
        beside: whether the work runs in parallel with others of its kind, not inside the bar above.
    """

    def __init__(self, label: str, total: int | None, unit: str = "images", inner: int | None = None) -> None:
        self.label, self.total, self.unit, self.inner = label, total, unit, inner
        self.enabled = shows_progress()
        self.done = self._skipped = self._images = 0
        self.note = ""
        self.ends: float | None = None
        self.rated = True
        self.beside = False
        self._start = self._last = time.monotonic()
        self._live = live_bars() if self.enabled else None
        if self._live is not None:
            self._live.open(self)

    def advance(self, count: int = 1, note: str = "", images: int = 0) -> None:
        """Add `count` finished units, made of `images` images; `note` (such as the loss) is shown after the rate."""
        self.done += count
        self._images += images
        self.note = note
        now = time.monotonic()
        if self.enabled and now - self._last >= (
            PLAIN_INTERVAL_SECONDS if self._live is None else LIVE_INTERVAL_SECONDS
        ):
            self._last = now
            self._show(now)

    def skip(self, count: int) -> None:
        """Add `count` units that an earlier run finished; they are excluded from this run's rate."""
        self.done += count
        self._skipped += count

    def close(self) -> None:
        """Show the final line, if a line was shown before; on a terminal, only the outermost bar leaves one."""
        if self._live is not None:
            if self._live.close(self) and self.enabled:
                write_error(f"{self.line()}\n")
        elif self.enabled and self._last > self._start:  # `_last` moves only when a line is shown
            self._show(time.monotonic())

    def _show(self, now: float) -> None:
        if self._live is not None:
            self._live.refresh()
        elif _style == "json":
            self.enabled = write_json(self._event(now))
        else:
            self.enabled = write_error(f"{self.line(now)}\n")

    def rate(self, now: float | None = None) -> float:
        """Return units per second in this process."""
        return (self.done - self._skipped) / self._seconds(now)

    def left(self, now: float | None = None) -> float | None:
        """Return the seconds left; None if unknown."""
        if not self.rated:
            return None if self.ends is None else max(0.0, self.ends - (time.monotonic() if now is None else now))
        rate = self.rate(now)
        return (self.total - self.done) / rate if self.total and rate > 0 else None

    def figures(self, now: float | None = None) -> list[str]:
        """Return texts for the work done, its rate and the time left."""
        parts = [f"{self.done:,}" + (f"/{self.total:,}" if self.total else "") + f" {self.unit}"]
        if self.rated and self.done > self._skipped:
            parts.append(_rate(self.rate(now), self.unit))
        if self._images:
            parts.append(_rate(self._images / self._seconds(now), "images"))
        left = self.left(now)
        return parts + ([] if left is None else [f"{format_seconds(left)} left"])

    def line(self, now: float | None = None) -> str:
        """Return label, figures and note as one line."""
        parts = self.figures(now) + ([self.note] if self.note else [])
        return plain(f"{self.label}: {', '.join(parts)}")

    def _seconds(self, now: float | None) -> float:
        return max((time.monotonic() if now is None else now) - self._start, 1e-9)

    def _event(self, now: float) -> dict[str, Any]:
        """Return the same figures as a JSON event for programs."""
        event = {"time": round(time.time(), 3), "event": "progress", "task": self.label, "done": self.done}
        event |= {"total": self.total, "unit": self.unit, "per_second": round(self.rate(now), 3)}
        if self._images:
            event["images_per_second"] = round(self._images / self._seconds(now), 1)
        left = self.left(now)
        return {**event, "seconds_left": None if left is None else round(left, 1), "note": self.note}


def _rate(rate: float, unit: str) -> str:
    if 0 < rate < 0.1:
        return f"{rate * 60:,.1f} {unit}/min" if rate * 60 >= 1 else f"{rate * 3600:,.1f} {unit}/h"
    return f"{rate:,.1f} {unit}/s" if rate < 100 else f"{rate:,.0f} {unit}/s"


def format_seconds(seconds: float) -> str:
    """Return a duration for people: 45 s, 12 min 5 s, 3 h 20 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@contextmanager
def progress(label: str, total: int | None, unit: str = "images", inner: int | None = None) -> Iterator[Progress]:
    """Yield a `Progress` that is closed even if the block raises."""
    bar = Progress(label, total, unit, inner)
    try:
        yield bar
    finally:
        bar.close()
