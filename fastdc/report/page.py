"""One offline HTML page of a sweep: leaderboard, charts, stored images. Nothing is fetched and nothing is evaluated."""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fastdc.errors import ConfigError
from fastdc.files import check_output, write_atomic
from fastdc.report.escape import plain
from fastdc.report.rows import Row, group_rows
from fastdc.report.significance import TEST, Sample, letters
from fastdc.report.table import duration, ipc_text, label_size, notes, size, tables
from fastdc.sweep.store import Record, Store

if TYPE_CHECKING:
    from jinja2 import Template

MARK = b'<meta name="generator" content="fastdc'
STYLES = 10  # colours of page.css; further methods get another marker


class Line(NamedTuple):
    """A line of the leaderboard, ready to show.

    Attributes:
        row: its numbers. method: number of its method on this page. group: significance letters.
        left, right, middle: mean +- std on a scale of 0..100 that the table shares; None without a result.
    """

    row: Row
    method: int
    group: str
    cells: dict[str, str]
    left: float | None
    middle: float | None
    right: float | None


class Block(NamedTuple):
    """What may be ranked: the methods of one table at one IPC."""

    ipc: str
    lines: list[Line]


class Setup(NamedTuple):
    """What one data set, protocol and network share."""

    title: str
    dataset: str
    protocol: str
    arch: str
    blocks: list[Block]
    notes: list[str]


def write_page(store: Store, folder: Path, out: Path) -> int:
    """Write the page of a sweep; returns its bytes.

    Args:
        store: of the sweep. folder: its workdir, whose stored images are shown. out: the file; an earlier page there
            is replaced.

    Raises:
        OutputError: `out` cannot be written, or is another file than such a page.
        ConfigError: jinja2 is not installed.
    """
    check_output(out, force=_is_page(out))
    data = make_page(store, folder).encode()
    write_atomic(out, data)
    return len(data)


def _is_page(path: Path) -> bool:
    """Whether the file is a page of ours, which a newer one may replace."""
    try:
        with path.open("rb") as handle:
            return MARK in handle.read(500)
    except OSError:
        return False


def make_page(store: Store, folder: Path) -> str:
    """The page as text, all of it in one file. Every text of the store is escaped.

    Raises:
        ConfigError: jinja2 is not installed.
    """
    pairs = group_rows(store.records())
    methods = list(dict.fromkeys(plain(row.method) for row, _ in pairs))
    setups = _setups(pairs, methods)
    style, script = (_asset(name) for name in ("page.css", "page.js"))
    return _template().render(
        name=plain(folder.resolve().name),
        policy=_policy(style, script),
        style=style,
        script=script,
        setups=setups,
        methods=methods,
        filters=_filters(setups),
        test=TEST,
        styles=STYLES,
        runs=sum(row.seeds for row, _ in pairs),
        finished=sum(row.n for row, _ in pairs),
    )


def _template() -> "Template":
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise ConfigError("--html: needs jinja2; install it with pip install 'fastdc[report]'") from error
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_asset("page.html"))


def _asset(name: str) -> str:
    return files("fastdc.report").joinpath("web", name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Content security policy: this style, this script, embedded images, and nothing else whatever."""
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)
    )
    return (
        f"default-src 'none'; style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _filters(setups: list[Setup]) -> list[tuple[str, str, list[str]]]:
    """Name, heading and choices of each filter."""
    ipc = dict.fromkeys(block.ipc for setup in setups for block in setup.blocks)
    choices = [
        ("dataset", "data set", dict.fromkeys(setup.dataset for setup in setups)),
        ("protocol", "protocol", dict.fromkeys(setup.protocol for setup in setups)),
        ("ipc", "IPC", dict.fromkeys(sorted(ipc, key=lambda text: (text == "all", len(text), text)))),
        ("arch", "architecture", dict.fromkeys(setup.arch for setup in setups)),
    ]
    return [(name, heading, list(values)) for name, heading, values in choices]


def _setups(pairs: list[tuple[Row, list[Record]]], methods: list[str]) -> list[Setup]:
    setups = []
    for title, rows in tables([row for row, _ in pairs]):
        blocks = [Block(ipc, _lines(list(same), methods)) for ipc, same in groupby(rows, key=ipc_text)]
        dataset, protocol, arch = (plain(text) for text in (rows[0].dataset, rows[0].protocol, rows[0].arch))
        setups.append(Setup(title, dataset, protocol, arch, blocks, notes(rows)))
    return setups


def _lines(rows: list[Row], methods: list[str]) -> list[Line]:
    """The rows of one IPC, with letters and a shared scale."""
    samples = [sample_of(row) for row in rows]
    groups = letters(samples)
    spans = [
        (row.top1_mean - (row.top1_std or 0.0), row.top1_mean + (row.top1_std or 0.0))
        for row in rows
        if row.top1_mean is not None
    ]
    low, high = (min(low for low, _ in spans), max(high for _, high in spans)) if spans else (0.0, 1.0)
    lines = []
    for row, group in zip(rows, groups, strict=True):
        scale: Sequence[float | None] = (None, None, None)
        if row.top1_mean is not None:
            spread = row.top1_std or 0.0
            values = (row.top1_mean - spread, row.top1_mean, row.top1_mean + spread)
            scale = [round(4 + 92 * (value - low) / (high - low or 1.0), 1) for value in values]
        lines.append(Line(row, methods.index(plain(row.method)), group, _cells(row), *scale))
    return lines


def sample_of(row: Row) -> Sample | None:
    """What the significance test compares; None where there is no spread."""
    if row.top1_mean is None or row.top1_std is None:
        return None
    return Sample(row.top1_mean, row.top1_std, row.n)


def _cells(row: Row) -> dict[str, str]:
    """A row's texts by column."""
    cells = {"method": plain(row.method), "reason": plain(row.reason or "")}
    cells["n"] = str(row.n) if row.n == row.seeds else f"{row.n}/{row.seeds}"
    if row.top1_mean is None:
        return cells
    return cells | {
        "top1": f"{row.top1_mean:.2f}",
        "std": "" if row.top1_std is None else f"± {row.top1_std:.2f}",
        "images": size(row.image_bytes or 0),
        "labels": label_size(row),
        "compress": duration(row.compress_seconds or 0.0),
        "train": duration(row.train_seconds or 0.0),
        "steps": f"{row.steps or 0:,}",
    }
