"""Run the races of a benchmark script: parse the command line, run, store and print results."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.figure import draw
from harness.machine import describe_machine, short_name
from harness.race import Race
from harness.results import load_rows, save_machine, save_rows, table
from harness.rows import csv_rows, summary_rows
from harness.run import run_race

CHECKOUT = Path(__file__).resolve().parent.parent.parent
OUT = CHECKOUT / "benchmarks" / "out"
DATA = CHECKOUT / "runs" / "bench"
REPETITIONS = 5
QUICK_REPETITIONS = 2


@dataclass(frozen=True)
class Options:
    """Options of the command line.

    Attributes:
        quick: whether to use tiny sizes and two repetitions, as a smoke test without meaningful speeds.
        device: "cpu" or "cuda".
        imagenette: tar or folder of Imagenette-160, if given.
        data: folder of derived files. out: folder of results.
        repetitions: timed repetitions of every contender.
        only: text that the names of the races to run contain.
    """

    quick: bool
    device: str
    imagenette: Path | None
    data: Path
    out: Path
    repetitions: int
    only: str


def parse_options(description: str, arguments: Sequence[str] | None = None) -> Options:
    """Parse the command line; a quick run keeps its data and results separate from real ones."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, two repetitions: a smoke test")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda adds the races on a GPU")
    parser.add_argument("--imagenette", type=Path, help="tar or folder of Imagenette-160")
    parser.add_argument("--data", type=Path, help="where derived files are kept (default: runs/bench)")
    parser.add_argument("--out", type=Path, help="where results go (default: benchmarks/out)")
    parser.add_argument("--repetitions", type=int, help=f"timed repetitions (default: {REPETITIONS})")
    parser.add_argument("--only", default="", help="run only the races whose name contains this")
    given = parser.parse_args(arguments)
    part = "quick" if given.quick else ""
    return Options(
        quick=given.quick,
        device=given.device,
        imagenette=given.imagenette,
        data=given.data or DATA / part,
        out=given.out or OUT / part,
        repetitions=given.repetitions or (QUICK_REPETITIONS if given.quick else REPETITIONS),
        only=given.only,
    )


def run_script(name: str, options: Options, races: Callable[[Options], list[Race]]) -> list[dict[str, Any]]:
    """Run the chosen races of script `name`, store the results in `options.out`, and return its summary rows.

    Results of races that are not chosen stay. A script without a chosen race does and stores nothing.
    """
    start = time.perf_counter()
    chosen = [race for race in races(options) if options.only.lower() in race.work.lower()]
    if not chosen:
        return []
    machine = describe_machine()
    print(f"{name}.py on {short_name(machine)}; {machine['date']}; load {machine['load_before']}", flush=True)
    rows: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    for race in chosen:
        begin = time.perf_counter()
        print(f"  {race.work}", flush=True)
        records = run_race(race, options.repetitions, lambda text: print(text, flush=True))
        print(f"    {time.perf_counter() - begin:.0f} s", flush=True)
        rows += summary_rows(name, race, records, machine)
        lines += csv_rows(name, race, records, machine)
    save_rows(options.out, name, rows, lines, keep_others=bool(options.only))
    save_machine(options.out, machine)
    print(f"{name}.py took {time.perf_counter() - start:.0f} s\n", flush=True)
    return rows


def finish(options: Options, rows: list[dict[str, Any]]) -> int:
    """Print the table of `rows` and draw the figure of all stored rows; return 1 if a contender of fastdc failed.

    Without a row, because `--only` names no race, return 2 and change nothing.
    """
    if not rows:
        print(f"--only {options.only!r}: no race has this in its name; nothing ran", file=sys.stderr)
        return 2
    print(table(rows))
    kept = load_rows(options.out)
    try:
        draw(kept, options.out / "ratios.png", f"{kept[0]['machine']}; {kept[0]['date']}" if kept else "")
    except ImportError as error:
        print(f"no figure: {error}", file=sys.stderr)
    print(f"\nkept in {options.out}: summary.json, ratios.png, machine.json, one CSV per script")
    return int(any(row["failed"]["ours"] for row in rows))


def main(name: str, description: str, races: Callable[[Options], list[Race]]) -> None:
    """Run a complete script."""
    options = parse_options(description)
    sys.exit(finish(options, run_script(name, options, races)))
