"""Write the benchmarks' results: summary.json, one CSV per script, machine.json, and the printed table."""

import csv
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

COLUMNS = (
    *("date", "script", "work", "contender", "kind", "repetition", "workers", "value", "unit", "count", "seconds"),
    *("cpu_percent", "peak_mb", "failure"),
)


def save_rows(
    folder: Path, script: str, rows: list[dict[str, Any]], lines: list[dict[str, Any]], keep_others: bool = False
) -> None:
    """Replace the rows of `script` in summary.json and in its CSV.

    Args:
        keep_others: whether its races that are not among `rows` stay, after a run of some races.
    """
    folder.mkdir(parents=True, exist_ok=True)
    works = {row["work"] for row in rows}
    path = folder / f"{script}.csv"
    kept = [line for line in load_lines(path) if line["work"] not in works] if keep_others else []
    others = [row for row in load_rows(folder) if row["script"] != script or (keep_others and row["work"] not in works)]
    write_text(folder / "summary.json", json.dumps([*others, *rows], indent=1) + "\n")
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows([*kept, *lines])
    write_text(path, text.getvalue())


def save_machine(folder: Path, machine: dict[str, Any]) -> None:
    """Write machine.json."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "machine.json", json.dumps(machine, indent=1) + "\n")


def load_rows(folder: Path) -> list[dict[str, Any]]:
    """Return all rows of summary.json; none if the file does not exist."""
    try:
        rows: list[dict[str, Any]] = json.loads((folder / "summary.json").read_text())
    except FileNotFoundError:
        return []
    return rows


def load_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a script's CSV; none if the file does not exist."""
    if not path.exists():
        return []
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def write_text(path: Path, text: str) -> None:
    """Replace a file atomically; ends of lines stay as they are."""
    spare = path.with_suffix(f".{os.getpid()}.tmp")
    spare.write_text(text, newline="")
    os.replace(spare, path)


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table: figures, ratio and spread, goal, whether it is met, and the limit."""
    lines = [
        "| work | peer | fastdc | peer's | unit | ratio (min..max) | goal | met | limit |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ours, theirs = number(row["ours"]), number(row["theirs"])
        goal = goal_text(row)
        cells = (row["work"], row["peer"], ours, theirs, row["unit"], ratio_text(row), goal, met_text(row))
        lines.append("| " + " | ".join((*cells, row["limit"] or "-")) + " |")
    return "\n".join(lines)


def number(value: float | None) -> str:
    """Return a figure with at most four significant digits, or all digits before the point."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def ratio_text(row: dict[str, Any]) -> str:
    """Return the ratio with its spread, or the reason why there is none."""
    if row["ratio"] is None:
        return row["failed"]["ours"] or row["failed"]["theirs"] or "not run"
    low, high = row["spread"]
    return f"{row['ratio']:.2f} ({low:.2f}..{high:.2f})"


def goal_text(row: dict[str, Any]) -> str:
    """Return the goal as a ratio and as a figure of ours."""
    parts = [] if row["goal"] is None else [f">= {row['goal']:g}x"]
    if row["most"] is not None:
        parts.append(f"<= {row['most']:g} {row['unit']}")
    return " and ".join(parts) or "-"


def met_text(row: dict[str, Any]) -> str:
    """Return whether the goal is met, as text."""
    return {True: "yes", False: "NO", None: "-"}[row["met"]]
