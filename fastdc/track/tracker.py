"""Define the interface of trackers. Each kind has a file beside this one, imported only in its own process."""

from abc import ABC, abstractmethod
from importlib import import_module
from pathlib import Path
from typing import Any

Values = dict[str, float]


class Tracker(ABC):
    """Base class of trackers, which keep the curves of runs. An exception ends the tracking, never a run.

    Args:
        folder: where it may write.

    Attributes:
        where: message for the user on where the curves are.
    """

    where: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def start(self, cell: str, key: str, labels: dict[str, Any]) -> None:
        """Start a run.

        Args:
            cell: name of the run.
            key: its content key in the store.
            labels: its settings.
        """

    @abstractmethod
    def log(self, cell: str, epoch: int, seconds: float, values: Values) -> None:
        """Log the values of an epoch.

        Args:
            cell: name of the run.
            epoch: number of the epoch, counted from 1.
            seconds: end of the epoch, in seconds since 1970.
            values: numbers by name.
        """

    @abstractmethod
    def finish(self, cell: str, state: str, values: Values) -> None:
        """Finish a run.

        Args:
            cell: name of the run.
            state: done, failed, diverged or interrupted.
            values: numbers of its result by name.
        """

    def close(self) -> None:  # noqa: B027  (most have nothing to do here)
        """Close the tracker after its last run."""


def make_tracker(target: str, folder: Path) -> Tracker:
    """Create the tracker that `target` names as `module:class`."""
    module, _, name = target.partition(":")
    made: Tracker = getattr(import_module(module), name)(folder)
    return made
