"""Compare methods seed by seed, in every setting in which both of a pair ran; Holm over all comparisons."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from fastdc.common.errors import ConfigError
from fastdc.common.text import counted, plain
from fastdc.report.comparable import Epoch, Group, epoch_title, ipc_title, scores_of, seed_text, setting_of
from fastdc.report.join_results import marked
from fastdc.report.paired_tests import EXACT_PAIRS, LEVEL, Paired, holm, paired, seeds_for_claims, seeds_needed
from fastdc.report.row_texts import machines_differ, title
from fastdc.report.rows import AXES, Row
from fastdc.report.sides import CONTRASTS, Side, find_sides, free_axes
from fastdc.report.table_notes import external_notes

SHOWN = 4
"""Most values of one axis that a message lists for a method."""


class Comparison(NamedTuple):
    """Comparison of two methods in one setting.

    Attributes:
        first, second: their rows; the IPC differs only if one of them trains on the whole set, or is named by a side.
        seeds: those that both finished. means: mean accuracy of both over these seeds, in percent.
        result: the paired difference, first - second.
        p_holm: its p-value, adjusted for all comparisons of the same call; None for one seed.
    """

    first: Row
    second: Row
    seeds: tuple[int, ...]
    means: tuple[float, float]
    result: Paired
    p_holm: float | None = None

    @property
    def ipc(self) -> int | None:
        """Return the images per class; if one method trains on the whole set, those of the other."""
        return self.second.ipc if self.first.ipc is None else self.first.ipc

    @property
    def differ(self) -> tuple[str, ...]:
        """Return the settings that the two sides give different values; an IPC that one of them lacks is none."""
        whole = None in (self.first.ipc, self.second.ipc)
        return tuple(
            axis
            for axis in CONTRASTS
            if getattr(self.first, axis) != getattr(self.second, axis) and not (axis == "ipc" and whole)
        )

    def mark(self, row: Row) -> str:
        """Return what separates the runs of a row from the other side: `@augment=protocol`, or an empty text."""
        return "".join(f"@{axis}={getattr(row, axis)}" for axis in self.differ)


def compare_pairs(groups: Sequence[Group], pairs: Iterable[tuple[str, str]], epoch: Epoch = "last") -> list[Comparison]:
    """Compare pairs of methods in all settings in which both of a pair have finished runs.

    A method that trains on the whole set has no IPC, so it is compared with the others at each of theirs.

    Args:
        groups: from `choose_groups`.
        pairs: sides as `find_sides` reads them, for example ("pca", "el2n[keep=hard]") or
            ("pca@augment=protocol", "pca"). The settings of `free_axes` may differ, all others are shared.
        epoch: "last", or "best" for the best epoch, which overstates accuracy.

    Raises:
        ConfigError: a side is not among the runs, a pair names one side twice, or a pair shares no seed in any setting.
    """
    found: list[Comparison] = []
    for first, second in dict.fromkeys(tuple(find_sides(groups, pair)) for pair in pairs):
        _refuse_itself(first, second)
        shared = _compare(groups, first, second, epoch)
        if not shared:
            raise ConfigError(_why_none(groups, first, second, epoch))
        found += shared
    return with_holm(found)


def compare_against(
    groups: Sequence[Group], reference: str, methods: Sequence[str] = (), epoch: Epoch = "last"
) -> tuple[list[Comparison], list[str]]:
    """Compare every other method with one reference.

    Args:
        groups, epoch: as in `compare_pairs`.
        reference: second method of every pair. methods: only these; if given, one that cannot be compared is an error.

    Raises:
        ConfigError: as in `compare_pairs`, or no method shares a finished seed with the reference.

    Returns:
        The comparisons, and the methods that share no finished seed with the reference.
    """
    second, *sides = find_sides(groups, (reference, *methods))
    for side in sides:
        _refuse_itself(side, second)
    sides = sides or [Side(name) for name in dict.fromkeys(row.method for row, _ in groups) if name != second.method]
    shared = {side: _compare(groups, side, second, epoch) for side in dict.fromkeys(sides)}
    lost = [side for side, found in shared.items() if not found]
    if methods and lost:
        raise ConfigError(_why_none(groups, lost[0], second, epoch))
    if not any(shared.values()):
        raise ConfigError(f"'{plain(str(second))}' shares no finished seed with any other method in any setting")
    return with_holm([each for found in shared.values() for each in found]), list(map(str, lost))


def compare_sources(groups: Sequence[Group], source: str, epoch: Epoch = "last") -> tuple[list[Comparison], list[str]]:
    """Compare every method with itself in the results that were joined as `source`.

    Args:
        groups, epoch: as in `compare_pairs`; the runs are from `join_records`.

    Raises:
        ConfigError: no method has a finished seed in both results in any setting.

    Returns:
        The comparisons, and the methods of both results that share no finished seed.
    """
    names = dict.fromkeys(row.method for row, _ in groups)
    both = [name for name in names if marked(name, source) in names]
    pairs = {name: (Side(name), Side(marked(name, source))) for name in both}
    shared = {name: _compare(groups, *pair, epoch) for name, pair in pairs.items()}
    if not any(shared.values()):
        why = _why_none(groups, *pairs[both[0]], epoch) if both else "they have no method in common"
        raise ConfigError(f"--with: {why}; name methods to compare, one of each result")
    lost = [name for name, found in shared.items() if not found]
    return with_holm([each for found in shared.values() for each in found]), lost


def compare_chosen(
    groups: Sequence[Group],
    names: Sequence[str],
    reference: str | None = None,
    source: str | None = None,
    epoch: Epoch = "last",
) -> tuple[list[Comparison], list[str]]:
    """Compare pairs of `names`, or with a reference, or without either every method of joined results with itself.

    Args:
        groups, epoch: as in `compare_pairs`.
        names: pairs A B [C D ...]; with `reference` the methods that it is compared with, none for all.
        source: name of the other results, if the runs are from `join_records`.

    Raises:
        ConfigError: `names` are no pairs, or as in the functions above.

    Returns:
        The comparisons, and the methods that share no finished seed.
    """
    if reference is not None:
        return compare_against(groups, reference, names, epoch)
    if source is not None and not names:
        return compare_sources(groups, source, epoch)
    if not names or len(names) % 2:
        found = counted(len(names), "method")
        raise ConfigError(f"compare: found {found}, expected pairs A B [C D ...], or --all-against METHOD")
    return compare_pairs(groups, zip(names[::2], names[1::2], strict=True), epoch), []


def _refuse_itself(first: Side, second: Side) -> None:
    if first == second:
        raise ConfigError(
            f"'{plain(str(first))}' is compared with itself; name two methods, or two values of a setting, such as "
            "METHOD@augment=protocol METHOD"
        )


def with_holm(found: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons with Holm-adjusted p-values; comparisons of one seed are not tested and not counted."""
    tested = [index for index, each in enumerate(found) if each.result.p is not None]
    adjusted = dict(zip(tested, holm([found[index].result.p or 0.0 for index in tested]), strict=True))
    return [each._replace(p_holm=adjusted.get(index)) for index, each in enumerate(found)]


