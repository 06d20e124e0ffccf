"""Remove files that a killed sweep left behind and that are no longer needed."""

import shutil
from pathlib import Path

from fastdc.common.files import remove_temporaries
from fastdc.sweep.store.results import Store


def remove_leftovers(workdir: Path, store: Store) -> None:
    """Remove temporary files whose writer has ended, and checkpoints of finished runs.

    This is safe while other sweeps work in the folder.
    """
    remove_temporaries(workdir.rglob(".*.????????.tmp"))
    remove_checkpoints(workdir, store)


def remove_checkpoints(workdir: Path, store: Store) -> None:
    """Remove the checkpoints of finished runs, left by a sweep that was killed after it stored the result."""
    folder = workdir / "checkpoints"
    if not folder.is_dir():
        return
    left = [path for path in folder.iterdir() if path.is_dir()]
    if not left:
        return
    states = store.states(redo=True)  # a run that is being redone is not finished
    for path in left:
        if states.get(path.name) == "done":
            shutil.rmtree(path, ignore_errors=True)
