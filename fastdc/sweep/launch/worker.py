"""Run cells outside the sweep's own process, in a worker that handles many requests. Independent of any launcher.

A worker never writes the store. The cost of the subsets that it makes goes back with its answer, like everything else.
"""

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from fastdc import _version
from fastdc.beton.missing_manifest import one_use
from fastdc.common.errors import FastDCError, MethodError
from fastdc.sweep.cells import Cell, Plan
from fastdc.sweep.failures import ends_sweep
from fastdc.sweep.provenance import Watch
from fastdc.sweep.run_cells import CellFailure, CellResult, attempt_alone, attempt_together, failure_of
from fastdc.track import Event, listening

Result = CellResult | CellFailure
Costs = dict[str, dict[str, Any]]
Told = tuple[tuple[int, Event], ...]
"""Events, each with its number among all events of its worker."""

NEWS_SECONDS = 0.5
"""Shortest time between two answers with news."""
SILENT_SECONDS = 10.0
"""Time after which a request for news gets an empty answer."""


def this_fastdc() -> str:
    """Return the version of this fastdc and a hash of its code.

    Two checkouts of one version may compute different results.
    """
    digest, root = hashlib.sha256(), Path(_version.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return f"{_version.__version__} (code {digest.hexdigest()[:8]})"


class Home(NamedTuple):
    """Hold what a worker must have in common with the sweep's process.

    Attributes:
        version: version of fastdc, see `this_fastdc`.
        folder: the current folder, to which paths are relative.
        cpu_share: part of the host's CPUs that each worker on a GPU takes; None leaves the plan's threads.
    """

    version: str
    folder: Path
    cpu_share: float | None = None


class Answer(NamedTuple):
    """Hold a worker's answer to a request.

    Attributes:
        results: one for each cell that was run, in order; fewer if `ends` is set.
        costs: label and cost of each subset that was made (seconds by part, and its content), by content key.
        failure: why the request failed, such as a network or subset that could not be made.
        said: messages for the user.
        events: events for the listeners in the sweep's process (`fastdc.track`). `News` may have delivered some
            already.
        ends: an error that would end every other cell too, such as a full disk.
    """

    results: tuple[Result, ...] = ()
    costs: dict[str, tuple[str, dict[str, Any]]] = {}  # noqa: RUF012  (never changed)
    failure: CellFailure | None = None
    said: str = ""
    events: Told = ()
    ends: Exception | None = None


class CostBook:
    """Stand-in for the store in a worker: costs that came with requests, and new ones for the next answer."""

    def __init__(self) -> None:
        self.known: Costs = {}
        self.new: dict[str, tuple[str, dict[str, Any]]] = {}

    def subset_cost(self, key: str) -> dict[str, Any] | None:
        """See `Store.subset_cost`."""
        return self.known.get(key)

    def keep_subset_cost(self, key: str, label: str, cost: dict[str, Any]) -> None:
        """See `Store.keep_subset_cost`."""
        self.known[key] = cost
        self.new[key] = (label, cost)


class News:
    """Queue of events of a worker's current request: one thread adds events while another reads them."""

    def __init__(self) -> None:
        self._told: list[tuple[int, Event]] = []
        self._next = 0
        self._changed = threading.Condition()

    def tell(self, event: Event) -> None:
        """Add an event. `listening` calls this with every event of the process."""
        with self._changed:
            self._told.append((self._next, event))
            self._next += 1
            self._changed.notify_all()

    def since(self, number: int, seconds: float = 0.0) -> Told:
        """Return the events from this number on, after a wait of up to `seconds` for the first."""
        with self._changed:
            self._changed.wait_for(lambda: self._next > number, seconds)
            return tuple(told for told in self._told if told[0] >= number)

    def take(self) -> Told:
        """Remove and return all events."""
        with self._changed:
            told, self._told = tuple(self._told), []
            return told


class CellWorker:
    """Worker that runs cells of one plan, one request after the other.

    Imports, kernels and open betons stay in memory between requests.
    """

    def __init__(self) -> None:
        self._book = CostBook()
        self._news = News()
        self._betons: tuple[Path, ...] = ()  # no warnings about their manifests: the sweep's process gave them

    def news(self, number: int) -> Told:
        """Return the events from this number on as soon as there are any; called from another thread during a request.

        The answer to the request repeats all its events, so lost news do no harm.
        """
        time.sleep(NEWS_SECONDS)  # collects the events of short epochs in one answer
        return self._news.since(number, SILENT_SECONDS)

    def open(self, plan: Plan, home: Home) -> str | None:
        """Prepare for the cells of `plan`; return why that is not possible, or None."""
        host, version = socket.gethostname(), this_fastdc()
        if version != home.version:
            return f"host {host} has fastdc {version}, the sweep {home.version}; install the same on all"
        try:
            os.chdir(home.folder)
        except OSError as error:  # absolute paths do not need the folder
            if any(not path.is_absolute() for path in (plan.config.train, plan.config.val_file, plan.config.workdir)):
                return f"host {host} cannot enter {home.folder} ({error.strerror}); share the folder between all hosts"
        self._betons = (plan.config.train, plan.config.val_file)
        try:
            with one_use(self._betons):
                return self._prepare(plan, home, host)
        except (FastDCError, OSError) as error:
            return f"host {host}: {error}"

    def _prepare(self, plan: Plan, home: Home, host: str) -> str | None:
        from fastdc.beton import describe_beton
        from fastdc.common.threads import host_cpus
        from fastdc.sweep.cell_runner import CellRunner, actual_device

        if not plan.store_path.exists():
            return f"host {host} does not see {plan.store_path}; all hosts must share the folder {plan.config.workdir}"
        for path, manifest in ((plan.config.train, plan.train), (plan.config.val_file, plan.val)):
            if describe_beton(path).content_hash != manifest.content_hash:
                return f"host {host}: {path}: other images than the sweep's; all hosts must share one file"
        if (device := actual_device()) != plan.device:
            return f"host {host}: torch computes on {device}, the sweep is planned for {plan.device}"
        if home.cpu_share is not None:
            plan = replace(plan, threads=max(1, int(host_cpus() * home.cpu_share)))
        self._cells = {cell.key: cell for cell in plan.runnable}
        self._runner: CellRunner = CellRunner(plan, self._book)
        return None

    def make_network(self, key: str) -> Answer:
        """Train a network that several cells need; see `networks_of`.

        A `MethodError` is ignored here: the cells that need the network raise it again when they run.
        """

        def make() -> Answer:
            with suppress(MethodError):
                self._runner.make_network(key)
            return Answer()

        return self._answer(make)

    def make_subset(self, key: str) -> Answer:
        """Make the subset that the cell `key` trains on."""
        subset = self._cells[key].subset
        assert subset is not None

        def make() -> Answer:
            self._runner.make_subset(subset)
            return Answer()

        return self._answer(make)

    def run(self, keys: Sequence[str], costs: Costs) -> Answer:
        """Train cells, several at once; `costs` holds the known costs of their subsets."""
        self._book.known |= costs
        return self._answer(lambda: self._run([self._cells[key] for key in keys]))

    def _run(self, cells: list[Cell]) -> Answer:
        watch = Watch()
        results = attempt_together(self._runner.run_together, cells) if len(cells) > 1 else None
        if results is not None:
            return Answer(tuple(_portable(*pair, watch) for pair in zip(cells, results, strict=True)))
        found: list[Result] = []
        for cell in cells:
            watch = Watch()  # a new one for each cell: a failed try to train them at once does not count
            try:
                found.append(_portable(cell, attempt_alone(self._runner.run, cell), watch))
            except Exception as error:  # it ends the sweep; results of earlier cells are kept
                return Answer(tuple(found), ends=error)
        return Answer(tuple(found))

    def _answer(self, work: Callable[[], Answer]) -> Answer:
        """Do the work and put its errors, messages, costs and events into the answer; raise no `Exception`."""
        with one_use(self._betons), redirect_stderr(StringIO()) as said, listening(self._news.tell):
            try:
                answer = work()
            except Exception as error:
                answer = Answer(ends=error) if ends_sweep(error) else Answer(failure=failure_of(error))
        costs, self._book.new = self._book.new, {}
        return answer._replace(costs=costs, said=said.getvalue(), events=self._news.take())


def _portable(cell: Cell, result: Result | Exception, watch: Watch) -> Result:
    """Return a result that any process can unpickle, with what computed it."""
    portable = failure_of(result) if isinstance(result, Exception) else result
    return portable._replace(provenance=watch.told(cell))
