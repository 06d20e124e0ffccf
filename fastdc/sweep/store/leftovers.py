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
    left = [path for path in workdir.glob("checkpoints/*") if path.is_dir()]
    # A sweep that was killed after it stored a result leaves its checkpoint. A run that is redone is not finished.
    states = store.states(redo=True) if left else {}
    for path in left:
        if states.get(path.name) == "done":
            shutil.rmtree(path, ignore_errors=True)
