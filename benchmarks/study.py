"""The study: run its blocks, keep every finished row as text, and restore a store from these rows.

    python benchmarks/study.py run [--study DIR] [--blocks 1,2] [--hours 2]
    python benchmarks/study.py export [--study DIR]

`run` goes on where it stopped; finished rows are written to DIR/rows.jsonl and DIR/rows.csv after every seed. Beside
the data, a new machine needs rows.jsonl alone: a row that it holds is not trained again. DIR/study.yaml says what runs.
"""

import argparse
import csv
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from fastdc.files import prepare_workdir, write_atomic
from fastdc.sweep.config import SweepConfig, expand_numbers
from fastdc.sweep.run import run_sweep
from fastdc.sweep.store import Planned, Store

STUDY = Path(__file__).resolve().parent / "results" / "imagenette64"
COLUMNS = (
    *("dataset", "method", "ipc", "protocol", "augment", "arch", "precision", "image_size", "threads", "seed"),
    *(
        "top1",
        "top1_best",
        "images",
        "image_bytes",
        "epochs",
        "steps",
        "train_seconds",
        "subset",
        "observer_seed",
        "key",
    ),
)


class Block(NamedTuple):
    """One part of the study: its name, and a sweep for each seed."""

    name: str
    sweeps: list[SweepConfig]


def read_blocks(study: Path) -> list[Block]:
    """Return the blocks of DIR/study.yaml, one sweep a seed, each with an observer of that seed."""
    document = yaml.safe_load((study / "study.yaml").read_text())
    paths = {name: Path(document[name]) for name in ("train", "val", "workdir")}
    return [_block(paths, document["common"], block) for block in document["blocks"]]


def _block(paths: dict[str, Path], common: dict[str, Any], block: dict[str, Any]) -> Block:
    values = {**paths, **common, **{name: value for name, value in block.items() if name not in ("name", "seeds")}}
    sweeps = []
    for seed in map(int, expand_numbers(str(block["seeds"]))):
        observer = {**common["observer"], "seed": seed}
        sweeps.append(SweepConfig(**{**values, "observer": observer, "seeds": (seed,), "pool_observers": True}))
    return Block(block["name"], sweeps)


def restore(study: Path, store: Store) -> int:
    """Enter the committed rows that a store lacks; return how many."""
    path = study / "rows.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    states = store.states()
    missing = [row for row in rows if states.get(row["key"]) != "done"]
    store.register(Planned(row["key"], row["axes"], row["label"]) for row in missing)
    for row in missing:
        lease = store.claim(row["key"])
        if lease is not None:
            store.finish(lease, "done", summary=row["summary"], detail=row["detail"], provenance=row["provenance"])
    return len(missing)


def export(study: Path, store: Store) -> int:
    """Write every finished run of a store to rows.jsonl and rows.csv, beside those that they hold; return how many."""
    path, axes = study / "rows.jsonl", store.axes()
    known = {row["key"]: row for row in map(json.loads, path.read_text().splitlines())} if path.exists() else {}
    for record in store.records():
        if record.state == "done" and record.key not in known and record.summary is not None:
            known[record.key] = {
                "key": record.key,
                "axes": axes[record.key],
                "label": record.label,
                "summary": record.summary,
                "detail": _short(store.detail(record.key) or {}),
                "provenance": store.provenance(record.key),
            }
    rows = sorted(known.values(), key=_order)
    write_atomic(path, "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows).encode())
    write_atomic(study / "rows.csv", _csv(rows).encode())
    return len(rows)


def _short(detail: dict[str, Any]) -> dict[str, Any]:
    """Leave out what a validation did not measure: a curve of 300 epochs has 7 that count."""
    curve = [entry for entry in detail.get("curve", []) if entry.get("top1") is not None]
    return {**detail, "curve": curve}


def _order(row: dict[str, Any]) -> tuple[Any, ...]:
    label = row["label"]
    names = ("dataset", "ipc", "protocol", "augment", "arch", "method")
    return (*(str(label[name]).rjust(5) for name in names), label["seed"], row["key"])


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**row["summary"], **row["label"], "key": row["key"], "observer_seed": row["label"]["seed"]})
    return text.getvalue()


def run(study: Path, chosen: set[int], hours: float) -> None:
    """Run the chosen blocks, all where none is chosen, until they are done or the time is over."""
    blocks, end = read_blocks(study), time.monotonic() + hours * 3600
    unknown = chosen - set(range(1, len(blocks) + 1))
    if unknown:
        raise SystemExit(f"--blocks {min(unknown)}: expected 1 to {len(blocks)}")
    workdir = blocks[0].sweeps[0].workdir
    prepare_workdir(workdir)
    with Store(workdir / "store.sqlite") as store:
        print(f"{restore(study, store)} rows restored")
    for number, block, sweep in _turns(blocks, chosen):
        if time.monotonic() > end:
            print(f"stopped after {hours:g} hours; run again to go on")
            return
        _, outcome = run_sweep(sweep)
        with Store(workdir / "store.sqlite") as store:
            count = export(study, store)
        print(f"block {number} ({block}), seed {sweep.seeds[0]}: {dict(outcome.states)}; {count} rows", flush=True)


def _turns(blocks: list[Block], chosen: set[int]) -> Iterator[tuple[int, str, SweepConfig]]:
    for number, block in enumerate(blocks, 1):
        if not chosen or number in chosen:
            yield from ((number, block.name, sweep) for sweep in block.sweeps)


def export_all(study: Path) -> None:
    """Export a store that a run left behind, for example one that was killed."""
    workdir = read_blocks(study)[0].sweeps[0].workdir
    with Store(workdir / "store.sqlite", readonly=True) as store:
        print(f"{export(study, store)} rows")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "export"))
    parser.add_argument("--study", type=Path, default=STUDY, metavar="DIR")
    parser.add_argument("--blocks", default="", help="numbers of blocks, all by default")
    parser.add_argument("--hours", type=float, default=1000.0, help="begin no further seed after so many hours")
    options = parser.parse_args()
    if options.action == "export":
        export_all(options.study)
    else:
        run(options.study, {int(number) for number in options.blocks.split(",") if number}, options.hours)


if __name__ == "__main__":
    main()