def _compare(groups: Sequence[Group], first: Side, second: Side, epoch: Epoch) -> list[Comparison]:
    others = [pair for pair in groups if second.holds(pair[0])]
    found = []
    for row, runs in groups:
        for other, theirs in others if first.holds(row) else ():
            if _comparable(row, other, free_axes(first, second)):
                one, two = scores_of(runs, epoch), scores_of(theirs, epoch)
                if seeds := tuple(sorted(one.keys() & two.keys())):
                    scores = [one[seed] for seed in seeds], [two[seed] for seed in seeds]
                    means = sum(scores[0]) / len(seeds), sum(scores[1]) / len(seeds)
                    found.append(Comparison(row, other, seeds, means, paired(*scores)))
    return found


def _comparable(first: Row, second: Row, free: Sequence[str]) -> bool:
    """Return whether two rows share all settings but the free ones; a row is not compared with itself."""
    own = ("method", "ipc", *free)
    same_ipc = "ipc" in free or first.ipc == second.ipc or None in (first.ipc, second.ipc)
    return first is not second and same_ipc and setting_of(first, own) == setting_of(second, own)


def _why_none(groups: Sequence[Group], first: Side, second: Side, epoch: Epoch) -> str:
    """Return why two sides cannot be compared: no common seed in a shared setting, or no shared setting."""
    sides = [[(row, scores_of(runs, epoch)) for row, runs in groups if side.holds(row)] for side in (first, second)]
    one, two = plain(str(first)), plain(str(second))
    named = f"'{one}' and '{two}' share no finished seed in any setting"
    free = free_axes(first, second)
    for row, scores in sides[0]:
        for other, theirs in sides[1]:
            if _comparable(row, other, free):
                had = f"{one} finished {_seeds(scores)}, {two} {_seeds(theirs)}"
                return f"{named}: {title(row)}, {ipc_title(row)}: {had}; run both with the same seeds"
    differ = []
    for axis in AXES[1:]:
        values = [sorted({_shown(getattr(row, axis)) for row, _ in side}) for side in sides]
        if axis not in ("method", "ipc", *free) and not set(values[0]) & set(values[1]):
            differ.append(f"{axis} {', '.join(values[0][:SHOWN])} and {', '.join(values[1][:SHOWN])}")
    if not differ:
        differ = [" and ".join(_ipcs(row for row, _ in side) for side in sides)]
    return f"{named}: they were run with {plain('; '.join(differ))}; run both with the same seeds, protocol and network"


