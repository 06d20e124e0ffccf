"""Run the study's blocks, keep every finished row as text, and draw from it."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from fastdc.common.errors import ConfigError
from fastdc.common.files import prepare_workdir, store_path
from fastdc.sweep.run_cells import run_sweep
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig
from studies.blocks import Block, Wanted, read_blocks, wanted_rows
from studies.drawing import draw
from studies.results import lacking
from studies.rows import export, read_rows, restore


def run(study: Path, chosen: set[int], hours: float) -> int:
    """Run the chosen blocks, or all if none is chosen, until they are done or the time is over.

    If rows.jsonl holds every requested row, the betons may be missing. In that case nothing is trained.

    Args:
        chosen: numbers of blocks, from 1. hours: no further seed starts after this time.

    Returns:
        The exit code: 0, or that of a sweep in which a run failed.

    Raises:
        ConfigError: the study's files are invalid, a block does not exist, or rows and betons are both missing.
    """
    blocks, end = read_blocks(study), time.monotonic() + hours * 3600
    wanted = [each for each in wanted_rows(blocks) if not chosen or each.block in chosen]
    unknown = chosen - set(range(1, len(blocks) + 1))
    if unknown:
        raise ConfigError(f"--blocks {min(unknown)}: expected 1 to {len(blocks)}")
    draw(study)  # refuses invalid files before hours of training
    missing = lacking(wanted, read_rows(study))
    if absent := _absent_beton(blocks):
        return _without_betons(absent, wanted, missing)
    workdir = blocks[0].sweeps[0].workdir
    prepare_workdir(workdir)
    with Store(store_path(workdir)) as store:
        print(f"{restore(study, store)} rows restored")
    return _run_blocks(study, blocks, chosen, end, hours)


def _run_blocks(study: Path, blocks: list[Block], chosen: set[int], end: float, hours: float) -> int:
    code = 0
    for number, block, sweep in _turns(blocks, chosen):
        if time.monotonic() > end:
            print(f"stopped after {hours:g} hours; run again to go on")
            break
        _, outcome = run_sweep(sweep)
        with Store(store_path(sweep.workdir)) as store:
            count = export(study, store)
        draw(study)
        code = max(code, outcome.exit_code)
        print(f"block {number} ({block}), seed {sweep.seeds[0]}: {dict(outcome.states)}; {count} rows", flush=True)
    return code


def _turns(blocks: list[Block], chosen: set[int]) -> Iterator[tuple[int, str, SweepConfig]]:
    for number, block in enumerate(blocks, 1):
        if not chosen or number in chosen:
            yield from ((number, block.name, sweep) for sweep in block.sweeps)


def _absent_beton(blocks: list[Block]) -> Path | None:
    first = blocks[0].sweeps[0]
    return next((path for path in (first.train, first.val) if path is not None and not path.exists()), None)


def _without_betons(absent: Path, wanted: Sequence[Wanted], missing: Sequence[Wanted]) -> int:
    """Report that no row is missing, or refuse to continue if one is."""
    if missing:
        first = missing[0]
        raise ConfigError(
            f"{absent}: no such file, and {len(missing)} of {len(wanted)} rows are to be trained (the first: block "
            f"{first.block}, {first.axes.method}, seed {first.seed}); writers/imagenette.py writes it"
        )
    print(f"all {len(wanted)} rows are in rows.jsonl: nothing to train ({absent} is missing: their keys not compared)")
    return 0


def export_all(study: Path) -> int:
    """Export the store that a run left, for example a killed one, and draw from it."""
    workdir = read_blocks(study)[0].sweeps[0].workdir
    with Store(store_path(workdir), readonly=True) as store:
        print(f"{export(study, store)} rows")
    draw(study)
    return 0
