"""A tracker in a package of its own: one line for each epoch in `epochs.csv`."""

import csv
from pathlib import Path
from typing import Any

from fastdc.track.tracker import Tracker, Values


class CsvTracker(Tracker):
    """Tracker that keeps the epochs of all runs in one file."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.where = str(folder / "epochs.csv")

    def start(self, cell: str, key: str, labels: dict[str, Any]) -> None:
        """Write the settings of a run."""
        self._write(cell, "settings", *(f"{name}={value}" for name, value in labels.items()))

    def log(self, cell: str, epoch: int, seconds: float, values: Values) -> None:
        """Write the loss and the accuracy of an epoch."""
        self._write(cell, epoch, values.get("loss"), values.get("top1"))

    def finish(self, cell: str, state: str, values: Values) -> None:
        """Write how a run ended."""
        self._write(cell, state, values.get("top1"))

    def _write(self, *row: Any) -> None:
        with open(self.where, "a", newline="") as file:
            csv.writer(file).writerow(row)
