"""Train rows of the study again from scratch, and compare every digit."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from fastdc.common.errors import ConfigError, MethodError
from fastdc.common.machine import cpu_name
from fastdc.sweep.bundle.train_again import choose_rows, differences, name_of, new_folder, train_again
from fastdc.sweep.cells import make_plan
from fastdc.sweep.store.row_lines import Row
from fastdc.sweep.sweep_config import SweepConfig
from studies.blocks import Block, read_blocks
from studies.rows import read_rows, without_gaps


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
    with new_folder(workdir) as folder:
        faults = [_verify_one(row, blocks, folder) for row in choose_rows(rows, count, seed)]
    return int(any(faults))


def _verify_one(row: Row, blocks: Sequence[Block], folder: Path) -> bool:
    """Train one row again, print the comparison, and return whether it differs or cannot be made."""
    name = name_of(row)
    sweep = _find_sweep(row, (sweep for block in blocks for sweep in block.sweeps), folder)
    if sweep is None:
        print(f"{name}: NOT MADE: no block of study.yaml gives its key with today's data and code", flush=True)
        return True
    again = train_again(sweep, [row["key"]])[row["key"]]
    if again.row is None:
        print(f"{name}: NOT MADE: {again.reason}", flush=True)
        return True
    faults = differences(row, {**again.row, "detail": without_gaps(again.row["detail"])})
    print(f"{name}: {'DIFFERS: ' + '; '.join(faults) if faults else 'same digits'}{_elsewhere(row)}", flush=True)
    return bool(faults)


def _find_sweep(row: Row, sweeps: Iterable[SweepConfig], folder: Path) -> SweepConfig | None:
    """Return a sweep that gives the row's key, to run in `folder`; None if none does."""
    label = row["label"]
    wanted = {"seeds": label["seed"], "archs": label["arch"], "augment": label["augment"]}
    for sweep in sweeps:
        if all(value in getattr(sweep, name) for name, value in wanted.items()):
            own = sweep.model_copy(update={"workdir": folder})
            if _gives(own, row["key"]):
                return own
    return None


def _gives(sweep: SweepConfig, key: str) -> bool:
    """Return whether a sweep's plan has this key; a refused plan has none."""
    try:
        return any(cell.key == key for cell in make_plan(sweep).cells)
    except (ConfigError, MethodError):
        return False


def _elsewhere(row: Row) -> str:
    """Return a note if the row was trained on another type of CPU, on which sums may round differently; else ""."""
    made_on, here = (row["provenance"] or {}).get("device_name"), cpu_name()
    return "" if made_on == here else f" (trained on {made_on}, now on {here})"
