"""Draw progress bars on a terminal, one line for each level of nested work: sweep, run, epoch."""

from collections.abc import Callable
from typing import Protocol, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fastdc.common.text import plain

NARROW = 60
"""Columns below which bars are left out and only numbers are shown."""


class Work(Protocol):
    """State of a piece of work that a bar shows; `fastdc.common.log.Progress` has it."""

    label: str
    done: int
    total: int | None
    unit: str
    inner: int | None
    note: str
    enabled: bool
    beside: bool

    def figures(self) -> list[str]:
        """Return texts for the work done, its rate and the time left."""


class _Console(Console):
    """Console that never hides the cursor, because a killed process could not restore it."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


class LiveBars:
    """Open bars of a process at the bottom of its terminal, with messages printed above them.

    There is no drawing thread: each advance of the work draws. If drawing fails, the bars are dropped silently.

    Args:
        stream: the terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._console = _Console(file=stream, highlight=False, markup=False, emoji=False)
        self._live: Live | None = None
        self._bars: list[Work] = []

    @property
    def shown(self) -> bool:
        """Return whether bars are on the screen."""
        return self._live is not None

    def open(self, bar: Work) -> None:
        """Add a bar inside the open ones, and draw."""
        self._bars.append(bar)
        if self._live is None:
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                get_renderable=self._render,
            )
            self._safely(self._live.start)
        self.refresh()

    def refresh(self) -> None:
        """Redraw all open bars."""
        if self._live is not None:
            self._safely(self._live.refresh)

    def close(self, bar: Work) -> bool:
        """Remove a bar; return whether it was the outermost, whose final line should stay on the screen."""
        if bar not in self._bars:
            return False
        outermost = self._bars[0] is bar
        self._bars.remove(bar)
        if self._bars:
            self.refresh()
        elif self._live is not None:
            live, self._live = self._live, None
            self._safely(live.stop)
        return outermost

    def print(self, text: str) -> bool:
        """Print a line above the bars; return False if the terminal is gone."""
        return self._safely(lambda: self._console.print(Text(text), soft_wrap=True))

    def _safely(self, draw: Callable[[], object]) -> bool:
        try:
            draw()
        except (OSError, ValueError):  # the terminal is gone
            for bar in self._bars:
                bar.enabled = False
            self._live = None
            return False
        return True

    def _render(self) -> RenderableType:
        """Return a row for each bar, one for its inner part, and its note below them."""
        width = self._console.width
        longest = max((2 * depth + len(bar.label) for depth, bar in enumerate(self._bars)), default=0)
        rows: list[RenderableType] = []
        for number, bar in enumerate(self._bars):
            depth = min(number, 1) if bar.beside else number  # parallel runs share the level below the sweep
            indent, size = "  " * depth, (min(44, width // 3, longest), min(24, width // 6) if width >= NARROW else 0)
            rows.append(_row(indent + bar.label, bar.done, bar.total, _brief(bar.figures()), size, width))
            if bar.inner and bar.inner > 1:
                within = f"{bar.done % bar.inner:,}/{bar.inner:,} {bar.unit}"
                rows.append(_row(f"{indent}  epoch", bar.done % bar.inner, bar.inner, within, size, width))
            if bar.note:
                rows.append(_text(f"{indent}  {bar.note}"))
        return Group(*rows)


def _row(label: str, done: int, total: int | None, figures: str, size: tuple[int, int], width: int) -> Table:
    """Return a row no wider than its text, because full-width lines would wrap when the terminal is narrowed."""
    row = Table.grid(padding=(0, 1))
    row.add_column(width=size[0], no_wrap=True, overflow="ellipsis")
    cells: list[RenderableType] = [_text(label), _text(figures)]
    if size[1]:
        row.add_column(width=size[1])
        cells.insert(1, ProgressBar(total=total, completed=done, width=size[1], pulse=total is None))
    room = width - sum(size) - len(cells) + 1  # one blank between cells
    row.add_column(width=max(1, min(len(figures), room)), no_wrap=True, overflow="ellipsis")
    row.add_row(*cells)
    return row


def _brief(figures: list[str]) -> str:
    """Join figures with the time left before the rates, because a narrow window cuts off the end."""
    done, *rest = figures
    return ", ".join([done, *reversed(rest)])


def _text(text: str) -> Text:
    return Text(plain(text), no_wrap=True, overflow="ellipsis")
