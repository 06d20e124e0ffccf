"""Measure the overhead of a sweep: plan, store and resume, per cell and for 10,000 cells.

    python benchmarks/sweep.py [--cells 10000] [--repeat 5]

There is no peer, but there are limits: 10,000 finished cells resume within 1 s, and an empty cell costs at most 50 ms.
Figures are medians, in ms by the wall clock and in ms of this process.
"""

import argparse
import json
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np

from fastdc.beton import Sample, write_samples
from fastdc.common.log import progress_shown
from fastdc.report import make_rows
from fastdc.sweep.cell_result import CellResult
from fastdc.sweep.cell_runner import CellRunner
from fastdc.sweep.cells import make_plan
from fastdc.sweep.plan import Cell, Plan
from fastdc.sweep.run_cells import run_plan
from fastdc.sweep.store.leftovers import remove_leftovers
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig

SUMMARY: dict[str, Any] = {
    "top1": 50.0, "top5": None, "top1_best": 51.0, "epochs": 60, "steps": 60, "images": 20, "image_bytes": 9000,
    "label_bytes": 20, "seconds": 2.0, "train_seconds": 1.0, "cost": {"selection": 0.1, "writing": 0.1},
}  # fmt: skip
DETAIL = {"curve": [{"epoch": 1, "lr": 0.001, "loss": 1.0, "top1": 50.0}] * 60, "per_class": [50.0] * 10}


def make_config(folder: Path, cells: int) -> SweepConfig:
    """Return a grid of at least `cells` cells on a set of two classes."""
    images = np.random.default_rng(0).integers(0, 256, (2, 20, 8, 8, 3), dtype=np.uint8)
    samples = [Sample(image, label, f"{label}/{i}") for label in (0, 1) for i, image in enumerate(images[label])]
    for split in ("train", "val"):
        facts: dict[str, Any] = {"dataset": "bench", "split": split, "source": "made here", "made": {}}
        write_samples(folder / f"{split}.beton", samples, classes=("a", "b"), **facts)
    paths = {"train": folder / "train.beton", "val": folder / "val.beton", "workdir": folder / "work"}
    seeds = f"0-{-(-cells // 10) - 1}"
    return SweepConfig(**paths, methods=("random",), ipc="1-10", seeds=seeds, image_size=8, threads=1)


def do_nothing(_runner: CellRunner, _: Cell) -> CellResult:
    """Return the result of a cell without doing any work."""
    return CellResult(SUMMARY, DETAIL)


def finish_all(plan: Plan) -> None:
    """Fill the plan's store with a result in every row, and its folder with every subset's files."""
    plan.config.workdir.mkdir()
    (plan.config.workdir / "subsets").mkdir()
    with Store(plan.store_path) as store:
        store.register(cell.planned() for cell in plan.cells)
    with sqlite3.connect(plan.store_path) as db:
        db.execute("UPDATE runs SET state = 'done'")
        db.execute("INSERT INTO results SELECT key, ?, ? FROM runs", (json.dumps(SUMMARY), json.dumps(DETAIL)))
    for cell in plan.cells:
        assert cell.subset is not None
        for suffix in (".beton", ".json", ".lock", ".list.tsv"):
            cell.subset.path.with_suffix(suffix).touch()


def measure(repeat: int, work: Callable[[], object]) -> tuple[float, float]:
    """Return the median ms of `work` by the wall clock, and of CPU time of this process."""
    found = []
    for _ in range(repeat):
        wall, own = time.perf_counter(), time.process_time()
        work()
        found.append(((time.perf_counter() - wall) * 1e3, (time.process_time() - own) * 1e3))
    return median(wall for wall, _ in found), median(own for _, own in found)


def resume(config: SweepConfig) -> None:
    """Do what a sweep does when every cell is finished."""
    plan = make_plan(config)
    with Store(plan.store_path) as store:
        store.register(cell.planned() for cell in plan.cells)
        run_plan(plan, store)


def rows(folder: Path, cells: int, repeat: int) -> list[tuple[str, float, float]]:
    """Return the measured steps with both times in ms."""
    config = make_config(folder, cells)
    plan = make_plan(config)
    finish_all(plan)
    few = make_plan(config.model_copy(update={"workdir": folder / "few", "seeds": (0, 1, 2, 3, 4)}))
    few.config.workdir.mkdir()
    with Store(few.store_path) as store:
        store.register(cell.planned() for cell in few.cells)
        wall, own = measure(1, lambda: run_plan(few, store))
    found = [("one cell that does nothing: claim, provenance, result", wall / 50, own / 50)]
    with Store(plan.store_path) as store:
        records, states = store.records(), store.states()
        works: dict[str, Callable[[], object]] = {
            "plan": lambda: make_plan(config),
            "states, and what is missing": lambda: plan.missing(store.states()),
            "register nothing new": lambda: store.register(cell.planned() for cell in plan.cells),
            f"leftovers among {4 * len(states):,} files": lambda: remove_leftovers(config.workdir, store),
            f"check of the whole file ({plan.store_path.stat().st_size / 1e6:.0f} MB)": store.check,
            "read every row": store.records,
            "table's rows": lambda: make_rows(records),
            "RESUME: plan, open, register, leftovers, states": lambda: resume(config),
        }
        return found + [(name, *measure(repeat, work)) for name, work in works.items()]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    run_nothing = patch.object(CellRunner, "run", do_nothing)
    with tempfile.TemporaryDirectory() as folder, progress_shown(False), run_nothing:
        print(f"{'of ' + format(options.cells, ',') + ' finished cells':<58} {'ms':>8} {'ms own':>8}")
        for name, wall, own in rows(Path(folder), options.cells, options.repeat):
            print(f"{name:<58} {wall:8.1f} {own:8.1f}")


if __name__ == "__main__":
    main()
