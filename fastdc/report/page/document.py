"""Write one offline HTML page of a sweep: leaderboard, charts, stored images.

The page fetches nothing and evaluates no code beyond its own script.
"""

import base64
import hashlib
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from fastdc.common.errors import OutputError
from fastdc.common.files import check_output, write_atomic
from fastdc.common.text import plain
from fastdc.report.group_tests import TEST
from fastdc.report.page.charts import COLOURS, key
from fastdc.report.page.gallery import StoredSets, make_gallery
from fastdc.report.page.leaderboard import Setup, make_setups
from fastdc.report.page.run_details import reader
from fastdc.report.page.training_lengths import make_lengths
from fastdc.report.ranking import PLACES
from fastdc.report.read_results import Results
from fastdc.report.row_texts import ipc_text
from fastdc.report.rows import group_rows

MARK = b'<meta name="generator" content="fastdc'


def write_page(results: Results, folder: Path, out: Path) -> int:
    """Write the page of a sweep and return its size in bytes.

    Args:
        results: results of the sweep, or committed rows.
        folder: folder of the results; stored images of a sweep's workdir are shown.
        out: the file; an earlier page there is replaced.

    Raises:
        OutputError: `out` cannot be written, or is a file other than such a page.
    """
    if out.exists() and not out.is_dir() and not _is_page(out):
        raise OutputError(f"{out}: exists already and is not a page of fastdc; give --html another name")
    check_output(out, force=True)
    data = make_page(results, folder).encode()
    write_atomic(out, data)
    return len(data)


def _is_page(path: Path) -> bool:
    """Return whether the file is a page of fastdc, which a newer one may replace."""
    try:
        if not path.is_file():  # reading a pipe would block
            return False
        with path.open("rb") as handle:
            return MARK in handle.read(500)
    except OSError:
        return False


def make_page(results: Results, folder: Path) -> str:
    """Return the complete page as text; every text of the store is escaped."""
    pairs = group_rows(results.records())
    methods = list(dict.fromkeys(plain(row.method) for row, _ in pairs))
    shown = {plain(row.method): plain(row.shown) for row, _ in pairs}
    counts = {ipc_text(row): row.ipc or 0 for row, _ in pairs if row.ipc is not None}
    ipcs = sorted(counts, key=lambda text: counts[text]) + ["all"] * any(row.ipc is None for row, _ in pairs)
    environments: dict[str, None] = {}
    sets = StoredSets(folder)
    setups = make_setups(pairs, methods, ipcs, reader(results, environments), sets)
    style, script = (_asset(name) for name in ("page.css", "page.js"))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_asset("page.html")).render(
        name=plain(folder.resolve().name),
        policy=_policy(style, script),
        style=style,
        script=script,
        setups=setups,
        lengths=make_lengths(pairs, methods),
        shelves=make_gallery(pairs, methods, sets),
        methods=[shown[method] for method in methods],
        filters=_filters(setups, ipcs),
        test=TEST,
        places=PLACES,
        key=key,
        colours=COLOURS,
        environments=sorted(text for text in environments if text),
        runs=sum(row.seeds for row, _ in pairs),
        finished=sum(row.n for row, _ in pairs),
    )


def _asset(name: str) -> str:
    return files("fastdc.report.page").joinpath("web", name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Return a content security policy that allows only this style, this script and embedded images."""
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)
    )
    return (
        f"default-src 'none'; style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _filters(setups: list[Setup], ipcs: list[str]) -> dict[str, tuple[str, list[str]]]:
    """Return heading and choices of each filter, by name."""
    return {
        "dataset": ("data set", list(dict.fromkeys(setup.dataset for setup in setups))),
        "protocol": ("protocol", list(dict.fromkeys(setup.protocol for setup in setups))),
        "ipc": ("IPC", ipcs),
        "arch": ("architecture", list(dict.fromkeys(setup.arch for setup in setups))),
    }
