"""Run cells in several processes on this host: one or more on each GPU, or on the CPU."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for_any
from typing import Any

from fastdc.common.choices import Device
from fastdc.common.errors import WorkerError
from fastdc.common.machine import weakest_gpu
from fastdc.common.precision import auto_precision
from fastdc.common.threads import host_cpus
from fastdc.sweep.cell_runner import actual_device
from fastdc.sweep.launch.child_process import ChildProcess
from fastdc.sweep.launch.host_gpus import compute_on, find_gpus, gpu_numbers
from fastdc.sweep.launch.plan_message import pickled
from fastdc.sweep.launch.worker_starts import log_if_shown
from fastdc.sweep.launch.workers import Event, Finished, Lost, Request, Started
from fastdc.sweep.plan import Plan
from fastdc.sweep.sweep_config import SweepConfig

NO_GPU = ""
"""Value of CUDA_VISIBLE_DEVICES that hides every GPU."""


@dataclass
class HostLauncher:
    """Launcher of processes on this host that run cells side by side.

    Args:
        workers: number of processes; None is one for each of the `gpus`.
        gpus: GPUs to use, see `gpu_numbers`; None is torch's first GPU, or the CPU where there is none.

    Raises:
        ConfigError: `gpus` cannot be read.
    """

    workers: int | None = None
    gpus: str | None = None

    def __post_init__(self) -> None:
        if self.gpus is not None:
            gpu_numbers(self.gpus)

    def device(self) -> Device:
        """Return the device on which workers compute.

        From now on this thread computes on the first of the `gpus`, such as a dry run's probe or a check of teachers.

        Raises:
            ConfigError: this host does not have the GPUs.
        """
        if self.gpus is None:
            return actual_device()
        compute_on(find_gpus(self.gpus)[0])
        return "cuda"

    def resolve(self, config: SweepConfig, device: Device) -> SweepConfig:
        """See `Launcher`. Any of the `gpus` may run any cell, and its key names one precision: the weakest decides."""
        if self.gpus is None or device == "cpu":
            return config
        best = auto_precision(weakest_gpu(gpu_numbers(self.gpus)))
        changed: dict[str, Any] = {"precision": best} if config.precision == "auto" else {}
        if config.observer.get("precision") == "auto":
            changed["observer"] = config.observer | {"precision": best}
        return config.model_copy(update=changed)

    def capacity(self, plan: Plan) -> int:
        """Return the number of workers."""
        return len(self._places(plan.device))

    def crowded(self, plan: Plan) -> bool:
        """Return whether several workers share a GPU."""
        return plan.device == "cuda" and most_at_a_place(self._places(plan.device)) > 1

    @contextmanager
    def open(self, plan: Plan) -> Iterator["HostWorkers"]:
        """Open workers for the cells of `plan`; they end with the block."""
        places, cpus = self._places(plan.device), host_cpus()
        if plan.device == "cpu" and len(places) * plan.threads > cpus:
            log_if_shown(
                f"note: {len(places)} workers of {plan.threads} threads slow each other on {cpus} CPUs; set fewer with "
                "--workers, or with --threads, on which the results of a CPU depend"
            )
        with closing(HostWorkers(plan, places)) as workers:
            yield workers

    def close(self) -> None:
        """See `Launcher`; nothing stays open."""

    def _places(self, device: Device) -> tuple[str, ...]:
        """Return for each worker its value of CUDA_VISIBLE_DEVICES; all GPUs get equal numbers of them, or nearly."""
        gpus = (NO_GPU,) if device == "cpu" else find_gpus(self.gpus or "0")
        return tuple(gpus[number % len(gpus)] for number in range(self.workers or len(gpus)))


def most_at_a_place(places: tuple[str, ...]) -> int:
    """Return the largest number of workers with one value of CUDA_VISIBLE_DEVICES."""
    return max(Counter(places).values())


class HostWorkers:
    """Processes on this host for the cells of one plan; see `Workers`.

    Args:
        plan: the sweep of the cells.
        places: for each worker its value of CUDA_VISIBLE_DEVICES. Workers on one GPU divide its memory, and all divide
            the CPUs that load data.
    """

    separate = True

    def __init__(self, plan: Plan, places: tuple[str, ...]) -> None:
        crowd = most_at_a_place(places)  # one share for all, so that no choice depends on a worker's place
        shared = plan.device == "cuda" and crowd > 1
        self._message = pickled(plan, 1 / len(places), 1 / crowd if shared else None)
        self._places = places
        self._faults = Counter[int]()  # workers that could not start or were lost, by index of their place
        self._children: dict[int, ChildProcess] = {}
        self._place_of: dict[int, int] = {}
        self._refused: list[tuple[int, Event]] = []
        self._started = 0

    def capacity(self) -> int:
        """See `Workers`."""
        return len(self._places)

    def start(self) -> int:
        """See `Workers`. Takes the free place where the fewest workers failed, so that a dead GPU comes last."""
        self._started += 1
        free = set(range(len(self._places))) - set(self._place_of.values())
        place = self._place_of[self._started] = min(free, key=lambda one: (self._faults[one], one))
        try:
            self._children[self._started] = ChildProcess(self._message, {"CUDA_VISIBLE_DEVICES": self._places[place]})
        except WorkerError as error:
            self._faults[place] += 1
            self._refused.append((self._started, Started(str(error))))
        return self._started

    def send(self, worker: int, request: Request) -> None:
        """See `Workers`."""
        self._children[worker].send(request)

    def wait(self, seconds: float) -> list[tuple[int, Event]]:
        """See `Workers`."""
        refused, self._refused = self._refused, []
        if refused:
            return refused
        wait_for_any([child.connection for child in self._children.values()], seconds)
        return [(worker, event) for worker in list(self._children) for event in self._events(worker)]

    def _events(self, worker: int) -> Iterator[Event]:
        """Generate the events that a worker has ready."""
        child = self._children[worker]
        try:
            while child.connection.poll():
                event = child.receive()
                if isinstance(event, Lost) or (isinstance(event, Started) and event.problem is not None):
                    self._faults[self._place_of[worker]] += 1
                yield event
                if isinstance(event, Started | Finished | Lost):
                    return
            if not child.has_ended():
                return
        except (EOFError, OSError):
            pass
        self._faults[self._place_of[worker]] += 1
        del self._children[worker]
        yield Lost(child.exit_reason())

    def drop(self, worker: int) -> None:
        """See `Workers`."""
        self._place_of.pop(worker, None)
        if worker in self._children:
            self._children.pop(worker).close()

    def close(self) -> None:
        """Kill all workers; their work is left as a killed process leaves it."""
        for child in self._children.values():  # all at once: a process on a GPU may take seconds to end
            child.kill()
        for worker in list(self._children):
            self.drop(worker)
