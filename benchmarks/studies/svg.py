"""Draw standalone SVG files: dots with intervals, and lines with a legend. Equal input gives equal bytes.

They are written as text without a chart library, whose bytes would change with its version and fonts. Figures must be
equal on every machine. They contain no time and no random ids, and coordinates have one decimal.
"""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from fastdc.report.page.charts import Axis, linear_axis

WIDTH, LABEL, RIGHT, STEP, FOOT = 760, 300, 24, 20, 44
LETTER = 6.5
"""Average width of a letter in pixels."""
COLOURS = ("#4269d0", "#e08a00", "#e5484d", "#20a39e", "#3ca951", "#e55fa8", "#8e6bd8", "#7fa5e8", "#9c6b4e", "#8a94a0")
DASHES = ("", "6 3", "2 3", "8 3 2 3")


class Dot(NamedTuple):
    """Mean with half the width of its interval (None: no interval), on its own line; a heading has no mean."""

    label: str
    mean: float | None = None
    half: float | None = None


class Line(NamedTuple):
    """Named curve through points (x, y) from left to right."""

    label: str
    points: list[tuple[float, float]]


def dots(title: str, label: str, lines: Sequence[Dot]) -> str:
    """Draw one line for each dot, with labels at the left; the axis below spans all intervals."""
    ends = [line.mean + sign * (line.half or 0.0) for line in lines if line.mean is not None for sign in (-1, 1)]
    axis, bottom = linear_axis(label, ends), 34 + STEP * len(lines)
    longest = max((len(line.label) for line in lines if line.mean is not None), default=0)
    left = max(LABEL, round(30 + LETTER * longest))
    right = left + WIDTH - RIGHT - LABEL
    parts = [_text(10, 20, title, "title"), *_across(axis, left, right, 28, bottom)]
    for number, line in enumerate(lines):
        middle = 28 + STEP * number + STEP / 2
        parts.append(
            _text(10 if line.mean is None else 22, middle + 4, line.label, "head" if line.mean is None else "")
        )
        if line.mean is not None:
            parts += _dot(axis, line.mean, line.half, (left, right), middle)
    return _svg(title, bottom + FOOT, parts, right + RIGHT)


def _dot(axis: Axis, mean: float, half: float | None, sides: tuple[float, float], middle: float) -> list[str]:
    place = _x(axis, mean, *sides)
    parts = [f'<circle cx="{place:.1f}" cy="{middle:.1f}" r="4" fill="{COLOURS[0]}"/>']
    if half is not None:
        ends = [_x(axis, mean + sign * half, *sides) for sign in (-1, 1)]
        parts.insert(0, _stroke([(ends[0], middle), (ends[1], middle)], COLOURS[0], 2))
    return parts


def lines(title: str, labels: tuple[str, str], series: Sequence[Line]) -> str:
    """Draw curves over a common axis, with a legend at the right; `labels` are those of x and y."""
    top, bottom, left, right = 34, 34 + max(260, 18 * len(series)), 58, WIDTH - LABEL
    x = linear_axis(labels[0], [x for one in series for x, _ in one.points])
    y = linear_axis(labels[1], [y for one in series for _, y in one.points])
    parts = [_text(10, 20, title, "title"), *_across(x, left, right, top, bottom), *_up(y, left, right, top, bottom)]
    for number, one in enumerate(series):
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]
        places = [(_x(x, a, left, right), bottom - (bottom - top) * y.place(b)) for a, b in one.points]
        height = top + 10 + 18 * number
        parts.append(_stroke(places, colour, 2, dash))
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in places]
        parts.append(_stroke([(right + 16, height), (right + 40, height)], colour, 2, dash))
        parts.append(_text(right + 46, height + 4, one.label))
    return _svg(title, bottom + FOOT, parts)


def _across(axis: Axis, left: float, right: float, top: float, bottom: float) -> list[str]:
    """Draw vertical grid lines with their numbers, and the axis label below."""
    parts = []
    for value, text in axis.ticks:
        place = _x(axis, value, left, right)
        parts += [_stroke([(place, top), (place, bottom)], "#dddddd", 1), _text(place, bottom + 16, text, "tick")]
    return [*parts, _text((left + right) / 2, bottom + 36, axis.label, "tick")]


def _up(axis: Axis, left: float, right: float, top: float, bottom: float) -> list[str]:
    parts = []
    for value, text in axis.ticks:
        height = bottom - (bottom - top) * axis.place(value)
        parts += [_stroke([(left, height), (right, height)], "#dddddd", 1), _text(left - 6, height + 4, text, "side")]
    middle = (top + bottom) / 2
    turned = f'<text class="tick" transform="translate(14 {middle:.1f}) rotate(-90)">{escape(axis.label)}</text>'
    return [*parts, turned]


def _x(axis: Axis, value: float, left: float, right: float) -> float:
    return left + (right - left) * axis.place(value)


def _stroke(points: Sequence[tuple[float, float]], colour: str, width: int, dash: str = "") -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="{width}"{dashed}/>'


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{named}>{escape(text)}</text>'


def _svg(title: str, height: float, parts: Sequence[str], width: int = WIDTH) -> str:
    style = (
        "text { font: 12px sans-serif; fill: #222222 } .title { font-weight: bold; font-size: 14px } "
        ".head { font-weight: bold } .tick { text-anchor: middle } .side { text-anchor: end }"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" role="img">'
    ground = f'<rect width="{width}" height="{height:.0f}" fill="white"/>'
    return "\n".join([head, f"<title>{escape(title)}</title>", f"<style>{style}</style>", ground, *parts, "</svg>\n"])
