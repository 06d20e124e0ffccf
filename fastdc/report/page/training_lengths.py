"""Draw accuracy against the number of training epochs: one line for each method, over rows that differ only in epochs.

Each point is the mean of trainings of that length. The course within one training is drawn by `run_details`.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

from fastdc.common.text import plain
from fastdc.report.comparable import Epoch, Group, scores_of, setting_of
from fastdc.report.page.charts import Point, Series, linear_axis, log_axis, scatter
from fastdc.report.page.run_details import Figure
from fastdc.report.paired_tests import mean_interval
from fastdc.report.row_texts import ipc_text, machines_differ, title
from fastdc.report.rows import Row
from fastdc.train.protocol_names import without_epochs

MOST_TICKS = 8
CAPTIONS: dict[Epoch, str] = {
    "last": "Accuracy against training epochs, last epoch",
    "best": "Best epoch of each run: overstated, never ranked",
}


class Lengths(NamedTuple):
    """Charts of one setting, whose protocols differ only in epochs.

    `methods` are the numbers of those that are drawn. `blocks` holds each IPC with its charts.
    """

    title: str
    dataset: str
    protocols: list[str]
    arch: str
    methods: list[int]
    blocks: list[tuple[str, list[Figure]]]


def make_lengths(groups: Sequence[Group], methods: Sequence[str]) -> list[Lengths]:
    """Return the charts of every setting in which a method was trained for different numbers of epochs.

    Args:
        groups: from `group_rows`.
        methods: names on the page, by number.
    """
    with_machine = machines_differ([row for row, _ in groups])
    families: dict[tuple[Any, ...], list[Group]] = {}
    for row, runs in groups:
        if row.n and row.epochs:
            key = (*setting_of(row, ("method", "protocol", "ipc")), without_epochs(row.protocol))
            families.setdefault(key, []).append((row, runs))
    return [made for family in families.values() if (made := _lengths(family, methods, with_machine)) is not None]


def _lengths(family: list[Group], methods: Sequence[str], with_machine: bool) -> Lengths | None:
    """Return the charts of one setting; None if no method has two numbers of epochs at one IPC."""
    ordered = sorted(family, key=lambda group: (group[0].ipc is None, group[0].ipc or 0, group[0].epochs or 0))
    drawn: list[Row] = []
    blocks = []
    for ipc, same in groupby(ordered, key=lambda group: ipc_text(group[0])):
        block = list(same)
        if len({(row.method, row.epochs) for row, _ in block}) > len({row.method for row, _ in block}):
            blocks.append((ipc, _figures(block, methods)))
            drawn += [row for row, _ in block]
    if not blocks:
        return None
    first = drawn[0]
    heading = title(first.model_copy(update={"protocol": without_epochs(first.protocol)}), with_machine)
    protocols = list(dict.fromkeys(plain(row.protocol) for row in drawn))
    numbers = sorted({methods.index(plain(row.method)) for row in drawn})
    return Lengths(heading, plain(first.dataset), protocols, plain(first.arch), numbers, blocks)


def _figures(block: list[Group], methods: Sequence[str]) -> list[Figure]:
    """Return the charts of the last and of the best epoch at one IPC, on the same axes."""
    counts = sorted({row.epochs for row, _ in block if row.epochs})
    x = log_axis("epochs", counts, lambda value: f"{value:g}", counts if len(counts) <= MOST_TICKS else ())
    charts: dict[str, list[Series]] = {}
    for epoch, caption in CAPTIONS.items():
        lines: dict[int, list[Point]] = {}
        for row, runs in block:
            scores = list(scores_of(runs, epoch).values())
            lines.setdefault(methods.index(plain(row.method)), []).append(_point(row, scores))
        charts[caption] = [Series(method, points) for method, points in sorted(lines.items())]
    points = [point for series in charts.values() for one in series for point in one.points]
    ends = [point.y + sign * point.spread for point in points for sign in (-1, 1)]
    y = linear_axis("top-1, %", [min(max(end, 0.0), 100.0) for end in ends])
    return [Figure(caption, scatter(x, y, series)) for caption, series in charts.items()]


def _point(row: Row, scores: Sequence[float]) -> Point:
    """Return the mean over seeds at the row's epochs, with its 95 % interval as spread."""
    mean = sum(scores) / len(scores)
    low, high = mean_interval(scores)
    interval = "one seed" if low is None or high is None else f"95 % interval {low:.2f} to {high:.2f}, n = {row.n}"
    text = f"{row.method}, IPC {ipc_text(row)}, {row.epochs} epochs: {mean:.2f} % ({interval})"
    return Point(float(row.epochs or 0), mean, 0.0 if high is None else high - mean, plain(text))
