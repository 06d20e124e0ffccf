"""Draw small charts as SVG text.

A chart library that draws in the page would evaluate code, which the page's content security policy forbids. Inline
styles are forbidden too, so everything uses presentation attributes and classes of page.css.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from markupsafe import Markup

WIDTH, HEIGHT = 420, 280
LEFT, RIGHT, TOP, BOTTOM = 44, 14, 10, 42
COLOURS = 10  # k0..k9 in page.css; further methods reuse them with another marker and dash
SHAPES = (
    '<circle cx="{x}" cy="{y}" r="{r}"/>',
    '<path d="M{x} {y}m-{r} -{r}h{d}v{d}h-{d}z"/>',
    '<path d="M{x} {y}m0 -{r}l{r} {d}h-{d}z"/>',
    '<path d="M{x} {y}m0 -{r}l{r} {r}l-{r} {r}l-{r} -{r}z"/>',
)


class Point(NamedTuple):
    """Result in a chart.

    Attributes:
        x, y: position in values of the axes. note: tooltip.
        spread: half the length of the bar around y: a standard deviation, or half an interval.
        ipc: number of its filter choice; None if no filter applies. hollow: drawn as an outline.
    """

    x: float
    y: float
    spread: float = 0.0
    note: str = ""
    ipc: int | None = None
    hollow: bool = False


class Series(NamedTuple):
    """Points of one method; `method` is its number on the page."""

    method: int
    points: list[Point]
    note: str = ""


class Axis(NamedTuple):
    """Axis of a chart.

    Attributes:
        label: quantity with its unit. low, high: its ends. log: whether it is logarithmic. ticks: value and text of
            each tick.
    """

    label: str
    low: float
    high: float
    log: bool
    ticks: list[tuple[float, str]]

    def place(self, value: float) -> float:
        """Return the position of a value as a share of the axis, 0 at its low end and 1 at its high end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear_axis(label: str, values: Sequence[float]) -> Axis:
    """Return an axis that holds all values, with about five round ticks."""
    low, high = min(values), max(values)
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 1.0, high + 1.0
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 6)
    # The slack keeps a value that is itself a tick from adding another one through rounding.
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [(index * step, f"{index * step:.6g}") for index in range(first, last + 1)]
    return Axis(label, first * step, last * step, False, ticks)


def log_axis(label: str, values: Sequence[float], text: Callable[[float], str], ticks: Sequence[float] = ()) -> Axis:
    """Return a logarithmic axis that holds all values, with a margin of 25 % at both ends.

    Ticks that are not given are round numbers. On an axis over two decades or more they are powers of ten, at most
    seven.
    """
    low, high = min(values) / 1.25, max(values) * 1.25
    if not ticks and high / low < 10:
        ticks = [tick for tick, _ in linear_axis(label, (low, high)).ticks if low <= tick <= high]
    elif not ticks:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        factors = (1, 2, 5) if high / low < 100 else (1,)
        ticks = [factor * 10.0**power for power in decades for factor in factors]
        ticks = [tick for tick in ticks if low <= tick <= high]
        ticks = ticks[:: -(-len(ticks) // 7)]  # every n-th tick, n = ceil(count / 7)
    return Axis(label, low, high, True, [(tick, text(tick)) for tick in ticks])


def marker(method: int, x: float, y: float, radius: float = 4.0) -> Markup:
    """Return the marker of a method: its shape; the colour comes from class k0..k9 of an enclosing element."""
    shape = SHAPES[method // COLOURS % len(SHAPES)]
    return Markup(shape.format(x=_round(x), y=_round(y), r=_round(radius), d=_round(2 * radius)))


def key(method: int) -> Markup:
    """Return a method's marker for tables and legends."""
    return Markup('<svg class="key k{}" viewBox="0 0 10 10">{}</svg>').format(method % COLOURS, marker(method, 5, 5))


def scatter(x: Axis, y: Axis, series: Sequence[Series], reference: Sequence[Point] = ()) -> Markup:
    """Return a chart of results with their spread; points of one method are joined.

    Each of the `reference` points (the whole set) is a horizontal line.
    """
    parts = [_frame(x, y)]
    for point in reference:
        height = _round(_y(y, point.y))
        parts.append(Markup('<g class="reference" data-note="{}">').format(point.note))
        parts.append(Markup('<line x1="{}" x2="{}" y1="{}" y2="{}"/></g>').format(LEFT, WIDTH - RIGHT, height, height))
    for one in series:
        parts.append(Markup('<g class="series k{}" data-m="{}">').format(one.method % COLOURS, one.method))
        if len(one.points) > 1:
            parts.append(_join(x, y, one))
        parts += [_mark(x, y, one.method, point) for point in one.points]
        parts.append(Markup("</g>"))
    return _svg(y, x, parts)


def curves(x: Axis, y: Axis, series: Sequence[Series]) -> Markup:
    """Return a chart with one line for each method."""
    parts = [_frame(x, y)]
    for one in series:
        group = Markup('<g class="series k{}" data-m="{}" data-note="{}">')
        parts += [group.format(one.method % COLOURS, one.method, one.note), _join(x, y, one), Markup("</g>")]
    return _svg(y, x, parts)


def _svg(y: Axis, x: Axis, parts: list[Markup]) -> Markup:
    head = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{} against {}">')
    return head.format(WIDTH, HEIGHT, y.label, x.label) + Markup("").join(parts) + Markup("</svg>")


def _frame(x: Axis, y: Axis) -> Markup:
    parts = []
    for value, text in y.ticks:
        height = _round(_y(y, value))
        line = Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/><text class="y" x="{}" y="{}">{}</text>')
        parts.append(line.format(LEFT, WIDTH - RIGHT, height, height, LEFT - 6, height + 4, text))
    for value, text in x.ticks:
        place = _round(_x(x, value))
        tick = Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/><text class="x" x="{}" y="{}">{}</text>')
        parts.append(tick.format(place, place, HEIGHT - BOTTOM, HEIGHT - BOTTOM + 4, place, HEIGHT - BOTTOM + 17, text))
    label = Markup('<text class="x label" x="{}" y="{}">{}</text>')
    parts.append(label.format((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x.label))
    return Markup("").join(parts)


def _mark(x: Axis, y: Axis, method: int, point: Point) -> Markup:
    across, height = _x(x, point.x), _y(y, point.y)
    ipc = Markup("") if point.ipc is None else Markup(' data-ipc="{}"').format(point.ipc)
    hollow = Markup(" hollow") if point.hollow else Markup("")
    parts = [Markup('<g class="mark{}" data-note="{}"{}>').format(hollow, point.note, ipc)]
    if point.spread:
        ends = [_round(_y(y, min(max(point.y + sign * point.spread, y.low), y.high))) for sign in (-1, 1)]
        parts.append(Markup('<line x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(_round(across), *ends))
    touch = Markup('<circle class="touch" cx="{}" cy="{}" r="11"/>').format(_round(across), _round(height))
    return Markup("").join([*parts, marker(method, across, height), touch, Markup("</g>")])


def _join(x: Axis, y: Axis, series: Series) -> Markup:
    places = " ".join(f"{_round(_x(x, point.x))},{_round(_y(y, point.y))}" for point in series.points)
    dash = f" d{series.method // COLOURS % 4}"
    return Markup('<polyline class="join{}" points="{}"/>').format(dash, places)


def _x(axis: Axis, value: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * axis.place(value)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * axis.place(value)


def _round(value: float) -> float:
    """Round to a tenth of a pixel, which keeps the page small."""
    return round(value, 1)
