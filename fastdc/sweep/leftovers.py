"""What a killed sweep left lying and nobody needs any more."""

import shutil
from pathlib import Path

from fastdc.files import remove_temporaries
from fastdc.sweep.store import Store


def remove_leftovers(workdir: Path, store: Store) -> None:
    """Temporary files whose writer is dead, and checkpoints of finished runs. Other sweeps may be at work."""
    remove_temporaries(workdir.rglob(".*.????????.tmp"))
    remove_checkpoints(workdir, store)


def remove_checkpoints(workdir: Path, store: Store) -> None:
    """Remove the checkpoints of finished runs: the sweep was killed after the result was stored."""
    folder = workdir / "checkpoints"
    if not folder.is_dir():
        return
    left = [path for path in folder.iterdir() if path.is_dir()]
    if not left:
        return
    states = store.states(redo=True)  # one that is run once more is not finished
    for path in left:
        if states.get(path.name) == "done":
            shutil.rmtree(path, ignore_errors=True)
