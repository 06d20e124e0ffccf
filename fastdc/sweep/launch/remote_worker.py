"""Run cells in another process than the sweep's: check that it fits, and report by events all that it does."""

import hashlib
import os
import socket
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from fastdc import _version
from fastdc.beton.missing_manifest import one_use
from fastdc.common.errors import ConfigError, FastDCError
from fastdc.common.log import progress_shown
from fastdc.common.machine import gpu_capability
from fastdc.common.precision import check_precision, precision_label, resolve_precision
from fastdc.common.text import one_line
from fastdc.observe.observer_config import ObserverConfig
from fastdc.sweep.cell_runner import actual_device
from fastdc.sweep.launch.cell_worker import CellWorker
from fastdc.sweep.launch.workers import Costs, Event, Finished, Message, Request, SubsetMade, Tracked
from fastdc.sweep.observers_left import observers_left, observers_of
from fastdc.sweep.plan import Plan
from fastdc.track import listening


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
        cpu_share: part of the host's CPUs with which the worker loads data; None for all. On a GPU it replaces the
            plan's threads, unless the sweep sets them.
        gpu_share: part of its GPU's memory that the worker takes; None for a GPU of its own.
    """

    version: str
    folder: Path
    cpu_share: float | None = None
    gpu_share: float | None = None


def _precision_problem(plan: Plan) -> str | None:
    """Return why this process's GPU cannot compute in the precisions of the plan, or None."""
    own, capability = resolve_precision(plan.config.precision, "cuda"), gpu_capability()
    precision = precision_label(own, plan.config.compile)
    if planned := next(
        (cell.label["precision"] for cell in plan.runnable if cell.label["precision"] != precision), None
    ):
        return (
            f"precision auto is {precision} on its GPU, the sweep is planned for {planned}; choose one by --precision"
        )
    try:
        check_precision(own, "cuda", capability)
    except ConfigError as error:
        return str(error)
    if not any(_lacks(observer, capability) for observer in observers_of(plan, plan.runnable)):
        return None  # before records are read, any of which may be damaged
    left = (_lacks(observer, capability) for observer, _ in observers_left(plan, plan.runnable))
    return next(filter(None, left), None)


def _lacks(observer: ObserverConfig, capability: tuple[int, int] | None) -> str | None:
    """Return why a GPU cannot train an observer, or None; the sweep's process has resolved `auto` for its own GPU."""
    try:
        check_precision(observer.precision, "cuda", capability)
    except ConfigError as error:
        return f"observer {observer.arch}: {error}, by --observer precision=..."
    return None


def _gpu_problem(plan: Plan, share: float | None) -> str | None:
    """Take this process's share of its GPU; return why the GPU cannot run the plan, or None."""
    import torch

    from fastdc.common.gpu_share import take_gpu_share

    if (problem := _precision_problem(plan)) is not None:
        return problem
    try:
        if share is not None:
            take_gpu_share(share)
        torch.zeros(1, device="cuda").item()  # a GPU that failed in an earlier process fails here, before any cell
    except RuntimeError as error:
        return f"its GPU cannot be used ({one_line(error)})"
    return None


class RemoteWorker:
    """Worker in another process, or on another host, than the scheduler.

    It never writes the store: what subsets cost goes to the scheduler as an event, like messages and epochs.

    Args:
        report: takes the events.
    """

    def __init__(self, report: Callable[[Event], None]) -> None:
        self._report = report
        self._costs: Costs = {}
        self._betons: tuple[Path, ...] = ()  # no warnings about their manifests: the sweep's process gave them

    def open(self, plan: Plan, home: Home) -> str | None:
        """Prepare for the cells of `plan`; return why that is not possible, or None."""
        host, version = socket.gethostname(), this_fastdc()
        data = [plan.config.train, plan.config.val_file, *(each.path for each in plan.external_sets)]
        if version != home.version:
            return f"host {host} has fastdc {version}, the sweep {home.version}; install the same on all"
        try:
            os.chdir(home.folder)
        except OSError as error:  # absolute paths do not need the folder
            if any(not path.is_absolute() for path in (plan.config.workdir, *data)):
                return f"host {host} cannot enter {home.folder} ({error.strerror}); share the folder between all hosts"
        self._betons = tuple(data)
        try:
            with one_use(self._betons):
                return self._prepare(plan, home, host)
        except (FastDCError, OSError) as error:
            return f"host {host}: {error}"

    def _prepare(self, plan: Plan, home: Home, host: str) -> str | None:
        from fastdc.beton import describe_beton
        from fastdc.common.threads import loader_cpus, share_cpus

        if not plan.store_path.exists():
            return f"host {host} does not see {plan.store_path}; all hosts must share the folder {plan.config.workdir}"
        for path, manifest in ((plan.config.train, plan.train), (plan.config.val_file, plan.val)):
            if describe_beton(path).content_hash != manifest.content_hash:
                return f"host {host}: {path}: other images than the sweep's; all hosts must share one file"
        for external in plan.external_sets:
            external.check()
        if (device := actual_device()) != plan.device:
            return f"host {host}: torch computes on {device}, the sweep is planned for {plan.device}"
        if device == "cuda" and (problem := _gpu_problem(plan, home.gpu_share)) is not None:
            return f"host {host}: {problem}"
        if home.cpu_share is not None:
            share_cpus(home.cpu_share)
            if device == "cuda" and not plan.config.threads:
                plan = replace(plan, threads=loader_cpus())
        self._worker = CellWorker(plan, self)
        return None

    def run(self, request: Request) -> None:
        """Handle a request and report its events, of which `Finished` is the last."""
        self._costs |= request.costs
        with (
            one_use(self._betons),
            progress_shown(False),
            redirect_stderr(StringIO()) as messages,
            listening(lambda event: self._report(Tracked(event))),
        ):
            try:
                for event in self._worker.run(request):
                    if text := messages.getvalue():
                        self._report(Message(text))
                        messages.seek(0)
                        messages.truncate()
                    self._report(event)
            except Exception as error:
                self._report(Finished(error))

    def subset_cost(self, key: str) -> dict[str, Any] | None:
        """See `Store.subset_cost`."""
        return self._costs.get(key)

    def keep_subset_cost(self, key: str, label: str, cost: dict[str, Any]) -> None:
        """See `Store.keep_subset_cost`."""
        self._costs[key] = cost
        self._report(SubsetMade(key, label, cost))
