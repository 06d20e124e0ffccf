"""Train rows of the study again from scratch, and compare every digit."""

import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

from fastdc.common.errors import ConfigError, MethodError
from fastdc.common.files import prepare_workdir
from fastdc.common.machine import cpu_name
from fastdc.sweep.cells import make_plan
from fastdc.sweep.run_cells import run_sweep
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig
from studies.blocks import Block, read_blocks
from studies.rows import Row, read_rows, without_gaps


def verify(study: Path, count: int, seed: int, workdir: Path | None) -> int:
    """Train `count` random rows again in a new folder, observers included; print a line for each.

    Args:
        seed: seed of the choice. workdir: a new or empty folder, which is kept; None takes one that is removed.

    Returns:
        The exit code: 0, or 1 if a digit differs or a row can no longer be made.

    Raises:
        ConfigError: there are fewer rows, or `workdir` is not empty.
    """
    rows, blocks = read_rows(study), read_blocks(study)
    if not 1 <= count <= len(rows):
        raise ConfigError(f"verify {count}: expected 1 to {len(rows)}, the rows of {study / 'rows.jsonl'}")
    chosen = random.Random(seed).sample(sorted(rows, key=lambda row: str(row["key"])), count)
    with _new_folder(workdir) as folder:
        faults = [_verify_one(row, blocks, folder) for row in chosen]
    return int(any(faults))


@contextmanager
def _new_folder(workdir: Path | None) -> Iterator[Path]:
    if workdir is None:
        with tempfile.TemporaryDirectory(prefix="fastdc-verify-") as folder:
            yield Path(folder) / "run"
        return
    if workdir.exists() and any(workdir.iterdir()):
        raise ConfigError(f"--workdir {workdir}: is not empty; what it holds would not be trained again")
    yield workdir


def _verify_one(row: Row, blocks: Sequence[Block], folder: Path) -> bool:
    """Train one row again, print the comparison, and return whether it differs or cannot be made."""
    name = name_of(row)
    sweep = find_sweep(row, blocks, folder)
    if sweep is None:
        print(f"{name}: NOT MADE: no block of study.yaml gives its key with today's data and code", flush=True)
        return True
    prepare_workdir(folder)
    run_sweep(sweep, show_progress=False)
    with Store(folder / "store.sqlite", readonly=True) as store:
        record = next(record for record in store.records() if record.key == row["key"])
        detail = without_gaps(store.detail(row["key"]) or {})
    if record.summary is None:
        print(f"{name}: NOT MADE: {record.state}: {record.reason}", flush=True)
        return True
    faults = differences(row, record.summary, detail)
    print(f"{name}: {'DIFFERS: ' + '; '.join(faults) if faults else 'same digits'}{_elsewhere(row)}", flush=True)
    return bool(faults)


def name_of(row: Row) -> str:
    """Return a short description of a row."""
    label = row["label"]
    ipc = "all" if label["ipc"] is None else label["ipc"]
    crops = "" if label["augment"] == "method" else f" augment {label['augment']}"
    named = f"{label['method']} ipc {ipc} {label['protocol']}{crops} {label['arch']} seed {label['seed']}"
    return f"{named}: {row['summary']['top1']:.2f} %"


def find_sweep(row: Row, blocks: Sequence[Block], folder: Path) -> SweepConfig | None:
    """Return a sweep of this row alone that works in `folder`; None if no block gives the row's key."""
    label = row["label"]
    for sweep in (sweep for block in blocks for sweep in block.sweeps if sweep.seeds == (label["seed"],)):
        own = {"methods": (label["method"],), "workdir": folder, "archs": (label["arch"],)}
        own |= {"augment": (label["augment"],), "ipc": sweep.ipc if label["ipc"] is None else (label["ipc"],)}
        if label["arch"] not in sweep.archs or label["augment"] not in sweep.augment:
            continue
        # A method's own protocol settings change the protocol's name, so rows are matched by key.
        for protocol in sweep.protocols:
            alone = sweep.model_copy(update={**own, "protocols": (protocol,)})
            if _gives(alone, row["key"]):
                return alone
    return None


def _gives(sweep: SweepConfig, key: str) -> bool:
    """Return whether a sweep's plan has this key; a refused plan has none."""
    try:
        return any(cell.key == key for cell in make_plan(sweep).cells)
    except (ConfigError, MethodError):
        return False


def differences(row: Row, summary: dict[str, Any], detail: dict[str, Any]) -> list[str]:
    """Return the differences between a row and its second training, as texts."""
    faults = [
        f"{name} {row['summary'][name]!r}, now {summary[name]!r}"
        for name in ("top1", "top1_best")
        if row["summary"][name] != summary[name]
    ]
    curves: list[list[dict[str, Any]]] = [row["detail"]["curve"], detail["curve"]]
    pairs = zip_longest(*curves, fillvalue={})
    first = next(((one or two)["epoch"] for one, two in pairs if one != two), None)
    faults += [] if first is None else [f"curve from epoch {first}"]
    faults += ["accuracy of classes"] if row["detail"]["per_class"] != detail["per_class"] else []
    return faults


def _elsewhere(row: Row) -> str:
    """Return a note if the row was trained on another type of CPU, on which sums may round differently; else ""."""
    made_on, here = (row["provenance"] or {}).get("device_name"), cpu_name()
    return "" if made_on == here else f" (trained on {made_on}, now on {here})"