def _ipcs(rows: Iterable[Row]) -> str:
    """Return the images per class of a method's rows: `IPC 10, 50`, or `all images` for whole sets."""
    numbers = {row.ipc for row in rows if row.ipc is not None}
    return f"IPC {seed_text(numbers)}" if numbers else "all images"


def _seeds(scores: dict[int, float]) -> str:
    return f"seeds {seed_text(scores)}" if scores else "none"


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def comparison_json(found: Sequence[Comparison], detect: float | None, epoch: Epoch = "last") -> str:
    """Return the comparisons as JSON: the setting, both means, and the fields of `Paired`."""
    return json.dumps([{**_as_data(each, detect), "epoch": epoch} for each in found], indent=1)


def _as_data(each: Comparison, detect: float | None) -> dict[str, Any]:
    setting = {axis: getattr(each.first, axis) for axis in AXES if axis != "method"}
    result = each.result
    differ = {"second_setting": {axis: getattr(each.second, axis) for axis in each.differ}} if each.differ else {}
    return {
        **setting,
        **differ,
        "ipc": each.ipc,
        "first": each.first.method,
        "second": each.second.method,
        "first_external": each.first.external,
        "second_external": each.second.external,
        "first_ipc": each.first.ipc,
        "second_ipc": each.second.ipc,
        "seeds": list(each.seeds),
        "first_mean": each.means[0],
        "second_mean": each.means[1],
        "difference": result.mean,
        **{name: value for name, value in result._asdict().items() if name != "mean"},
        "p_holm": each.p_holm,
        "detect": abs(result.mean) if detect is None else detect,
        "seeds_needed": _needed(result, detect),
    }


def comparison_table(found: Sequence[Comparison], detect: float | None, epoch: Epoch = "last") -> str:
    """Return the comparisons as text, one paragraph each, without a trailing newline."""
    several = machines_differ(each.first for each in found)
    tests = sum(each.p_holm is not None for each in found)
    paragraphs = [_paragraph(each, detect, several, tests, epoch) for each in found]
    notes = external_notes(row for each in found for row in (each.first, each.second))
    return "\n\n".join([*paragraphs, *_closing(found, tests), *(["\n".join(notes)] if notes else [])])


def _closing(found: Sequence[Comparison], tests: int) -> list[str]:
    """Return a note if there are too few seeds for any of these tests to become significant."""
    most = max((each.result.n for each in found), default=0)
    needed = seeds_for_claims(tests)
    if tests < 2 or most >= needed:
        return []
    return [
        f"{most} seeds cannot make any of {tests} tests significant at {100 * LEVEL:g} % after Holm; "
        f"it takes {needed}, or fewer tests"
    ]


def _paragraph(each: Comparison, detect: float | None, with_machine: bool, tests: int, epoch: Epoch) -> str:
    result, (first, second) = each.result, (plain(f"{row.shown}{each.mark(row)}") for row in (each.first, each.second))
    ipc = ipc_title(each.first)
    if each.first.ipc != each.second.ipc:
        ipc += f" against {ipc_title(each.second)}"
    lines = [f"{title(each.first, with_machine)}, {ipc}{epoch_title(epoch)}"]
    lines.append(f"{first} {each.means[0]:.2f}, {second} {each.means[1]:.2f}, top-1 %, {_count(result.n)}")
    if result.p is None or result.low is None or result.high is None:
        return "\n".join([*lines, f"difference {result.mean:+.2f}; one seed gives no interval and no test"])
    interval = f"95 % interval {result.low:+.2f} to {result.high:+.2f}"
    if result.low == result.high:
        interval = f"no spread over {result.n} seeds, so no interval"
    floor = f" ({result.n} seeds cannot give less than {result.smallest_p:.2g})" if result.smallest_p > LEVEL else ""
    test = "permutation" if result.n <= EXACT_PAIRS else "paired t test"
    adjusted = f", Holm over {tests} tests p = {each.p_holm:.3g}" if tests > 1 else ""
    lines.append(f"difference {result.mean:+.2f}, {interval}, {test} p = {result.p:.3g}{floor}{adjusted}")
    needed = _needed(result, detect)
    if needed is not None:
        shown = abs(result.mean) if detect is None else detect
        lines.append(f"a difference of {shown:.2f} needs {needed} paired seeds (5 % level, power 80 %)")
    return "\n".join(lines)


def _needed(result: Paired, detect: float | None) -> int | None:
    if result.std is None:
        return None
    return seeds_needed(abs(result.mean) if detect is None else detect, result.std)


def _count(n: int) -> str:
    return counted(n, "paired seed")
