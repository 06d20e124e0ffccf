"""Train finished rows again in a new folder, and compare every digit."""

import random
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from fastdc.common.errors import ConfigError
from fastdc.common.files import store_path
from fastdc.sweep.plan import run_name
from fastdc.sweep.run_cells import run_sweep
from fastdc.sweep.store.results import Store
from fastdc.sweep.store.row_lines import Row, make_row
from fastdc.sweep.sweep_config import SweepConfig

VALUES = ("top1", "top1_best", "top5")


class Again(NamedTuple):
    """Second training of a row: the new row, or the reason why there is none."""

    row: Row | None
    reason: str = ""


@contextmanager
def new_folder(workdir: Path | None) -> Iterator[Path]:
    """Yield a new or empty folder, which is kept; None stands for a temporary one.

    Raises:
        ConfigError: the folder is not empty.
    """
    if workdir is None:
        with tempfile.TemporaryDirectory(prefix="fastdc-again-") as folder:
            yield Path(folder) / "run"
        return
    if workdir.exists() and any(workdir.iterdir()):
        raise ConfigError(f"--workdir {workdir}: is not empty; what it holds would not be trained again")
    yield workdir


def choose_rows(rows: Iterable[Row], count: int, seed: int) -> list[Row]:
    """Return `count` of the rows, drawn by `seed`."""
    return random.Random(seed).sample(sorted(rows, key=lambda row: str(row["key"])), count)


def train_again(sweep: SweepConfig, keys: Collection[str], show_progress: bool = False) -> dict[str, Again]:
    """Run the cells of these keys, with all that they need, and return their new rows by key.

    Raises:
        FastDCError: see `run_sweep`.
    """
    run_sweep(sweep, show_progress=show_progress, only=keys)
    with Store(store_path(sweep.workdir), readonly=True) as store:
        found = {record.key: record for record in store.records() if record.key in keys}
        axes = store.axes()
        return {
            key: Again(make_row(store, record, axes[key]))
            if record.state == "done"
            else Again(None, f"{record.state}: {record.reason}")
            for key, record in found.items()
        }


def name_of(row: Row) -> str:
    """Return a short description of a row."""
    return f"{run_name(row['label'])}: {row['summary']['top1']:.2f} %"


def differences(row: Row, again: Row) -> list[str]:
    """Return the differences between a row and its second training, as texts."""
    faults = [
        f"{name} {row['summary'].get(name)!r}, now {again['summary'].get(name)!r}"
        for name in VALUES
        if row["summary"].get(name) != again["summary"].get(name)
    ]
    curves: list[Sequence[dict[str, Any]]] = [each["detail"].get("curve", []) for each in (row, again)]
    first = next(((one or two)["epoch"] for one, two in zip_longest(*curves, fillvalue={}) if one != two), None)
    faults += [] if first is None else [f"curve from epoch {first + 1}"]  # entries count from 0
    faults += [] if row["detail"].get("per_class") == again["detail"].get("per_class") else ["accuracy of classes"]
    return faults
