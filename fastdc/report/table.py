"""The result table: for people on a terminal or in a log file, and as CSV, JSON and LaTeX."""

import csv
import io
import json
import os
import sys
from itertools import groupby
from typing import Any, Literal

from fastdc.report.escape import csv_text, latex, plain
from fastdc.report.rows import Row, shared_observer

Format = Literal["table", "csv", "json", "latex"]
HEADINGS = ("method", "IPC", "top-1 %", "n", "images", "size", "steps", "observer", "scoring", "selection", "train")
TIMES = ("observer_seconds", "scoring_seconds", "selection_seconds", "train_seconds")
LEFT_ALIGNED = 1
STYLES = {"done": "", "partial": "yellow", "skipped": "dim", "pending": "dim", "failed": "red", "diverged": "red"}


def render(rows: list[Row], style: Format) -> str:
    """The rows as text, without a trailing newline. Plain: no colours, no cursor movements."""
    return {"table": plain_table, "csv": csv_table, "json": json_table, "latex": latex_table}[style](rows)


def show(rows: list[Row]) -> None:
    """Print the table on stdout: with colours on a terminal, as plain text elsewhere."""
    if rows and sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM", "") != "dumb":
        _show_rich(rows)
    else:
        print(plain_table(rows))


def title(row: Row, tell_machine: bool = False) -> str:
    """What the rows of one table have in common; the device and its threads only where they tell tables apart."""
    text = f"{row.dataset}: {row.protocol}, {row.arch}, {row.precision}, {row.image_size} px"
    text += ", hints off (augment=protocol)" if row.augment == "protocol" else ""
    if tell_machine:
        text += f", {row.device or 'unknown device'}"
        text += f" with {row.threads} thread{'s' * (row.threads > 1)}" if row.threads else ""
    return plain(text)


def cells(row: Row) -> list[str]:
    """The row's cells as shown to people; a mean over part of the seeds is marked `2/3`."""
    ipc = "all" if row.ipc is None else str(row.ipc)
    if row.n == 0:
        return [plain(row.method), ipc, row.status, f"0/{row.seeds}", *[""] * (len(HEADINGS) - 4)]
    accuracy = f"{row.top1_mean:.2f}" + (f" ± {row.top1_std:.2f}" if row.top1_std is not None else "")
    count = str(row.n) if row.n == row.seeds else f"{row.n}/{row.seeds}"
    size = _size((row.image_bytes or 0) + (row.label_bytes or 0))
    seconds = [_duration(getattr(row, name) or 0.0) for name in TIMES]
    return [plain(row.method), ipc, accuracy, count, f"{row.images:,}", size, f"{row.steps:,}", *seconds]


def _duration(seconds: float) -> str:
    """Short, for four columns side by side: 0.05 s, 3.2 s, 45 s, 1.9 min, 2.5 h."""
    if seconds < 120:
        return f"{seconds:.{2 if 0 < seconds < 1 else 1 if seconds < 10 else 0}f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _size(count: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def notes(rows: list[Row]) -> list[str]:
    """One line for every row that lacks runs, with the reason; for inferred settings; for the observer and its cost."""
    lines = [f"{plain(row.method)} ipc {cells(row)[1]}: {plain(row.reason)}" for row in rows if row.reason]
    inferred = {row.method: row.inferred for row in rows if row.inferred}
    for method, names in inferred.items():
        verb = "is" if len(names) == 1 else "are"
        lines.append(plain(f"{method}: {', '.join(names)} {verb} inferred, not published"))
    for text in dict.fromkeys(row.observer for row in rows if row.observer):
        lines.append(plain(f"observer: {text}"))
    ledger = shared_observer(rows)
    if ledger is not None:
        lines.append(
            f"one observer ({_duration(ledger.seconds)}) serves {ledger.methods} methods; one for each would take "
            f"{_duration(ledger.alone)}, {ledger.alone / ledger.seconds:.1f} times as long"
        )
    return lines


def _tables(rows: list[Row]) -> list[tuple[str, list[Row]]]:
    differ = len({(row.device, row.threads) for row in rows}) > 1
    return [(text, list(group)) for text, group in groupby(rows, key=lambda row: title(row, differ))]


def plain_table(rows: list[Row]) -> str:
    """Aligned columns of text, one block for each data set, protocol and network."""
    if not rows:
        return "no results yet"
    blocks = []
    for text, group in _tables(rows):
        grid = [list(HEADINGS), *[cells(row) for row in group]]
        widths = [max(len(line[column]) for line in grid) for column in range(len(HEADINGS))]
        lines = ["  ".join(_aligned(line, widths)).rstrip() for line in grid]
        blocks.append("\n".join([text, lines[0], "-" * len(lines[0]), *lines[1:], *notes(group)]))
    return "\n\n".join(blocks)


def _aligned(line: list[str], widths: list[int]) -> list[str]:
    return [
        value.ljust(width) if column < LEFT_ALIGNED else value.rjust(width)
        for column, (value, width) in enumerate(zip(line, widths, strict=True))
    ]


def _show_rich(rows: list[Row]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    for text, group in _tables(rows):
        grid = [list(HEADINGS), *[cells(row) for row in group]]
        if sum(max(map(len, column)) + 3 for column in zip(*grid, strict=True)) > console.width:
            print(plain_table(group) + "\n")  # a narrow terminal wraps lines; rich would cut numbers short
            continue
        table = Table(title=Text(text), title_justify="left", box=box.SIMPLE_HEAD)
        for column, heading in enumerate(HEADINGS):
            table.add_column(heading, justify="left" if column < LEFT_ALIGNED else "right", no_wrap=True)
        for _ipc, same in groupby(group, key=lambda row: row.ipc):
            for row in same:
                table.add_row(*[Text(value) for value in cells(row)], style=STYLES[row.status])  # Text: no markup
            table.add_section()
        console.print(table)
        for note in notes(group):
            console.print(Text(note, style="yellow"))


def json_table(rows: list[Row]) -> str:
    """A list of objects, one per row, every field of `Row`; missing numbers are null."""
    return json.dumps([row.model_dump(mode="json") for row in rows], indent=1, allow_nan=False)


def csv_table(rows: list[Row]) -> str:
    """RFC 4180 with a heading; missing numbers are empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(Row.model_fields)
    for row in rows:
        writer.writerow(_csv_cell(getattr(row, name)) for name in Row.model_fields)
    return buffer.getvalue().rstrip("\n")


def _csv_cell(value: Any) -> Any:
    if isinstance(value, tuple):
        value = ",".join(value)
    return csv_text(plain(value)) if isinstance(value, str) else value


def latex_table(rows: list[Row]) -> str:
    """One `tabular` per table of results; needs the package booktabs."""
    blocks = []
    for text, group in _tables(rows):
        lines = [f"% {plain(text)}", rf"\begin{{tabular}}{{l{'r' * (len(HEADINGS) - 1)}}}", r"\toprule"]
        lines += [" & ".join(latex(heading) for heading in HEADINGS) + r" \\", r"\midrule"]
        lines += [" & ".join(latex(cell).replace("±", r"$\pm$") for cell in cells(row)) + r" \\" for row in group]
        lines += [r"\bottomrule", r"\end{tabular}"]
        lines += [f"% {note}" for note in notes(group)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)
