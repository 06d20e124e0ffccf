"""Define the data behind the page and the CSV files, and format single values."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from fastdc.common.text import plain
from fastdc.sweep.store.row_lines import Row
from studies.blocks import Wanted
from studies.entropies import Entropy
from studies.results import Mean, Result
from studies.specs import Claims, Questions, Side, Value
from studies.verdicts import Judged

NOTHING = "-"


class Study(NamedTuple):
    """Everything that the page is made from."""

    name: str
    rows: list[Row]
    wanted: list[Wanted]
    missing: list[Wanted]
    results: list[Result]
    questions: Questions
    claims: Claims
    judged: list[Judged]
    entropies: list[Entropy]
    figures: dict[str, tuple[str, ...]]


def side_name(side: Side) -> str:
    """Return a side as text: `pca`, crops: protocol."""
    others = heading({axis: value for axis, value in side.items() if axis != "method"})
    return ", ".join([f"`{side['method']}`", *([others] if others else [])])


def heading(axes: Mapping[str, Value]) -> str:
    """Return axes as text; axes without a value are left out, except an IPC of None, which is all images."""
    words = {
        "ipc": "IPC {}",
        "image_size": "{} px",
        "augment": "crops: {}",
        "method": "`{}`",
        "observer": "observer {}",
    }
    order = ("method", "ipc", "protocol", "arch", "image_size", "precision", "augment", "observer")
    shown = [words.get(axis, "{}").format(axes[axis]) for axis in order if axes.get(axis) is not None]
    if "ipc" in axes and axes["ipc"] is None:
        shown.insert(0, "all images")
    return plain(", ".join(shown))


def environments(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return the environments of the rows: each machine, commit and set of libraries once, with its number of rows."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        made = row["provenance"] or {}
        names = ("device_name", "fastdc", "git", "libraries", "precision", "python", "threads")
        values = {name: made.get(name) for name in names}
        entry = found.setdefault(repr(values), {**values, "rows": 0})
        entry["rows"] += 1
    return [found[name] for name in sorted(found)]


def markdown(header: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *body]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def mean_text(mean: Mean) -> str:
    return f"{mean.mean:.2f}" if mean.half is None else f"{mean.mean:.2f} ± {mean.half:.2f}"


def signed(value: float) -> str:
    return f"{value:+.2f}"


def interval(pairs: Any) -> str:
    return NOTHING if pairs.low is None else f"{pairs.low:+.2f} to {pairs.high:+.2f}"
