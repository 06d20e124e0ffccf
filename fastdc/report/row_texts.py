"""Texts of single values and lines that several reports show: titles, durations, sizes, aligned columns."""

from collections.abc import Iterable

from fastdc.common.precision import PAPER_PRECISION, shown_precision
from fastdc.common.text import format_bytes, plain
from fastdc.report.rows import Row

UNKNOWN = "-"
"""Cell of what it took to choose or make the images of an external set."""


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
        text += f", validated on a held-out {100 * row.holdout:g} % of the training set"
    if with_machine:
        text += f", {row.device or 'unknown device'}"
        text += f" with {row.threads} thread{'s' * (row.threads > 1)}" if row.threads else ""
    return plain(text)


def machines_differ(rows: Iterable[Row]) -> bool:
    """Return whether titles must name device and threads, because they are not those of every row."""
    return len({(row.device, row.threads) for row in rows}) > 1


def label_size(row: Row) -> str:
    """Return the bytes of the labels as text; online labels are marked as not stored."""
    return format_bytes(row.label_bytes or 0) + (" not stored" if row.labels == "online" else "")


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
