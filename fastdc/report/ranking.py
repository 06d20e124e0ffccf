"""Rank the methods of a setting by their mean over common seeds, with a confidence range of places for each.

A method's places follow Mogstad et al. (2024). The first is 1 + the number of significantly better methods. The last
is the number of methods - the number of significantly worse ones. A difference is significant if the exact paired
permutation test gives p < 5 % after Holm over all pairs of the setting. With 95 % confidence, all methods lie within
their places.
"""

import json
import math
from collections.abc import Iterable, Sequence
from itertools import combinations, groupby
from statistics import fmean
from typing import Any, NamedTuple

from fastdc.common.choices import RankFormat
from fastdc.common.errors import ConfigError
from fastdc.common.text import natural, plain
from fastdc.report.comparable import Epoch, Group, epoch_title, ipc_title, scores_of, seed_text, setting_of
from fastdc.report.group_tests import MOST
from fastdc.report.paired_tests import EXACT_PAIRS, LEVEL, Paired, holm, mean_interval, paired, seeds_for_claims
from fastdc.report.row_texts import machines_differ, ruled, title
from fastdc.report.rows import AXES, Row
from fastdc.report.sides import find_names
from fastdc.report.table_notes import external_notes

PLACES = (
    "Places: every place that is possible at 95 %. Tests are exact paired permutations on the common seeds, with Holm "
    "over all pairs. Methods with one seed are left out."
)
Scored = tuple[Row, dict[int, float]]
"""Row with its accuracy by seed."""


class Ranked(NamedTuple):
    """Method of a ranking.

    Attributes:
        row: its row. mean: over the common seeds, in percent. low, high: 95 % interval of the mean; None for one seed.
        first, last: range of possible places.
        behind: paired difference from the method with the best mean; None for that method itself. p: p-value of this
            difference after Holm; None for one seed.
        finished: all seeds that it finished.
    """

    row: Row
    mean: float
    low: float | None
    high: float | None
    first: int
    last: int
    behind: Paired | None
    p: float | None
    finished: tuple[int, ...]


class PairTest(NamedTuple):
    """Test of two methods of a ranking, the better mean first; `p` is adjusted by Holm, None for one seed."""

    first: str
    second: str
    result: Paired
    p: float | None


class Ranking(NamedTuple):
    """Ranking of the methods of one setting, best mean first.

    Attributes:
        row: row of one of the methods. seeds: those that all methods finished; without any, `methods` is empty too.
        tests: tests of all pairs. finished: seeds by method. left_out: seeds finished by each method that has too few.
    """

    row: Row
    seeds: tuple[int, ...]
    methods: list[Ranked]
    tests: list[PairTest]
    finished: dict[str, tuple[int, ...]]
    left_out: dict[str, int]

    @property
    def claims(self) -> int:
        """Return the number of tested pairs."""
        return sum(test.p is not None for test in self.tests)


def rank_methods(
    groups: Sequence[Group], methods: Sequence[str] = (), min_seeds: int | None = None, epoch: Epoch = "last"
) -> list[Ranking]:
    """Rank the methods of every setting in which two or more have finished runs.

    Args:
        groups: from `choose_groups`.
        methods: only these; empty takes all.
        min_seeds: fewest finished seeds of a ranked method; None is 2 if two methods have as many, else 1.
        epoch: "last", or "best" for the best epoch, which overstates accuracy.

    Raises:
        ConfigError: a method is not among the runs, or no two methods of a setting share a seed.
    """
    methods = find_names(groups, methods)
    chosen = [(row, scores_of(runs, epoch)) for row, runs in groups if not methods or row.method in methods]
    chosen.sort(key=lambda pair: list(map(_sortable, setting_of(pair[0]))))
    columns = [list(same) for _, same in groupby(chosen, key=lambda pair: setting_of(pair[0]))]
    rankings = [found for column in columns if (found := _rank(column, min_seeds)) is not None]
    if not any(ranking.methods for ranking in rankings):
        raise ConfigError(f"nothing to rank: {_why_none(rankings, min_seeds)}")
    return rankings


def _why_none(rankings: Sequence[Ranking], min_seeds: int | None) -> str:
    if not rankings:
        return (
            f"no setting has two methods with {min_seeds or 1} or more finished seeds; methods are ranked beside those "
            "of the same IPC, protocol and network, and an uneven set at its mean images per class"
        )
    found = [f"{title(ranking.row)}, {ipc_title(ranking.row)}: {_finished(ranking)}" for ranking in rankings[:2]]
    return (
        f"no seed was finished by all methods of a setting ({'; '.join(found)}); leave some out with --methods or "
        "--min-seeds, or run the seeds that are missing"
    )


