"""Tables of a sweep's results."""

from fastdc.report.rows import Row, make_rows
from fastdc.report.table import Format, render, show

__all__ = ["Format", "Row", "make_rows", "render", "show"]
