"""Render the result table for a terminal or a log file, and as CSV, JSON and LaTeX."""

import csv
import io
import json
import os
import sys
from collections.abc import Callable
from itertools import groupby
from typing import Any, NamedTuple

from fastdc.common.choices import TextFormat
from fastdc.common.text import format_bytes, plain
from fastdc.report.escape import csv_text, latex
from fastdc.report.row_texts import UNKNOWN, duration, label_size, machines_differ, mixed, own_ipc_text, ruled, title
from fastdc.report.rows import Row
from fastdc.report.table_notes import notes

STYLES = {"done": "", "partial": "yellow", "skipped": "dim", "pending": "dim", "failed": "red", "diverged": "red"}


class Column(NamedTuple):
    """Column of the table for people.

    Attributes:
        heading: its first line. cell: function that returns the text of a row with results.
    """

    heading: str
    cell: Callable[[Row], str]


def render(rows: list[Row], style: TextFormat) -> str:
    """Return the rows as plain text, without colours, cursor movements or a trailing newline."""
    return {"table": plain_table, "csv": csv_table, "json": json_table, "latex": latex_table}[style](rows)


def show(rows: list[Row]) -> None:
    """Print the table on stdout, with colours on a terminal and as plain text elsewhere."""
    if rows and sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM", "") != "dumb":
        _show_rich(rows)
    else:
        print(plain_table(rows))


def columns_of(rows: list[Row]) -> list[Column]:
    """Return the columns of one table that follow the accuracy and `n`.

    With hard labels, the parts of the compression time have their own columns. With a teacher's labels, they become
    one column, followed by the time to relabel.
    """
    columns = [
        Column("images", lambda row: f"{row.images:,}"),
        Column("size", lambda row: format_bytes(row.image_bytes or 0)),
        Column("labels", label_size),
        Column("steps", lambda row: f"{row.steps:,}"),
    ]
    if any(row.labels != "hard" for row in rows):
        columns += [_time("compress", "compress_seconds"), _time("relabel", "relabel_seconds")]
    else:
        runs_networks = any(row.networks_seconds for row in rows)
        columns.append(_time("networks" if runs_networks else "observer", "observer_seconds", "networks_seconds"))
        columns += [_time("scoring", "scoring_seconds"), _time("selection", "selection_seconds")]
    return [*columns, _time("train", "train_seconds")]


def _time(heading: str, *fields: str) -> Column:
    def cell(row: Row) -> str:
        parts = [seconds for name in fields if (seconds := getattr(row, name)) is not None]
        return duration(sum(parts)) if parts else UNKNOWN

    return Column(heading, cell)


def headings(columns: list[Column]) -> list[str]:
    """Return the first line of a table."""
    return ["method", "IPC", "top-1 %", "n", *[column.heading for column in columns]]


def cells(row: Row, columns: list[Column]) -> list[str]:
    """Return the row's cells for people; a mean over part of the seeds is marked `2/3`."""
    if row.n == 0:
        return [plain(row.shown), own_ipc_text(row), row.status, f"0/{row.seeds}", *[""] * len(columns)]
    accuracy = f"{row.top1_mean:.2f}" + (f" ± {row.top1_std:.2f}" if row.top1_std is not None else "") + mixed(row)
    count = str(row.n) if row.n == row.seeds else f"{row.n}/{row.seeds}"
    return [plain(row.shown), own_ipc_text(row), accuracy, count, *[column.cell(row) for column in columns]]


def tables(rows: list[Row]) -> list[tuple[str, list[Row]]]:
    """Group consecutive rows that may be compared with each other, under their title."""
    differ = machines_differ(rows)
    return [(text, list(group)) for text, group in groupby(rows, key=lambda row: title(row, differ))]


def plain_table(rows: list[Row]) -> str:
    """Return aligned columns of text, one block for each table of comparable rows."""
    if not rows:
        return "no results yet"
    blocks = []
    for text, group in tables(rows):
        columns = columns_of(group)
        grid = [headings(columns), *[cells(row, columns) for row in group]]
        blocks.append("\n".join([text, *ruled(grid), *notes(group)]))
    return "\n\n".join(blocks)


def _show_rich(rows: list[Row]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    for text, group in tables(rows):
        columns = columns_of(group)
        grid = [headings(columns), *[cells(row, columns) for row in group]]
        if sum(max(map(len, texts)) + 3 for texts in zip(*grid, strict=True)) > console.width:
            print(plain_table(group) + "\n")  # a narrow terminal wraps plain lines; rich would truncate numbers
            continue
        table = Table(title=Text(text), title_justify="left", box=box.SIMPLE_HEAD)
        for column, heading in enumerate(grid[0]):
            table.add_column(heading, justify="right" if column else "left", no_wrap=True)
        for _ipc, same in groupby(group, key=lambda row: row.ipc):
            for row in same:
                texts = [Text(value) for value in cells(row, columns)]  # Text, because a str would be parsed as markup
                table.add_row(*texts, style=STYLES[row.status])
            table.add_section()
        console.print(table)
        for note in notes(group):
            console.print(Text(note, style="yellow"))


def json_table(rows: list[Row]) -> str:
    """Return a JSON list with one object per row, all fields of `Row`; missing numbers are null."""
    return json.dumps([row.model_dump(mode="json") for row in rows], indent=1, allow_nan=False)


def csv_table(rows: list[Row]) -> str:
    """Return the rows as CSV (RFC 4180, but lines end in LF) with a heading; missing numbers are empty."""
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
    """Return one `tabular` per table of comparable rows; needs the LaTeX package booktabs."""
    blocks = []
    for text, group in tables(rows):
        columns = columns_of(group)
        names = headings(columns)
        lines = [f"% {plain(text)}", rf"\begin{{tabular}}{{l{'r' * (len(names) - 1)}}}", r"\toprule"]
        lines += [" & ".join(map(latex, names)) + r" \\", r"\midrule"]
        for row in group:
            lines.append(" & ".join(latex(cell).replace("±", r"$\pm$") for cell in cells(row, columns)) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}"]
        lines += [f"% {note}" for note in notes(group)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)