def _sortable(value: Any) -> tuple[bool, bool, Any]:
    # Python cannot compare None, numbers and texts: None goes last, numbers before texts.
    if isinstance(value, str):
        return False, True, natural(value)
    return value is None, False, value if value is not None else 0


class _Column(NamedTuple):
    """Methods of one setting with enough seeds, their common seeds, and the seed counts of those left out."""

    rows: list[Scored]
    common: tuple[int, ...]
    left_out: dict[str, int]


def _column(column: Sequence[Scored], min_seeds: int | None) -> _Column | None:
    """Choose the methods with enough seeds; return None if there are fewer than two."""
    least = min_seeds or (2 if sum(len(scores) > 1 for _, scores in column) > 1 else 1)
    left_out = {row.method: len(scores) for row, scores in column if len(scores) < least}
    rows = [(row, scores) for row, scores in column if len(scores) >= least]
    if len(rows) < 2:
        return None
    return _Column(rows, tuple(sorted(set.intersection(*(set(scores) for _, scores in rows)))), left_out)


def _rank(column: Sequence[Scored], min_seeds: int | None) -> Ranking | None:
    """Rank the methods of one setting; return None if fewer than two have enough seeds."""
    chosen = _column(column, min_seeds)
    if chosen is None:
        return None
    column, common, left_out = chosen
    finished = {row.method: tuple(sorted(scores)) for row, scores in column}
    if not common:
        return Ranking(column[0][0], (), [], [], finished, left_out)
    scores = [(row, [found[seed] for seed in common]) for row, found in column]
    scores.sort(key=lambda pair: (-fmean(pair[1]), pair[0].method))
    pairs = list(combinations(range(len(scores)), 2))
    results = [paired(scores[i][1], scores[j][1]) for i, j in pairs]
    # p is None only if there is one common seed; the adjusted values are then dropped.
    adjusted: Sequence[float | None] = holm([result.p or 0.0 for result in results])
    adjusted = adjusted if len(common) > 1 else [None] * len(pairs)
    by_pair = {pair: (result, p) for pair, result, p in zip(pairs, results, adjusted, strict=True)}
    certain = [pair for pair, (_, p) in by_pair.items() if p is not None and p < LEVEL]  # pairs are (better, worse)
    ranked = []
    for place, (row, values) in enumerate(scores):
        first = 1 + sum(worse == place for _, worse in certain)
        last = len(scores) - sum(better == place for better, _ in certain)
        behind = paired(values, scores[0][1]) if place else None
        p = by_pair[0, place][1] if place else None
        ranked.append(Ranked(row, fmean(values), *mean_interval(values), first, last, behind, p, finished[row.method]))
    tests = [PairTest(scores[i][0].method, scores[j][0].method, *by_pair[i, j]) for i, j in pairs]
    return Ranking(scores[0][0], common, ranked, tests, finished, left_out)


def _finished(ranking: Ranking) -> str:
    return ", ".join(f"{plain(name)} has seeds {seed_text(seeds)}" for name, seeds in ranking.finished.items())


def places_of(groups: Iterable[Group]) -> dict[str, str]:
    """Return the possible places of the methods of one setting, by method.

    The result is empty if there are fewer than two methods or common seeds, or more than `MOST` methods.

    Args:
        groups: rows with their runs.
    """
    rows = [(row, scores_of(runs, "last")) for row, runs in groups if row.n]
    column = _column(rows, 2) if len(rows) <= MOST else None
    if column is None or len(column.common) < 2:
        return {}
    count = len(column.rows)
    if len(column.common) < seeds_for_claims(math.comb(count, 2)):  # too few seeds for any test to be significant
        return {row.method: place_text(1, count) for row, _ in column.rows}
    ranking = _rank(rows, 2)
    return {each.row.method: place_text(each.first, each.last) for each in (ranking.methods if ranking else ())}


HEADINGS = ("rank", "method", "top-1 %", "95 % interval", "n", "behind first", "95 % interval", "p (Holm)")


def render_ranking(rankings: Sequence[Ranking], style: RankFormat, epoch: Epoch = "last") -> str:
    """Return rankings as text, without a trailing newline; `epoch` names the epoch whose accuracy they compare."""
    if style == "json":
        return json.dumps([{**_as_data(ranking), "epoch": epoch} for ranking in rankings], indent=1, allow_nan=False)
    several = machines_differ(ranking.row for ranking in rankings)
    return "\n\n".join(_block(ranking, style, several, epoch) for ranking in rankings)


