"""Make the page's leaderboard and charts: comparable rows, with significance groups."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from fastdc.common.text import format_bytes, plain
from fastdc.report.group_tests import Sample, standings
from fastdc.report.page.charts import Axis, Point, Series, linear_axis, log_axis, scatter
from fastdc.report.page.gallery import StoredSets
from fastdc.report.page.run_details import Figure, Heat, Means, class_names, curve_figures, per_class
from fastdc.report.ranking import places_of
from fastdc.report.row_texts import UNKNOWN, duration, ipc_text, label_size, mixed
from fastdc.report.rows import Row
from fastdc.report.table import tables
from fastdc.report.table_notes import notes
from fastdc.sweep.store.results import Record


class Line(NamedTuple):
    """Line of the leaderboard, ready to show.

    Attributes:
        row: its numbers. method: number of its method on this page. group: significance letters. best: whether it is
            the best or not significantly different from it. cells: text by column.
        left, middle, right: mean - std, mean, mean + std on a scale of 0..100 that the lines of one IPC share; None
            without a result.
    """

    row: Row
    method: int
    group: str
    best: bool
    cells: dict[str, str]
    left: float | None
    middle: float | None
    right: float | None


class Block(NamedTuple):
    """Methods that may be ranked: those of one table at one IPC. `tied`: no two of them differ significantly."""

    ipc: str
    lines: list[Line]
    heat: Heat | None
    tied: bool
    curves: list[Figure]


class Setup(NamedTuple):
    """Results of one data set, protocol and network. `methods` are the numbers of those that have results."""

    title: str
    dataset: str
    protocol: str
    arch: str
    methods: list[int]
    blocks: list[Block]
    charts: list[Figure]
    notes: list[str]


def make_setups(
    pairs: Sequence[tuple[Row, list[Record]]],
    methods: Sequence[str],
    ipcs: Sequence[str],
    means: Means,
    sets: StoredSets,
) -> list[Setup]:
    """Return every table of the sweep with its charts.

    Args:
        pairs: from `group_rows`. methods, ipcs: names and IPC on the page, by number. means: reader of run details.
        sets: stored sets, for the names of the classes.
    """
    records = {id(row): runs for row, runs in pairs}  # by identity: `tables` returns the same row objects
    setups = []
    for title, rows in tables([row for row, _ in pairs]):
        names = class_names(sets, (records[id(row)] for row in rows))
        blocks = []
        for ipc, same in groupby(rows, key=ipc_text):
            own = list(same)
            places = places_of((row, records[id(row)]) for row in own)
            lines = _lines(own, methods, places)
            found = [(line.row, line.method, means(records[id(line.row)])) for line in lines if line.row.n]
            letters = [line.group for line in lines if line.group]
            tied = len(letters) > 1 and len(set(letters)) == 1
            blocks.append(Block(ipc, lines, per_class(found, names), tied, curve_figures(found)))
        dataset, protocol, arch = (plain(text) for text in (rows[0].dataset, rows[0].protocol, rows[0].arch))
        used = list(dict.fromkeys(methods.index(plain(row.method)) for row in rows if row.n))
        charts = _charts([row for row in rows if row.n], methods, ipcs)
        setups.append(Setup(title, dataset, protocol, arch, used, blocks, charts, _notes(rows)))
    return setups


def _notes(rows: list[Row]) -> list[str]:
    """Return the table's notes without the reasons of rows that lack a result, because those rows show them."""
    return notes([row if row.n else row.model_copy(update={"reason": None}) for row in rows])


def _lines(rows: list[Row], methods: Sequence[str], places: dict[str, str]) -> list[Line]:
    """Return the lines of one IPC, with letters, places and a shared scale."""
    standing = standings([sample_of(row) for row in rows])
    spans = [
        (row.top1_mean - (row.top1_std or 0.0), row.top1_mean + (row.top1_std or 0.0))
        for row in rows
        if row.top1_mean is not None
    ]
    low, high = (min(low for low, _ in spans), max(high for _, high in spans)) if spans else (0.0, 1.0)
    lines = []
    for row, (group, best) in zip(rows, standing, strict=True):
        scale: Sequence[float | None] = (None, None, None)
        if row.top1_mean is not None:
            spread = row.top1_std or 0.0
            values = (row.top1_mean - spread, row.top1_mean, row.top1_mean + spread)
            # 4..96 keeps whiskers and dots inside the cell.
            scale = [round(4 + 92 * (value - low) / (high - low or 1.0), 1) for value in values]
        lines.append(
            Line(
                row,
                methods.index(plain(row.method)),
                group,
                best,
                _cells(row) | {"places": places.get(row.method, "")},
                *scale,
            )
        )
    return lines


