"""Compare two methods of a store, seed by seed, in every setting that both were run in."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from fastdc.errors import ConfigError
from fastdc.report.escape import plain
from fastdc.report.paired import EXACT_PAIRS, Paired, paired, seeds_needed
from fastdc.report.rows import AXES, Row, group_rows
from fastdc.report.table import title
from fastdc.settings import closest
from fastdc.sweep.store import Record

METRICS = {"last": "top1", "best": "top1_best"}


class Comparison(NamedTuple):
    """Two methods in one setting.

    Attributes:
        first, second: their rows. seeds: those that both finished.
        means: mean accuracy of both over these seeds, in percent. result: the paired difference, first - second.
    """

    first: Row
    second: Row
    seeds: tuple[int, ...]
    means: tuple[float, float]
    result: Paired


def compare_methods(
    records: Iterable[Record],
    first: str,
    second: str,
    *,
    ipc: int | None = None,
    protocol: str | None = None,
    arch: str | None = None,
    epoch: str = "last",
) -> list[Comparison]:
    """Compare two methods in all settings that both have finished runs of.

    Args:
        records: from `Store.records`.
        first, second: methods as a table shows them, for example "pca" and "el2n[keep=hard]".
        ipc, protocol, arch: only this setting; None takes all.
        epoch: "last", or "best" for the best epoch, which overstates accuracy.

    Raises:
        ConfigError: no run is of this setting, a method is not among the runs, or the two share no seed in any
            of the settings.
    """
    records = list(records)
    groups = [(row, runs) for row, runs in group_rows(records) if _wanted(row, ipc, protocol, arch)]
    if records and not groups:
        raise ConfigError(f"no runs with {_asked(ipc, protocol, arch)}; {_there(records)}")
    names = sorted({row.method for row, _ in groups})
    for name in (first, second):
        if name not in names:
            raise ConfigError(f"method '{plain(name)}': not among these runs; {closest(name, names)}")
    if first == second:
        raise ConfigError(f"'{plain(first)}' is compared with itself; name two methods")
    by_setting = {(row.method, _setting(row)): (row, runs) for row, runs in groups}
    found = []
    for row, runs in groups:
        other = by_setting.get((second, _setting(row)))
        if row.method == first and other is not None:
            comparison = _compare((row, runs), other, METRICS[epoch])
            found += [comparison] if comparison else []
    if not found:
        raise ConfigError(
            f"'{plain(first)}' and '{plain(second)}' share no finished seed in any setting; run both with the same "
            "seeds, protocol and network"
        )
    return found


def _wanted(row: Row, ipc: int | None, protocol: str | None, arch: str | None) -> bool:
    return (
        (ipc is None or row.ipc == ipc)
        and (protocol is None or row.protocol == protocol)
        and (arch is None or row.arch == arch)
    )


def _asked(ipc: int | None, protocol: str | None, arch: str | None) -> str:
    asked = {"ipc": ipc, "protocol": protocol, "arch": arch}
    return plain(", ".join(f"{name} {value}" for name, value in asked.items() if value is not None))


def _there(records: Sequence[Record]) -> str:
    """What a store holds of each setting that can be asked for."""
    labels = [record.label for record in records]
    ipcs = sorted({label["ipc"] for label in labels if label["ipc"] is not None})
    others = {name: sorted({str(label[name]) for label in labels}) for name in ("protocol", "arch")}
    told = [f"{name} {', '.join(map(str, values))}" for name, values in {"ipc": ipcs, **others}.items() if values]
    return plain(f"the store has {'; '.join(told)}")


def _setting(row: Row) -> tuple[Any, ...]:
    return tuple(getattr(row, axis) for axis in AXES if axis != "method")


def _compare(first: tuple[Row, list[Record]], second: tuple[Row, list[Record]], metric: str) -> Comparison | None:
    scores = [
        {run.label["seed"]: float(run.summary[metric]) for run in runs if run.state == "done" and run.summary}
        for _, runs in (first, second)
    ]
    seeds = tuple(sorted(scores[0].keys() & scores[1].keys()))
    if not seeds:
        return None
    one, two = ([score[seed] for seed in seeds] for score in scores)
    means = sum(one) / len(seeds), sum(two) / len(seeds)
    return Comparison(first[0], second[0], seeds, means, paired(one, two))


def comparison_json(found: Sequence[Comparison], detect: float | None) -> str:
    """Return the comparisons as JSON: the setting, both means, and the fields of `Paired`."""
    return json.dumps([_as_data(each, detect) for each in found], indent=1)


def _as_data(each: Comparison, detect: float | None) -> dict[str, Any]:
    setting = {axis: getattr(each.first, axis) for axis in AXES if axis != "method"}
    result = each.result
    return {
        **setting,
        "first": each.first.method,
        "second": each.second.method,
        "seeds": list(each.seeds),
        "first_mean": each.means[0],
        "second_mean": each.means[1],
        "difference": result.mean,
        **{name: value for name, value in result._asdict().items() if name != "mean"},
        "detect": abs(result.mean) if detect is None else detect,
        "seeds_needed": _needed(result, detect),
    }


def comparison_table(found: Sequence[Comparison], detect: float | None) -> str:
    """Return the comparisons as text, one paragraph a setting, without a trailing newline."""
    several = len({(each.first.device, each.first.threads) for each in found}) > 1
    return "\n\n".join(_paragraph(each, detect, several) for each in found)


def _paragraph(each: Comparison, detect: float | None, tell_machine: bool) -> str:
    result, ipc = each.result, "all images" if each.first.ipc is None else f"IPC {each.first.ipc}"
    first, second = plain(each.first.method), plain(each.second.method)
    lines = [f"{title(each.first, tell_machine)}, {ipc}"]
    lines.append(f"{first} {each.means[0]:.2f}, {second} {each.means[1]:.2f}, top-1 %, {_count(result.n)}")
    if result.p is None or result.low is None or result.high is None:
        return "\n".join([*lines, f"difference {result.mean:+.2f}; one seed gives no interval and no test"])
    interval = f"95 % interval {result.low:+.2f} to {result.high:+.2f}"
    floor = f" ({result.n} seeds cannot give less than {result.smallest_p:.2g})" if result.smallest_p > 0.05 else ""
    test = "permutation" if result.n <= EXACT_PAIRS else "paired t test"
    lines.append(f"difference {result.mean:+.2f}, {interval}, {test} p = {result.p:.3g}{floor}")
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
    return f"{n} paired seed{'s' * (n > 1)}"
