"""Determine which runs may be compared: the settings of a set of results, and the finished seeds of each."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from fastdc.common.errors import ConfigError
from fastdc.common.text import natural, plain
from fastdc.report.rows import AXES, Row, group_rows
from fastdc.sweep.store.results import Record

Epoch = Literal["last", "best"]
METRICS = {"last": "top1", "best": "top1_best"}
Group = tuple[Row, list[Record]]
"""Row with its runs."""


def choose_groups(
    records: Iterable[Record],
    *,
    ipc: int | None = None,
    protocol: str | None = None,
    arch: str | None = None,
    augment: str | None = None,
    precision: str | None = None,
    image_size: int | None = None,
) -> list[Group]:
    """Return the rows of a setting with their runs; None takes all.

    Rows of whole sets have no IPC and belong to every one.

    Raises:
        ConfigError: no run is of this setting.
    """
    records = list(records)
    groups = group_rows(records)
    others = {"protocol": protocol, "arch": arch, "augment": augment, "precision": precision, "image_size": image_size}
    wanted = {"ipc": ipc, **others}
    if records and not any(_fits(row, wanted) for row, _ in groups):
        text = ", ".join(f"{name} {value}" for name, value in wanted.items() if value is not None)
        raise ConfigError(f"no runs with {plain(text)}; {_there(records, wanted)}")
    return [pair for pair in groups if _fits(pair[0], others if pair[0].ipc is None else wanted)]


def _fits(row: Row, wanted: dict[str, Any]) -> bool:
    return all(value is None or getattr(row, name) == value for name, value in wanted.items())


def _there(records: Sequence[Record], wanted: dict[str, Any]) -> str:
    """Return the values that the results have of the usual and the wanted settings, for a message."""
    labels = [record.label for record in records]
    ipcs = sorted({label["ipc"] for label in labels if label["ipc"] is not None})
    named = [name for name, value in wanted.items() if name in ("protocol", "arch") or (value and name != "ipc")]
    others = {name: sorted({str(label[name]) for label in labels}, key=natural) for name in named}
    found = [f"{name} {', '.join(map(str, values))}" for name, values in {"ipc": ipcs, **others}.items() if values]
    return plain(f"the store has {'; '.join(found)}")


def epoch_title(epoch: Epoch) -> str:
    """Return the suffix of a title for accuracies of the best epoch; empty for the last epoch."""
    return "" if epoch == "last" else ", best epoch of each run (overstated)"


def setting_of(row: Row, without: Sequence[str] = ("method",)) -> tuple[Any, ...]:
    """Return the values of a row's axes that must be equal for methods to be compared."""
    return tuple(getattr(row, axis) for axis in AXES if axis not in without)


def scores_of(runs: Iterable[Record], epoch: Epoch) -> dict[int, float]:
    """Return the accuracy in percent of the finished runs, by seed; `epoch` is "last" or "best"."""
    done = [run for run in runs if run.state == "done" and run.summary]
    return {int(run.label["seed"]): float((run.summary or {})[METRICS[epoch]]) for run in done}


def seed_text(seeds: Iterable[int]) -> str:
    """Return seeds as text, with ranges: `0-4, 7`."""
    spans: list[list[int]] = []
    for seed in sorted(seeds):
        if spans and seed == spans[-1][-1] + 1:
            spans[-1].append(seed)
        else:
            spans.append([seed])
    return ", ".join(f"{span[0]}" if len(span) == 1 else f"{span[0]}-{span[-1]}" for span in spans) or "none"


def ipc_title(row: Row) -> str:
    """Return the images per class as a title shows them."""
    return "all images" if row.ipc is None else f"IPC {row.ipc}"
