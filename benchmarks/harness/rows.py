"""Convert records to the rows of summary.json and the lines of the CSV."""

from typing import Any

from harness.machine import short_name
from harness.numbers import median, significant, spread
from harness.race import Peer, Race
from harness.run import Record

MEGABYTE = 1e6


def summary_rows(script: str, race: Race, records: list[Record], machine: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one row per peer.

    `ratio` is the ratio of the medians. `spread` holds the smallest and largest ratio of a turn, in which ours and the
    peers do one repetition each. `met` is None without a goal, or if the peer gave no figures to compare.
    """
    sides = zip(race.peers, records[1:], strict=True)
    return [_row(script, race, peer, records, theirs, machine) for peer, theirs in sides]


def _row(
    script: str, race: Race, peer: Peer, records: list[Record], theirs: Record, machine: dict[str, Any]
) -> dict[str, Any]:
    ours = records[0]
    ratio, turns = _ratio(race, ours, theirs)
    wall = _wall(race, peer, records, theirs)
    best = median(ours.values) if ours.values else None
    return {
        "work": race.work,
        "peer": peer.contender.name,
        "ours": None if best is None else significant(best),
        "theirs": significant(median(theirs.values)) if theirs.values else None,
        "unit": race.unit,
        "ratio": ratio,
        "goal": peer.goal,
        "met": _met(race, peer, ours, ratio, best),
        "n": min(len(ours.values), len(theirs.values)),
        "spread": turns,
        "limit": "; ".join(filter(None, (f"{peer.wall} would allow {wall:.2f}x" if wall else "", peer.limit))),
        "limit_ratio": wall,
        "most": race.most,
        "ours_spread": _figures(ours),
        "theirs_spread": _figures(theirs),
        "workers": {"ours": ours.workers, "theirs": theirs.workers},
        "trials": {"ours": _trials(ours), "theirs": _trials(theirs)},
        "cpu_percent": {"ours": _cpu_percent(ours), "theirs": _cpu_percent(theirs)},
        "peak_mb": {"ours": round(ours.peak_bytes / MEGABYTE), "theirs": round(theirs.peak_bytes / MEGABYTE)},
        "first_seconds": {"ours": round(ours.first_seconds, 2), "theirs": round(theirs.first_seconds, 2)},
        "facts": {"ours": _facts(ours), "theirs": _facts(theirs)},
        "note": "; ".join(filter(None, (race.note, ours.contender.note, peer.contender.note))),
        "failed": {"ours": ours.failure, "theirs": theirs.failure},
        "script": script,
        "machine": short_name(machine),
        "date": machine["date"],
    }


def _ratio(race: Race, ours: Record, theirs: Record) -> tuple[float | None, list[float] | None]:
    if not ours.values or not theirs.values:
        return None, None
    turns = [race.ratio(left, right) for left, right in zip(ours.values, theirs.values, strict=False)]
    ratio = race.ratio(median(ours.values), median(theirs.values))
    return significant(ratio), [significant(min(turns)), significant(max(turns))]


def _wall(race: Race, peer: Peer, records: list[Record], theirs: Record) -> float | None:
    """Return the ratio that the peer's wall reached in this run; None if it has none or gave no figures."""
    for record in records:
        if record.contender.name == peer.wall and record.values and theirs.values:
            return significant(race.ratio(median(record.values), median(theirs.values)))
    return None


def _met(race: Race, peer: Peer, ours: Record, ratio: float | None, best: float | None) -> bool | None:
    """Return whether the goal is met; it is missed if ours failed, and None if there is nothing to judge."""
    if peer.goal is None and race.most is None:
        return None
    if ours.failure or best is None:
        return False
    if race.most is not None and best > race.most:
        return False
    if peer.goal is None:
        return True
    return None if ratio is None else ratio >= peer.goal


def _figures(record: Record) -> list[float] | None:
    return [significant(value) for value in spread(record.values)] if record.values else None


def _trials(record: Record) -> dict[str, Any]:
    if not record.trials:
        return {}
    return {"in": record.tried_in, **{str(count): significant(value) for count, value in record.trials.items()}}


def _cpu_percent(record: Record) -> float | None:
    shares = [100 * answer["cpu"] / answer["wall"] for answer in record.repetitions if answer["wall"] > 0]
    return round(median(shares), 1) if shares else None


def _facts(record: Record) -> dict[str, Any]:
    """Return the facts of the last repetition and of the check."""
    last: dict[str, Any] = record.repetitions[-1]["facts"] if record.repetitions else {}
    return {**last, **record.checked}


def csv_rows(script: str, race: Race, records: list[Record], machine: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one line per timed repetition, per trial of a worker count, and per failure."""
    common = {"date": machine["date"], "script": script, "work": race.work, "unit": race.unit}
    lines = []
    for record in records:
        side = {"contender": record.contender.name, "peak_mb": round(record.peak_bytes / MEGABYTE)}
        here = record.tried_in == f"{race.work}, {race.unit}"  # a shared trial is listed only with its own race
        for count, value in record.trials.items() if here else ():
            lines.append({**common, **side, "kind": "trial", "workers": count, "value": significant(value, 6)})
        for number, (value, answer) in enumerate(zip(record.values, record.repetitions, strict=True), 1):
            lines.append(
                {
                    **common,
                    **side,
                    "kind": "timed",
                    "workers": record.workers,
                    "repetition": number,
                    "value": significant(value, 6),
                    "count": answer["count"],
                    "seconds": significant(answer["seconds"], 6),
                    "cpu_percent": round(100 * answer["cpu"] / answer["wall"], 1) if answer["wall"] > 0 else "",
                }
            )
        if record.failure:
            lines.append({**common, **side, "kind": "failed", "workers": record.workers, "failure": record.failure})
    return lines
