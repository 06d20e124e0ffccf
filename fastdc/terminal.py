"""Bars on a terminal, one line for each piece of work that is inside another: sweep, run, epoch."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fastdc.text import plain

if TYPE_CHECKING:
    from fastdc.progress import Progress


NARROW = 60
"""With fewer columns there is room for numbers only."""


class _Console(Console):
    """A console that leaves the cursor visible: a process that is killed could not bring it back."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


class LiveBars:
    """The open bars of a process at the bottom of its terminal; messages go above them.

    Nothing here runs by itself: the work that advances draws. What cannot be drawn is given up without a word.

    Args:
        stream: the terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._console = _Console(file=stream, highlight=False, markup=False, emoji=False)
        self._live: Live | None = None
        self._bars: list[Progress] = []

    @property
    def shown(self) -> bool:
        """Whether bars are on the screen."""
        return self._live is not None

    def open(self, bar: "Progress") -> None:
        """Draw a further bar, inside those that are open."""
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
        """Draw all as they stand now."""
        if self._live is not None:
            self._safely(self._live.refresh)

    def close(self, bar: "Progress") -> bool:
        """Take a bar away; whether it was the outermost, so that its last line is worth keeping."""
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
        """A line above the bars; False where nobody can read it."""
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
        """A row for each bar and for the part within it, and below them what the bar has to note."""
        width = self._console.width
        longest = max((2 * depth + len(bar.label) for depth, bar in enumerate(self._bars)), default=0)
        rows: list[RenderableType] = []
        for number, bar in enumerate(self._bars):
            depth = min(number, 1) if bar.beside else number
            indent, size = "  " * depth, (min(44, width // 3, longest), min(24, width // 6) if width >= NARROW else 0)
            rows.append(_row(indent + bar.label, bar.done, bar.total, _brief(bar.figures()), size, width))
            if bar.inner and bar.inner > 1:
                within = f"{bar.done % bar.inner:,}/{bar.inner:,} {bar.unit}"
                rows.append(_row(f"{indent}  epoch", bar.done % bar.inner, bar.inner, within, size, width))
            if bar.note:
                rows.append(_text(f"{indent}  {bar.note}"))
        return Group(*rows)


def _row(label: str, done: int, total: int | None, figures: str, size: tuple[int, int], width: int) -> Table:
    """No wider than its text: a terminal that is made narrower would wrap what fills its lines."""
    row = Table.grid(padding=(0, 1))
    row.add_column(width=size[0], no_wrap=True, overflow="ellipsis")
    cells: list[RenderableType] = [_text(label), _text(figures)]
    if size[1]:
        row.add_column(width=size[1])
        cells.insert(1, ProgressBar(total=total, completed=done, width=size[1], pulse=total is None))
    room = width - sum(size) - len(cells) + 1
    row.add_column(width=max(1, min(len(figures), room)), no_wrap=True, overflow="ellipsis")
    row.add_row(*cells)
    return row


def _brief(figures: list[str]) -> str:
    """What counts most comes first: a narrow window cuts the end off."""
    done, *rest = figures
    return ", ".join([done, *reversed(rest)])


def _text(text: str) -> Text:
    return Text(plain(text), no_wrap=True, overflow="ellipsis")
