"""Group rows over their seeds, find them by their axes, and compare them seed by seed."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from statistics import fmean, stdev
from typing import Any, NamedTuple

from fastdc.report.paired_tests import Paired, paired, student_quantile
from fastdc.report.rows import Row as Shown
from fastdc.report.rows import group_rows
from fastdc.sweep.store.results import Record
from fastdc.sweep.store.row_lines import Row
from studies.blocks import Axes, Wanted
from studies.specs import AXES, Contrast, Side, Table, Value

NEUTRAL = "observer"
"""Axis that does not separate tables or baselines, because a method reads one observer or none."""


class Mean(NamedTuple):
    """Mean over n seeds, and half the width of its 95 % t interval; `half` is None for one seed."""

    n: int
    mean: float
    half: float | None


class Result(NamedTuple):
    """Line of a table: its settings, and its runs by seed.

    Attributes:
        axes: values by name, as in `studies.specs.AXES`. shown: the row of fastdc's own tables; None if nothing ran.
        runs: rows by seed. seeds: seeds that study.yaml requests.
    """

    axes: Mapping[str, Value]
    shown: Shown | None
    runs: dict[int, Row]
    seeds: tuple[int, ...]

    def accuracies(self, metric: str = "top1") -> dict[int, float]:
        """Return accuracies in percent by seed: of the last epoch with "top1", of the best one with "top1_best"."""
        return {seed: float(row["summary"][metric]) for seed, row in sorted(self.runs.items())}

    def mean(self, metric: str = "top1") -> Mean | None:
        """Return the mean over seeds; None if nothing ran."""
        return mean_of(list(self.accuracies(metric).values()))

    @property
    def missing(self) -> tuple[int, ...]:
        """Return requested seeds that have not run."""
        return tuple(seed for seed in self.seeds if seed not in self.runs)


class Compared(NamedTuple):
    """Comparison of two lines over their common seeds; `pairs` is None if there are none."""

    a: Result | None
    b: Result | None
    pairs: Paired | None


def mean_of(values: Sequence[float]) -> Mean | None:
    """Return the mean of the values with its interval; None if there are no values."""
    if not values:
        return None
    half = student_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Mean(len(values), fmean(values), half)


def group_results(rows: Iterable[Row], wanted: Iterable[Wanted]) -> list[Result]:
    """Return one result for each setting that ran or is requested; those that ran come first.

    Runs validated on held-out training images are left out, because they choose settings and are not results. Runs of
    an older version of a method, or of other data, form their own lines, whose names end in `#` and a hash.
    """
    rows = [row for row in rows if not row["label"].get("holdout")]
    by_key = {row["key"]: row for row in rows}
    records = [Record(row["key"], row["label"], "done", None, row["summary"], _started(row)) for row in rows]
    wanted_seeds: dict[tuple[Value, ...], list[int]] = {}
    for each in wanted:
        wanted_seeds.setdefault((*each.axes, each.observer), []).append(each.seed)
    results: dict[tuple[Value, ...], Result] = {}
    # Lines without a mark come first, so that the newest group keeps the plain name.
    for shown, runs in sorted(group_rows(records), key=lambda pair: "#" in pair[0].method):
        plain = shown.model_copy(update={"method": shown.method.partition("#")[0]})
        # Unlike in fastdc's tables, the observer is an axis here; only lines that agree in all axes need a mark.
        mark = f"{plain.method}#{str(runs[0].label['group'])[:6]}"
        line = plain if _identity(plain) not in results else plain.model_copy(update={"method": mark})
        seeds = tuple(wanted_seeds.pop(_identity(line), ()))
        found = {int(run.label["seed"]): by_key[run.key] for run in runs}
        results[_identity(line)] = Result(_axes(_identity(line)), line, found, seeds)
    for identity, seeds_wanted in wanted_seeds.items():
        results[identity] = Result(_axes(identity), None, {}, tuple(seeds_wanted))
    return list(results.values())


def lacking(wanted: Iterable[Wanted], rows: Iterable[Row]) -> list[Wanted]:
    """Return the requested rows that are missing; rows are matched by their labels, not by content key."""
    rows = [row for row in rows if not row["label"].get("holdout")]
    there = {(axes_of(row), row["label"].get("observer"), row["label"]["seed"]) for row in rows}
    return [each for each in wanted if (each.axes, each.observer, each.seed) not in there]


def axes_of(row: Row) -> Axes:
    """Return the axes of a row."""
    return Axes(*(row["label"][axis] for axis in Axes._fields))


def _started(row: Row) -> float:
    """Return a number that grows with a run's start time; 0 if that is unknown."""
    text = str((row["provenance"] or {}).get("started", ""))
    return float("".join(filter(str.isdigit, text)) or 0)


