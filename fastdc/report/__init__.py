"""Render a sweep's results as tables and as one HTML page."""

from pathlib import Path

from fastdc.common.errors import ConfigError
from fastdc.common.extras import install_extra
from fastdc.report.read_results import Results
from fastdc.report.rows import Row, make_rows
from fastdc.report.table import render, show

__all__ = ["Row", "make_rows", "render", "show", "write_page"]


def write_page(results: Results, folder: Path, out: Path) -> int:
    """Call `fastdc.report.page.document.write_page`, with a readable error if the extra `report` is missing.

    Raises:
        ConfigError: jinja2 or markupsafe is not installed.
        OutputError: `out` cannot be written, or is a file other than such a page.
    """
    try:
        from fastdc.report.page import document
    except ModuleNotFoundError as error:
        if error.name not in ("jinja2", "markupsafe"):
            raise
        raise ConfigError(f"--html: needs {error.name}, which is not installed; {install_extra('report')}") from error
    return document.write_page(results, folder, out)
