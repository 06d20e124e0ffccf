"""Render the result table for a terminal or a log file, and as CSV, JSON and LaTeX."""

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any, NamedTuple

from fastdc.common.choices import TextFormat
from fastdc.common.precision import PAPER_PRECISION, shown_precision
from fastdc.common.text import plain
from fastdc.report.escape import csv_text, latex
from fastdc.report.rows import Row, shared_observer
from fastdc.train.protocols import inferred_of

LEFT_ALIGNED = 1
UNKNOWN = "-"
"""Cell of what it took to choose or make the images of an external set."""
SIZE_RULE = "size: JPEG files as they are, images stored as raw pixels as PNG"
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


def title(row: Row, with_machine: bool = False) -> str:
    """Return the settings that the rows of one table share.

    A precision other than the paper's follows the protocol directly: `hard, bf16 (paper: fp32)`.

    Args:
        row: any row of the table.
        with_machine: whether to add device and threads, for results in which these differ between tables.
    """
    paper = row.precision == PAPER_PRECISION
    computed = row.precision if paper else shown_precision(row.precision)
    names = (row.protocol, row.arch, computed) if paper else (row.protocol, computed, row.arch)
    text = f"{row.dataset}: {', '.join(names)}, {row.image_size} px"
    if row.augment != "method":
        rule = "hints off" if row.augment == "protocol" else "every set cropped alike"
        text += f", {rule} (augment={row.augment})"
    if row.holdout is not None:
        text += f", held-out {100 * row.holdout:g} % of the training set, not validation"
    if with_machine:
        text += f", {row.device or 'unknown device'}"
        text += f" with {row.threads} thread{'s' * (row.threads > 1)}" if row.threads else ""
    return plain(text)


def columns_of(rows: list[Row]) -> list[Column]:
    """Return the columns of one table that follow the accuracy and `n`.

    With hard labels, the parts of the compression time have their own columns. With a teacher's labels, they become
    one column, followed by the time to relabel.
    """
    columns = [
        Column("images", lambda row: f"{row.images:,}"),
        Column("size", lambda row: size(row.image_bytes or 0)),
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


def label_size(row: Row) -> str:
    """Return the bytes of the labels as text; online labels are marked as not stored."""
    return size(row.label_bytes or 0) + (" not stored" if row.labels == "online" else "")


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


def mixed(row: Row) -> str:
    """Return `*` for a mean over runs on different models of GPU or CPU, else an empty text."""
    return "*" if len(row.machines) > 1 else ""


def ipc_text(row: Row) -> str:
    """Return the images per class as text; `all` for the whole set."""
    return "all" if row.ipc is None else str(row.ipc)


def own_ipc_text(row: Row) -> str:
    """Return the images per class as text; `~5` if an external set has other numbers in other classes."""
    return ipc_text(row) if row.per_class is None else f"~{ipc_text(row)}"


def duration(seconds: float) -> str:
    """Return a duration as a text short enough for four columns: 0.05 s, 3.2 s, 45 s, 1.9 min, 2.5 h."""
    if seconds < 120:
        return f"{seconds:.{2 if 0 < seconds < 1 else 1 if seconds < 10 else 0}f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def size(count: int) -> str:
    """Return a number of bytes as text in decimal units: 161.4 kB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def notes(rows: list[Row]) -> list[str]:
    """Return the notes below a table, one line each.

    They cover missing runs with their reasons, external sets, means over different machines, inferred and reduced
    settings of methods and protocols, the teacher and its labels, the rule for sizes, and the observer and its cost.
    """
    lines = [f"{plain(row.method)} ipc {ipc_text(row)}: {plain(row.reason)}" for row in rows if row.reason]
    lines += [
        plain(f"* {row.method} ipc {ipc_text(row)}: mean over runs on different machines: {', '.join(row.machines)}")
        for row in rows
        if mixed(row)
    ]
    lines += external_notes(rows)
    inferred = {row.method: row.inferred for row in rows if row.inferred}
    for method, names in inferred.items():
        verb = "is" if len(names) == 1 else "are"
        lines.append(plain(f"{method}: {', '.join(names)} {verb} inferred, not published"))
    reduced = {(row.method, row.reduced): None for row in rows if row.reduced}
    lines += [plain(f"{method}: reduced: {', '.join(texts)}") for method, texts in reduced]
    lines += _protocol_notes(rows)
    lines += _label_notes(rows)
    if any(row.n for row in rows):
        lines.append(SIZE_RULE)
    for text in dict.fromkeys(row.observer for row in rows if row.observer):
        lines.append(plain(f"observer: {text}"))
    ledger = shared_observer(rows)
    if ledger is not None:
        lines.append(
            f"one observer ({duration(ledger.seconds)}) serves {ledger.methods} methods; one for each would take "
            f"{duration(ledger.alone)}, {ledger.alone / ledger.seconds:.1f} times as long"
        )
    return lines


def external_notes(rows: Iterable[Row]) -> list[str]:
    """Return a note on each external set: its file, and its images per class if they differ."""
    lines = []
    for row in rows:
        if row.external is not None:
            images = "" if row.images is None else f", {row.images:,} in all"
            counts = "" if row.per_class is None else f"; {row.per_class} images per class{images}"
            lines.append(plain(f"{row.shown}: {row.external}{counts}"))
    return list(dict.fromkeys(lines))


def _protocol_notes(rows: list[Row]) -> list[str]:
    """Return notes on settings of the table's protocols that no source states."""
    inferred = {name: inferred_of(name) for name in dict.fromkeys(row.protocol for row in rows)}
    return [
        plain(f"protocol {name}: {', '.join(settings)} inferred, not published")
        for name, settings in inferred.items()
        if settings
    ]


def _label_notes(rows: list[Row]) -> list[str]:
    """Return notes on the teachers of a table, and on the meaning of its label bytes and times."""
    methods: dict[str, list[str]] = {}
    for row in rows:
        if row.n and row.teacher is not None:
            trained = f"trained in {duration(row.teacher_seconds)}" if row.teacher_seconds else "pretrained"
            text = f"{row.teacher}, {trained}" + (f"; {row.teacher_note}" if row.teacher_note else "")
            methods.setdefault(text, []).append(row.method)
    several = len(methods) > 1
    lines = [
        plain(f"teacher{' of ' + ', '.join(dict.fromkeys(names)) if several else ''}: {text}")
        for text, names in methods.items()
    ]
    kinds = {row.labels for row in rows if row.n}
    if "online" in kinds:
        lines.append(
            "labels not stored: fp16 logits of every image in every epoch would take as much; relabel is part of train"
        )
    if "stored" in kinds:
        lines.append("labels stored: made once for each stored set, whatever trains on it; relabel comes before train")
    return lines


def tables(rows: list[Row]) -> list[tuple[str, list[Row]]]:
    """Group consecutive rows that may be compared with each other, under their title."""
    differ = machines_differ(rows)
    return [(text, list(group)) for text, group in groupby(rows, key=lambda row: title(row, differ))]


def machines_differ(rows: list[Row]) -> bool:
    """Return whether titles must name device and threads, because they are not those of every row."""
    return len({(row.device, row.threads) for row in rows}) > 1


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


def ruled(grid: list[list[str]], left: int = 0) -> list[str]:
    """Return the lines of a grid of texts, with a rule below the first; only the column `left` is flush left."""
    widths = [max(map(len, texts)) for texts in zip(*grid, strict=True)]
    first, *rest = [
        "  ".join(
            value.ljust(width) if column == left else value.rjust(width)
            for column, (value, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in grid
    ]
    return [first, "-" * len(first), *rest]


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
