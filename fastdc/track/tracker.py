"""What a tracker can do; each kind is one file beside this one, and is imported in a process of its own."""

from abc import ABC, abstractmethod
from importlib import import_module
from pathlib import Path
from typing import Any

Values = dict[str, float]


class Tracker(ABC):
    """Keeps the curves of runs somewhere. What it raises ends the tracking, never a run.

    Args:
        folder: where it may write.

    Attributes:
        where: what to tell people about where the curves are.
    """

    where: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def start(self, cell: str, key: str, labels: dict[str, Any]) -> None:
        """A run begins. `cell` is its name, `key` its hash in the store, `labels` say what it is made of."""

    @abstractmethod
    def log(self, cell: str, epoch: int, seconds: float, values: Values) -> None:
        """An epoch ended (counted from 1) at `seconds` since 1970."""

    @abstractmethod
    def finish(self, cell: str, state: str, values: Values) -> None:
        """A run ended: done, failed, diverged or interrupted; `values` are numbers of its result."""

    def close(self) -> None:  # noqa: B027  (most have nothing to do here)
        """No more runs; whatever is open elsewhere is closed here."""


def make_tracker(target: str, folder: Path) -> Tracker:
    """The tracker that `target` names as `module:class`."""
    module, _, name = target.partition(":")
    made: Tracker = getattr(import_module(module), name)(folder)
    return made
