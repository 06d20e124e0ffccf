"""The folder that observers, subsets and results are kept in. Imports no torch."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fastdc.errors import OutputError
from fastdc.files import check_output
from fastdc.progress import say

if TYPE_CHECKING:
    from fastdc.observe.config import ObserverConfig


def prepare_workdir(workdir: Path) -> None:
    """Make the folder and see that it can be written.

    Raises:
        OutputError: it cannot be made, is a file, or is read-only.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        check_output(workdir / "store.sqlite", force=True)
    except OSError as error:
        raise OutputError(f"{workdir}: cannot be made ({error.strerror}); choose another --workdir") from error


def existing_folder(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists: the disk that it will lie on."""
    path = path.absolute()
    while not os.path.exists(path):  # Path.exists raises where a folder above may not be entered
        path = path.parent
    return path


def tell_observer(train_hash: str, workdir: Path, observer: "ObserverConfig") -> None:
    """Say on stderr which observer is read. Call it only where torch is needed anyway: it imports it."""
    from fastdc.observe.run import observer_folder

    folder = observer_folder(workdir, train_hash, observer, 0)
    more = f" and {observer.runs - 1} more runs" if observer.runs > 1 else ""
    say(f"observer {folder}{more}: {observer.arch}, {observer.image_size} px")
