"""Record golden values again, after a change that is meant.

    python -m tests.golden.write [GROUP ...]      keys, made, stores, surface; none given takes all

Each group's file in `values/` is written anew; the differences are printed for the commit's reader. A grid in `stores/`
without a store is run by the present code first; a store that lies there is never written again.
"""

import os
import sys
import tempfile
from pathlib import Path

from tests.golden import golden, stores
from tests.golden.record import ENVIRONMENT, GROUPS, start, values


def main(groups: list[str]) -> None:
    """Write the groups named, or all."""
    os.environ.update(ENVIRONMENT)  # before torch is loaded, for the stores that are made here
    with tempfile.TemporaryDirectory(prefix="golden-") as folder:
        for grid in sorted(stores.STORES.glob("*.yaml")):
            if not grid.with_suffix(".sqlite").exists():
                _make_store(grid, Path(folder) / grid.stem)
        started = {group: start(group, Path(folder) / group) for group in groups or GROUPS}
        for group, process in started.items():
            _write(group, values(process, Path(folder) / group))


def _make_store(grid: Path, work: Path) -> None:
    work.mkdir()
    before = Path.cwd()
    os.chdir(work)
    print(stores.make(grid, work))
    os.chdir(before)


def _write(group: str, found: object) -> None:
    path = golden.path_of(group)
    changed = golden.difference(golden.load(group) if path.exists() else {}, found)
    path.write_text(golden.dump(found))
    print("\n".join([f"{path}: {'changed' if changed else 'unchanged'}", *changed[: golden.SHOWN_LINES]]))


if __name__ == "__main__":
    main(sys.argv[1:])
