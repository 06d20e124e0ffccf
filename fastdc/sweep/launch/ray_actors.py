"""Run workers as Ray actors, which live as long as the sweep.

Ray's actors, scheduling by resources, streaming results and detection of lost processes are used as they are. Its own
retries (`max_restarts`, `max_task_retries`) are off: a lost cell needs a new claim, another worker and a limit that
counts who is at fault. Prerequisites are not object references: they are files, which other sweeps may make too.
"""

import os
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from fastdc.common.choices import Device
from fastdc.common.errors import ConfigError, WorkerError
from fastdc.common.threads import usable_cpus
from fastdc.sweep.launch.plan_message import pickled, unpickled
from fastdc.sweep.launch.ray_cluster import connect, import_ray, live_nodes
from fastdc.sweep.launch.remote_worker import RemoteWorker
from fastdc.sweep.launch.workers import Event, Finished, Lost, Request, Started
from fastdc.sweep.plan import Plan
from fastdc.sweep.sweep_config import SweepConfig

LOOK_AGAIN_SECONDS = 5.0
BATCH_SECONDS = 0.5
"""Time over which a worker collects events before it sends them."""
PASSED_ON = (
    "FASTDC_",
    "NUMBA_",
    "OMP_",
    "GOMP_",
    "KMP_",
    "MKL_",
    "OPENBLAS_",
    "TORCH_",
    "PYTORCH_",
    "CUBLAS_",
    "CUDNN_",
    "NVIDIA_TF32_",
)


@dataclass
class RayLauncher:
    """Connection to a Ray cluster, on which workers can be opened.

    Args:
        address: address of a cluster, as `ray.init` takes it; None takes RAY_ADDRESS, or starts one on this host.
        gpus_per_run: part of a GPU that each worker takes; None is 1 if the cluster has GPUs, else 0.
    """

    address: str | None = None
    gpus_per_run: float | None = None
    _connected: bool = False

    def __post_init__(self) -> None:
        self.address = self.address or os.environ.get("RAY_ADDRESS") or "local"
        if self.address.startswith("ray://"):
            raise ConfigError(
                f"--address {self.address}: the sweep itself must run on a host of the cluster, which shares the "
                "workdir; start it there, with --address auto"
            )

    def device(self) -> Device:
        """Connect to the cluster and return the device on which workers compute."""
        return "cuda" if self._gpus() > 0 else "cpu"

    def resolve(self, config: SweepConfig, device: Device) -> SweepConfig:
        """See `Launcher`. This process does not see the cluster's GPUs: a worker refuses a plan that its GPU lacks."""
        return config

    def capacity(self, plan: Plan) -> int:
        """Connect to the cluster and return the number of workers for `plan` that can exist now.

        Raises:
            ConfigError: no host of the cluster has room for one worker.
            WorkerError: the plan holds a plug-in's object that cannot leave this process.
        """
        return RayWorkers(plan, self._gpus()).capacity()

    def crowded(self, plan: Plan) -> bool:
        """Return whether several workers share a GPU."""
        return 0 < self._gpus() <= 0.5

    @contextmanager
    def open(self, plan: Plan) -> Iterator["RayWorkers"]:
        """Open workers for the cells of `plan`; they end with the block, and so does the connection.

        Raises:
            ConfigError: no host of the cluster has room for one worker.
            WorkerError: the plan holds a plug-in's object that cannot leave this process.
        """
        gpus = self._gpus()
        # Ray prints messages about lost workers on stdout, where results belong. The sweep reports them itself.
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            try:
                with closing(RayWorkers(plan, gpus)) as workers:
                    yield workers
            finally:
                self.close()

    def close(self) -> None:
        """Close the connection. A cluster that was started elsewhere goes on."""
        if self._connected:
            import_ray().shutdown()
            self._connected = False

    def _gpus(self) -> float:
        self._connected |= connect(str(self.address))
        if self.gpus_per_run is None:
            self.gpus_per_run = float(any(node["Resources"].get("GPU", 0) >= 1 for node in live_nodes()))
        return self.gpus_per_run


class RayWorker:
    """Actor that runs cells in a thread, while its method streams the events."""

    def __init__(self) -> None:
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._worker = RemoteWorker(self._events.put)
        self._thread = ThreadPoolExecutor(1)  # one for all requests: thread counts of libraries are kept by thread

    def open(self, message: bytes) -> str | None:
        """Prepare for the plan of a message of `pickled`; see `RemoteWorker.open`."""
        try:
            plan, home = unpickled(message)
        except WorkerError as error:
            return f"host {socket.gethostname()}: {error}"
        return self._worker.open(plan, home)

    def run(self, request: Request) -> Iterator[list[Event]]:
        """Handle a request; generate its events as they occur, those of short epochs together."""
        self._thread.submit(self._run, request)
        batch: list[Event] = []
        while not (batch and isinstance(batch[-1], Finished | Lost)):
            batch = [self._events.get()]
            until = time.monotonic() + BATCH_SECONDS
            with suppress(Empty):
                while not isinstance(batch[-1], Finished | Lost):
                    batch.append(self._events.get(timeout=max(until - time.monotonic(), 0.0)))
            yield batch

    def _run(self, request: Request) -> None:
        try:
            self._worker.run(request)
        except BaseException:  # such as a plug-in's sys.exit, which would end only the thread
            os._exit(1)