def _identity(shown: Shown) -> tuple[Value, ...]:
    return tuple(getattr(shown, axis) for axis in AXES)


def _axes(identity: tuple[Value, ...]) -> dict[str, Value]:
    return dict(zip(AXES, identity, strict=True))


def find(results: Iterable[Result], side: Mapping[str, Value]) -> Result | None:
    """Return the result that a side names; None if there is none.

    If several fit, results that study.yaml requests come first, then those with the most runs, then the first one. A
    method may also have rows that read another observer earlier; these must not decide a claim.
    """
    fitting = [each for each in results if all(each.axes[axis] == value for axis, value in side.items())]
    return max(fitting, key=lambda each: (bool(each.seeds), len(each.runs)), default=None)


def compare(a: Result | None, b: Result | None, only: Collection[int] = ()) -> Compared:
    """Compare two results over the seeds that both have; with `only`, over these seeds of them."""
    if a is None or b is None:
        return Compared(a, b, None)
    first, second = a.accuracies(), b.accuracies()
    seeds = sorted(seed for seed in first.keys() & second.keys() if seed in only or not only)
    pairs = paired([first[seed] for seed in seeds], [second[seed] for seed in seeds]) if seeds else None
    return Compared(a, b, pairs)


def contrast(results: Sequence[Result], column: Side, spec: Contrast, only: Collection[int] = ()) -> Compared:
    """Compare the two sides of a contrast; axes come from the side, else from its column, else from the file's."""
    sides = [{**column, **spec.column, **side} for side in (spec.a, spec.b)]
    return compare(find(results, sides[0]), find(results, sides[1]), only)


def tables_of(results: Iterable[Result], spec: Table) -> Iterator[tuple[dict[str, Value], list[Result]]]:
    """Yield each table as the axes that its lines share, and the lines: best first, those not run last.

    The observer is never a shared axis, because a table mixes methods with and without one.
    """
    shared = [axis for axis in AXES if axis not in (*spec.lines, NEUTRAL)]
    tables: dict[tuple[Value, ...], list[Result]] = {}
    for each in results:
        if _chosen(each, spec):
            tables.setdefault(tuple(each.axes[axis] for axis in shared), []).append(each)
    for heading in sorted(tables, key=_heading_order):
        yield dict(zip(shared, heading, strict=True)), sorted(tables[heading], key=_line_order)


def _chosen(result: Result, spec: Table) -> bool:
    if not any(_method_fits(str(result.axes["method"]), pattern) for pattern in spec.methods):
        return False
    return all(any(_fits(result.axes[axis], value) for value in values) for axis, values in spec.where.items())


def _method_fits(method: str, pattern: str) -> bool:
    open_end = pattern.removesuffix("]") if pattern.endswith("*]") else pattern  # marked lines end in `]#0123ab`
    return fnmatchcase(method, open_end.replace("[", "[[]"))  # `[` begins settings, not a class of characters


def _fits(found: Value, wanted: Value) -> bool:
    if isinstance(wanted, str) and isinstance(found, str):
        return fnmatchcase(found, wanted)
    return found == wanted


def _heading_order(heading: tuple[Value, ...]) -> tuple[Any, ...]:
    """Return a sort key with numbers by size, then texts, then None (the whole set)."""
    return tuple((value is None, isinstance(value, str), value if value is not None else 0) for value in heading)


def _line_order(result: Result) -> tuple[Any, ...]:
    mean = result.mean()
    return (mean is None, -mean.mean if mean else 0.0, *(str(result.axes[axis]) for axis in AXES))


def baseline_of(results: Sequence[Result], line: Result, baseline: Side) -> Result | None:
    """Return the baseline at the line's own axes; None for the baseline itself."""
    side = {axis: value for axis, value in line.axes.items() if axis != NEUTRAL} | baseline
    found = find(results, side)
    return None if found is line else found
