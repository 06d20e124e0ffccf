"""Summarise the details of runs: accuracy of every class, and the course of training."""

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from markupsafe import Markup

from fastdc.common.errors import FastDCError
from fastdc.common.text import plain
from fastdc.report.page.charts import Point, Series, curves, linear_axis
from fastdc.report.page.gallery import StoredSets
from fastdc.report.read_results import Results
from fastdc.report.rows import Row, damage_named
from fastdc.sweep.store.results import Record

COLUMNS = 20  # most classes in the table; of more, those with the largest differences are shown
POINTS = 60  # most points of a curve, apart from its last
STEPS = (1.0, 3.0, 6.0, 10.0, 16.0)  # differences in percentage points at which the shade deepens
BASELINE = "random"


class Figure(NamedTuple):
    """Chart with its caption."""

    caption: str
    svg: Markup


class Course(NamedTuple):
    """Means over a row's runs: accuracy of each class in percent, and (epoch, value) of loss and of top-1.

    A class without validation images has None.
    """

    per_class: list[float | None]
    loss: list[tuple[float, float]]
    top1: list[tuple[float, float]]


Means = Callable[[list[Record]], Course]
Found = tuple[Row, int, Course]


class Heat(NamedTuple):
    """Table of accuracies by class.

    Attributes:
        classes: names of the columns. baseline: reference of the differences. of: total number of classes.
        lines: number of a method (-1: the mean of all), and for each class a text and a shade -5..5. The first line
            is the baseline's.
    """

    classes: list[str]
    baseline: str
    of: int
    lines: list[tuple[int, list[tuple[str, int]]]]


def reader(results: Results, environments: dict[str, None]) -> Means:
    """Return a function that reads and averages the details of runs, and adds their software to `environments`."""

    def means(records: list[Record]) -> Course:
        with damage_named(records[0].key):
            return read(records)

    def read(records: list[Record]) -> Course:
        details = [results.detail(record.key) or {} for record in records if record.state == "done"]
        for detail in details:
            environments[_environment(detail.get("environment") or {})] = None
        classes = [detail.get("per_class") or [] for detail in details]
        curve = [entry for detail in details for entry in detail.get("curve") or []]
        whole = len({len(each) for each in classes}) == 1
        return Course(
            [None if None in values else _mean(values) for values in zip(*classes, strict=True)] if whole else [],
            _thinned(curve, "loss"),
            _thinned(curve, "top1"),
        )

    return means


def _environment(values: dict[str, Any]) -> str:
    return plain(", ".join(f"{name} {value}" for name, value in values.items() if isinstance(value, str | int | float)))


def _thinned(curve: Iterable[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    """Return means over runs by epoch (from 1), then over blocks of epochs if there are more than `POINTS`."""
    epochs: dict[int, list[float]] = {}
    for entry in curve:
        if entry.get(name) is not None:
            epochs.setdefault(int(entry["epoch"]) + 1, []).append(float(entry[name]))
    points = [(float(epoch), _mean(values)) for epoch, values in sorted(epochs.items())]
    stride = -(-len(points) // POINTS)
    if stride < 2:
        return points
    parts = [points[start : start + stride] for start in range(0, len(points) - 1, stride)]
    thin = [(fmean(x for x, _ in part), fmean(y for _, y in part)) for part in parts]
    return [*thin, points[-1]]  # keep the last epoch exact, because its value is the reported one


def _mean(values: Iterable[float]) -> float:
    mean = fmean(values)
    if not math.isfinite(mean):
        raise ValueError("not a number")
    return mean


def class_names(sets: StoredSets, rows: Iterable[list[Record]]) -> tuple[str, ...]:
    """Return the names of the classes from the first intact stored set; empty if there is none."""
    for records in rows:
        try:
            found = sets.find(records)
        except FastDCError:
            continue
        if found is not None:
            return found[1].classes
    return ()


def per_class(found: Sequence[Found], names: Sequence[str]) -> Heat | None:
    """Return differences by class from random, or from the mean of all methods; None if nothing can be compared.

    Like the leaderboard, it uses the last epoch's accuracies.
    """
    courses = [(row.method, method, course.per_class) for row, method, course in found if course.per_class]
    of = len(courses[0][2]) if courses else 0
    if len(courses) < 2 or any(len(values) != of for _, _, values in courses):
        return None
    measured = [index for index in range(of) if all(values[index] is not None for _, _, values in courses)]
    known = [(name, method, [values[index] or 0.0 for index in measured]) for name, method, values in courses]
    count = len(measured)
    base = next(((method, values) for name, method, values in known if name == BASELINE), None)
    number, reference = base or (
        -1,
        [fmean(column) for column in zip(*(values for _, _, values in known), strict=True)],
    )
    others = [(method, values) for _, method, values in known if method != number]
    spread = [max(abs(values[index] - reference[index]) for _, values in others) for index in range(count)]
    chosen = sorted(sorted(range(count), key=lambda index: -spread[index])[:COLUMNS])
    lines = [(number, [(f"{reference[index]:.0f}", 0) for index in chosen])]
    for method, values in others:
        differences = [values[index] - reference[index] for index in chosen]
        # U+2212 is the minus sign, which is as wide as the plus.
        lines.append((method, [(f"{value:+.1f}".replace("-", "\u2212"), _shade(value)) for value in differences]))
    shown = [measured[index] for index in chosen]
    labels = [plain(names[index]) if len(names) == of else f"class {index}" for index in shown]
    return Heat(labels, BASELINE if base else "the mean of all methods", of, lines)


def _shade(difference: float) -> int:
    level = sum(abs(difference) >= step for step in STEPS)
    return level if difference > 0 else -level


def curve_figures(found: Sequence[Found]) -> list[Figure]:
    """Return charts of training loss and validation accuracy by epoch."""
    figures = []
    for caption, label, name in (
        ("Training loss", "loss", "loss"),
        ("Validation accuracy during training", "top-1, %", "top1"),
    ):
        lines = [(row, method, points) for row, method, course in found if len(points := getattr(course, name)) > 1]
        if lines:
            x = linear_axis("epoch", [x for _, _, points in lines for x, _ in points])
            y = linear_axis(label, [y for _, _, points in lines for _, y in points])
            series = [
                Series(method, [Point(*point) for point in points], _tooltip(row, name, points[-1][1]))
                for row, method, points in lines
            ]
            figures.append(Figure(f"{caption}, mean over runs", curves(x, y, series)))
    return figures


def _tooltip(row: Row, name: str, last: float) -> str:
    """Return the tooltip of a curve, which names the best epoch separately from the last."""
    text = f"{row.shown}: {last:.4g} at the end"
    if name == "top1" and row.top1_best_mean is not None:
        text += f"; {row.top1_best_mean:.4g} in the best epoch of each run, which is never ranked"
    return plain(text)
