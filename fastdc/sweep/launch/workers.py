"""Interface between the scheduler and its workers: requests, and the events that workers report."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple, Protocol

from fastdc.common.choices import Device
from fastdc.sweep.cell_result import CellFailure, CellResult
from fastdc.sweep.plan import Plan
from fastdc.sweep.sweep_config import SweepConfig
from fastdc.track import Event as TrackEvent

Need = tuple[Literal["network", "subset"], str]
"""Something that has to be made before a cell can run: its kind and its key."""

Costs = dict[str, dict[str, Any]]
"""What subsets cost to make, by content key; see `Store.subset_cost`."""


class Request(NamedTuple):
    """Hold the work of one worker.

    Attributes:
        cells: keys of the cells to train, at once if there are several.
        costs: the known costs of their subsets.
        making: prerequisites that the worker makes first, in order.
        after_crash: keys of the cells that may have ended an earlier process.
    """

    cells: tuple[str, ...]
    costs: Costs
    making: tuple[Need, ...] = ()
    after_crash: tuple[str, ...] = ()


class Started(NamedTuple):
    """Report that a worker is ready, or the problem for which it cannot start; its first event."""

    problem: str | None


class Message(NamedTuple):
    """Report text for the user, of one or more lines."""

    text: str


class Tracked(NamedTuple):
    """Report an event for the listeners in the sweep's process (`fastdc.track`)."""

    event: TrackEvent


class SubsetMade(NamedTuple):
    """Report what a new subset cost; see `Store.keep_subset_cost`."""

    key: str
    label: str
    cost: dict[str, Any]


class Made(NamedTuple):
    """Report that the request's next prerequisite exists, or why it could not be made.

    Attributes:
        failure: how its making failed; None if it exists.
        ends: whether the worker can do nothing more, so that `Lost` follows.
    """

    failure: CellFailure | None
    ends: bool = False


class Ended(NamedTuple):
    """Report how a cell ended, by its key."""

    cell: str
    result: CellResult | CellFailure


class Finished(NamedTuple):
    """Report the end of a request; the error, such as a full disk, would end every other cell too."""

    error: Exception | None = None


class Lost(NamedTuple):
    """Report that a worker has ended unexpectedly, with the reason; its last event."""

    reason: str


Event = Started | Message | Tracked | SubsetMade | Made | Ended | Finished | Lost


class Workers(Protocol):
    """Interface to workers, which are known by number and handle one request at a time.

    Attributes:
        separate: whether workers are other processes, several at once. If so, shared prerequisites are made by one of
            them while the others do other work, and a fault of the machine is tried again on another worker.
    """

    separate: bool

    def capacity(self) -> int:
        """Return the number of workers that can exist now."""

    def start(self) -> int:
        """Start one more worker and return its number."""

    def send(self, worker: int, request: Request) -> None:
        """Send a request to a worker without waiting for its events."""

    def wait(self, seconds: float) -> Iterable[tuple[int, Event]]:
        """Generate events, each with its worker, in the order of each worker; wait up to `seconds` for the first."""

    def drop(self, worker: int) -> None:
        """End a worker at once."""


class Launcher(Protocol):
    """Interface to a place where workers can be opened: processes of this host, or a cluster."""

    def device(self) -> Device:
        """Return the device on which workers compute."""

    def resolve(self, config: SweepConfig, device: Device) -> SweepConfig:
        """Return the sweep with its precisions `auto` replaced by what every worker's GPU has, where that is known."""

    def capacity(self, plan: Plan) -> int:
        """Return the number of workers for `plan` that can exist now."""

    def crowded(self, plan: Plan) -> bool:
        """Return whether several workers share a GPU."""

    def open(self, plan: Plan) -> AbstractContextManager[Workers]:
        """Open workers for the cells of `plan`, which end with the block."""

    def close(self) -> None:
        """Close what `device` and `capacity` have opened."""