def _block(ranking: Ranking, style: RankFormat, with_machine: bool, epoch: Epoch) -> str:
    text = f"{title(ranking.row, with_machine)}, {ipc_title(ranking.row)}{epoch_title(epoch)}"
    if not ranking.methods:
        return f"{text}\nnot ranked, because no seed was finished by all: {_finished(ranking)}"
    grid = [list(HEADINGS), *(_cells(each, len(ranking.seeds)) for each in ranking.methods)]
    if style == "markdown":
        rule = ["---:" if index != 1 else "---" for index in range(len(HEADINGS))]
        lines = [
            f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |"
            for line in [grid[0], rule, *grid[1:]]
        ]
        return "\n".join([f"**{text}**", "", *lines, "", *(f"- {note}" for note in _notes(ranking))])
    return "\n".join([text, *ruled(grid, left=1), *_notes(ranking)])


def place_text(first: int, last: int) -> str:
    """Return a range of places as text: `1`, or `2-4`."""
    return str(first) if first == last else f"{first}-{last}"


def _cells(each: Ranked, n: int) -> list[str]:
    cells = [
        place_text(each.first, each.last),
        plain(each.row.shown),
        f"{each.mean:.2f}",
        _interval(each.low, each.high),
    ]
    cells.append(str(n))
    if each.behind is None:
        return [*cells, "", "", ""]
    p = "" if each.p is None else f"{each.p:.3g}"
    return [*cells, f"{each.behind.mean:+.2f}", _interval(each.behind.low, each.behind.high, "+"), p]


def _interval(low: float | None, high: float | None, sign: str = "") -> str:
    if low is None or high is None:
        return ""
    return f"{low:{sign}.2f} to {high:{sign}.2f}" if low < high else "-"  # seeds without any spread


def _notes(ranking: Ranking) -> list[str]:
    """Return notes on the test, its limits, the seeds, and the methods left out."""
    n, claims = len(ranking.seeds), ranking.claims
    lines = []
    if n == 1:
        lines.append("one seed gives no interval and no test: every place is possible for every method")
    else:
        test = "exact two-sided permutation test" if n <= EXACT_PAIRS else "paired t test"
        lines.append(
            f"rank: places that are possible at {100 * (1 - LEVEL):g} % ({test} on the pairs, Holm over {claims})"
        )
        needed = seeds_for_claims(claims)
        if n < needed:
            lines.append(f"{n} seeds cannot separate any two of these methods; it takes {needed}, or fewer methods")
    more = {name: seeds for name, seeds in ranking.finished.items() if len(seeds) > n}
    if more:
        counts = ", ".join(f"{plain(name)} {len(seeds)}" for name, seeds in more.items())
        lines.append(f"seeds common to all: {seed_text(ranking.seeds)}; more were finished by: {counts}")
        lines += _fewer_methods(ranking)
    else:
        lines.append(f"seeds: {seed_text(ranking.seeds)}")
    if ranking.left_out:
        counts = ", ".join(f"{plain(name)} {count}" for name, count in ranking.left_out.items())
        lines.append(f"left out, for too few finished seeds: {counts}")
    return lines + external_notes(each.row for each in ranking.methods)


def _fewer_methods(ranking: Ranking) -> list[str]:
    """Return the option that leaves out the fewest methods, so that two or more others share twice as many seeds."""
    for least in sorted({len(seeds) for seeds in ranking.finished.values()}):
        rest = [set(seeds) for seeds in ranking.finished.values() if len(seeds) >= least]
        common = len(set.intersection(*rest))
        if len(rest) > 1 and common >= 2 * len(ranking.seeds):
            return [f"--min-seeds {least} ranks the {len(rest)} methods that share {common} seeds"]
    return []


def _as_data(ranking: Ranking) -> dict[str, Any]:
    return {
        **{axis: getattr(ranking.row, axis) for axis in AXES if axis != "method"},
        "seeds": list(ranking.seeds),
        "level": LEVEL,
        "claims": ranking.claims,
        "finished": {name: list(seeds) for name, seeds in ranking.finished.items()},
        "left_out": ranking.left_out,
        "methods": [_ranked_data(each) for each in ranking.methods],
        "pairs": [
            {"first": test.first, "second": test.second, "difference": test.result.mean,
             **{name: getattr(test.result, name) for name in ("n", "std", "low", "high", "p")}, "p_holm": test.p}
            for test in ranking.tests
        ],
    }  # fmt: skip


def _ranked_data(each: Ranked) -> dict[str, Any]:
    behind = each.behind
    return {
        "method": each.row.method,
        "external": each.row.external,
        "rank_first": each.first,
        "rank_last": each.last,
        "mean": each.mean,
        "low": each.low,
        "high": each.high,
        "difference": None if behind is None else behind.mean,
        "difference_low": None if behind is None else behind.low,
        "difference_high": None if behind is None else behind.high,
        "p_holm": each.p,
    }