def sample_of(row: Row) -> Sample | None:
    """Return the sample that the significance test compares; None if the row has no spread."""
    if row.top1_mean is None or row.top1_std is None:
        return None
    return Sample(row.top1_mean, row.top1_std, row.n)


def _cells(row: Row) -> dict[str, str]:
    """Return a row's texts by column."""
    cells = {"method": plain(row.shown), "reason": plain(row.reason or "")}
    cells["n"] = str(row.n) if row.n == row.seeds else f"{row.n}/{row.seeds}"
    if row.top1_mean is None:
        return cells
    return cells | {
        "top1": f"{row.top1_mean:.2f}",
        "std": ("" if row.top1_std is None else f"± {row.top1_std:.2f}") + mixed(row),
        "images": format_bytes(row.image_bytes or 0),
        "labels": label_size(row),
        "compress": UNKNOWN if row.compress_seconds is None else duration(row.compress_seconds),
        "train": duration(row.train_seconds or 0.0),
        "steps": f"{row.steps or 0:,}",
    }


def _charts(rows: list[Row], methods: Sequence[str], ipcs: Sequence[str]) -> list[Figure]:
    """Return charts of accuracy against IPC (if there are two or more), stored bytes and seconds to compress."""
    compressed = [row for row in rows if row.ipc is not None]
    if not compressed:
        return []
    y = _accuracy_axis(rows)
    whole = [Point(0, row.top1_mean or 0.0, note=_tooltip(row)) for row in rows if row.ipc is None]
    counts = sorted({row.ipc for row in compressed if row.ipc is not None})
    figures = []
    if len(counts) > 1:
        x = log_axis("images per class", counts, lambda value: f"{value:g}", counts)
        series = _series(compressed, methods, ipcs, [float(row.ipc or 0) for row in compressed])
        figures.append(_figure("Accuracy against IPC", x, y, series, whole))
    stored = [float((row.image_bytes or 0) + (row.label_bytes or 0)) or 1.0 for row in compressed]  # log axis: no 0
    x = log_axis("stored bytes, images and labels", stored, lambda value: f"{_short(value)}B")
    caption = "Accuracy against stored bytes"
    if any(row.labels == "online" for row in compressed):
        caption += " (outlines: labels not stored, counted as if they were)"
    figures.append(_figure(caption, x, y, _series(compressed, methods, ipcs, stored), whole))
    timed = [row for row in compressed if row.compress_seconds is not None]  # what external sets took is unknown
    if timed:
        seconds = [max(row.compress_seconds or 0.0, 1e-3) for row in timed]
        x = log_axis("seconds to compress", seconds, lambda value: f"{value:g}" if value < 1e4 else _short(value))
        caption = "Accuracy against time to compress"
        figures.append(_figure(caption, x, y, _series(timed, methods, ipcs, seconds), whole))
    return figures


def _figure(caption: str, x: Axis, y: Axis, series: list[Series], whole: list[Point]) -> Figure:
    caption += "; dashed: whole set" if whole else ""
    return Figure(caption, scatter(x, y, series, whole))


def _accuracy_axis(rows: list[Row]) -> Axis:
    ends = [(row.top1_mean or 0.0) + sign * (row.top1_std or 0.0) for row in rows for sign in (-1, 1)]
    return linear_axis("top-1, %", ends)


def _series(rows: list[Row], methods: Sequence[str], ipcs: Sequence[str], places: list[float]) -> list[Series]:
    series: dict[int, list[Point]] = {}
    for row, x in zip(rows, places, strict=True):
        point = Point(
            x,
            row.top1_mean or 0.0,
            row.top1_std or 0.0,
            _tooltip(row),
            ipcs.index(ipc_text(row)),
            hollow=row.labels == "online",
        )
        series.setdefault(methods.index(plain(row.method)), []).append(point)
    return [Series(method, points) for method, points in series.items()]


def _tooltip(row: Row) -> str:
    """Return the tooltip of a point."""
    cells = _cells(row)
    accuracy = f"{cells['top1']} {cells['std']}".strip()
    bytes_ = f"images {cells['images']}, labels {cells['labels']}"
    bytes_ += "" if row.compress_seconds is None else f", compressed in {cells['compress']}"
    return f"{cells['method']}, IPC {ipc_text(row)}: {accuracy} % (n = {cells['n']}), {bytes_}"


def _short(value: float) -> str:
    """Return a round number of an axis with its SI prefix: 200 k, 1 M."""
    for unit, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:g} {unit}"
    return f"{value:g} "  # a blank in place of the prefix, before the unit