class RayWorkers:
    """Ray actors for the cells of one plan; see `Workers`.

    A worker on a CPU reserves one CPU for each of its threads. A worker on a GPU reserves its part of the GPU, and may
    use that part of the GPU's memory. It reserves no CPU: its threads load data, on the same part of the host's CPUs.

    Raises:
        ConfigError: no host of the cluster has room for one worker.
        WorkerError: the plan holds a plug-in's object that cannot leave this process.
    """

    separate = True

    def __init__(self, plan: Plan, gpus: float) -> None:
        self._ray = import_ray()
        self._cpus, self._gpus = (0, gpus) if gpus else (plan.threads, 0.0)
        self._looked, self._capacity = 0.0, 0
        self._check()
        kind, taken = ("GPU", gpus) if gpus else ("CPU", plan.threads)
        share = min((taken / node["Resources"][kind] for node in live_nodes() if self._room(node)), default=1.0)
        # Ray itself would report what it cannot pickle in several lines, the whole plan among them.
        message = pickled(plan, share, gpus if 0 < gpus < 1 else None, self._ray.cloudpickle.dumps)
        self._message = self._ray.put(message)
        self._actor = self._ray.remote(RayWorker).options(
            num_cpus=self._cpus, num_gpus=gpus, max_restarts=0, runtime_env={"env_vars": worker_environment(gpus)}
        )
        self._actors: dict[int, Any] = {}
        self._pending: dict[Any, int] = {}  # worker by pending start (an object) or request (a stream of events)
        self._started = 0

    def _room(self, node: dict[str, Any]) -> int:
        """Return the number of workers for which a host has room."""
        resources = node["Resources"]
        if self._gpus:
            # No worker takes parts of two GPUs. The 1e-6 guards against 1 / gpus just below a whole number.
            return int(resources.get("GPU", 0)) * int(1 / self._gpus + 1e-6)
        return int(resources.get("CPU", 0) / self._cpus)

    def _check(self) -> None:
        """Refuse, before any work, a cluster on which no worker has room."""
        if self.capacity() == 0:
            hosts = [node["Resources"] for node in live_nodes()]
            most = {kind: max((host.get(kind, 0) for host in hosts), default=0) for kind in ("CPU", "GPU")}
            needed, hint = f"{self._cpus} CPUs (its threads)", "lower --threads"
            if self._gpus:
                needed, hint = f"{self._gpus:g} of a GPU", "start Ray with --num-gpus, or set --gpus-per-run 0"
            found = f"{most['CPU']:g} CPUs and {most['GPU']:g} GPUs"
            raise ConfigError(f"--launcher ray: a run takes {needed}, the largest host has {found}; {hint}")

    def capacity(self) -> int:
        """See `Workers`. Counts the workers for which the live hosts have room, anew every `LOOK_AGAIN_SECONDS`."""
        if self._looked == 0.0 or time.monotonic() - self._looked > LOOK_AGAIN_SECONDS:
            self._capacity, self._looked = sum(map(self._room, live_nodes())), time.monotonic()
        return self._capacity

    def start(self) -> int:
        """See `Workers`."""
        self._started += 1
        actor = self._actors[self._started] = self._actor.remote()
        self._pending[actor.open.remote(self._message)] = self._started
        return self._started

    def send(self, worker: int, request: Request) -> None:
        """See `Workers`."""
        stream = self._actors[worker].run.options(num_returns="streaming").remote(request)
        self._pending[stream] = worker

    def wait(self, seconds: float) -> list[tuple[int, Event]]:
        """See `Workers`."""
        if not self._pending:
            time.sleep(seconds)
            return []
        pending = list(self._pending)
        ready, _ = self._ray.wait(pending, num_returns=1, timeout=seconds)
        if ready:  # ray.wait returns num_returns at most: collect all others that are ready by now
            ready, _ = self._ray.wait(pending, num_returns=len(pending), timeout=0)
        return [event for source in ready for event in self._events(source)]

    def _events(self, source: Any) -> list[tuple[int, Event]]:
        """Return the events that a start or a request has ready."""
        events: list[Event]
        try:
            if isinstance(source, self._ray.ObjectRefGenerator):
                events = self._ray.get(next(source))
            else:
                events = [Started(self._ray.get(source))]
        except self._ray.exceptions.RayError as error:
            events = [Lost(lost_reason(error))]
        worker = self._pending[source]
        if isinstance(events[-1], Started | Finished | Lost):
            del self._pending[source]
        return [(worker, event) for event in events]

    def drop(self, worker: int) -> None:
        """See `Workers`."""
        self._pending = {source: owner for source, owner in self._pending.items() if owner != worker}
        actor = self._actors.pop(worker, None)
        if actor is not None:
            with suppress(Exception):  # gone already
                self._ray.kill(actor)

    def close(self) -> None:
        """Kill all workers; their work is left as a killed process leaves it."""
        for worker in list(self._actors):
            self.drop(worker)


def worker_environment(gpus: float) -> dict[str, str]:
    """Return the environment variables with which a worker computes the same as this process.

    Without OMP_NUM_THREADS Ray gives its workers one OpenMP thread.
    """
    passed = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    passed["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(usable_cpus()))
    return passed if gpus else passed | {"CUDA_VISIBLE_DEVICES": ""}


def lost_reason(error: Exception) -> str:
    """Describe in one line why a worker is lost or could not handle a request."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    died = re.split(r"(?:Worker exit detail: |The actor died because |The actor is dead because )(?!of an error)", text)
    if len(died) > 1:
        reason = " ".join(died[-1].split()).partition(". Some common")[0].partition(". Node Id")[0]
    elif "Traceback" in text or "  File " in text or "^^^" in text:  # a Python traceback: its last line is the error
        reason = f"{text.splitlines()[-1]}; is the same fastdc, with what it needs, installed on every host?"
    else:
        reason = " ".join(text.split())
    return f"{type(error).__name__.partition('(')[0]}: {reason[:300]}"
