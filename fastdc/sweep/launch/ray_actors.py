"""Run workers as Ray actors, which live as long as the sweep. Only this file uses Ray."""

import os
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastdc.common.choices import Device
from fastdc.common.errors import ConfigError, WorkerError
from fastdc.common.threads import host_cpus, usable_cpus
from fastdc.sweep.cells import Plan
from fastdc.sweep.launch.scheduler import Call, Event, PoolSpread
from fastdc.sweep.launch.worker import Answer, CellWorker, Home, Told, this_fastdc
from fastdc.sweep.store.results import Store

LOOK_AGAIN_SECONDS = 5.0
REACH_SECONDS = 10.0
LOCAL_STORE_BYTES = 200 * 2**20
NEWS = "news"  # concurrency group in which a worker answers requests for news, in a thread of its own
PASSED_ON = (
    *("FASTDC_", "NUMBA_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_"),
    *("TORCH_", "PYTORCH_", "CUBLAS_", "CUDNN_"),
)


@dataclass
class RayLauncher:
    """Launcher that runs cells in Ray actors; see `Launcher`.

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
        """See `Launcher.device`. Connects to the cluster."""
        self._connect()
        return "cuda" if self._gpus() > 0 else "cpu"

    def workers(self, plan: Plan) -> int:
        """See `Launcher.workers`. Connects to the cluster.

        Raises:
            ConfigError: no host of the cluster has room for one worker.
        """
        self._connect()
        pool = RayPool(plan, self._gpus())
        pool.check()
        return pool.capacity()

    @contextmanager
    def open(self, plan: Plan, store: Store, show_progress: bool) -> Iterator[PoolSpread]:
        """See `Launcher.open`.

        Raises:
            ConfigError: no host of the cluster has room for one worker.
        """
        self._connect()
        # Ray prints messages about lost workers on stdout, where results belong. The sweep reports them itself.
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            pool = RayPool(plan, self._gpus())
            try:
                pool.check()
                yield PoolSpread(store, pool, show_progress)
            finally:
                pool.close()
                self.close()

    def close(self) -> None:
        """See `Launcher.close`. A cluster that was started elsewhere goes on."""
        if self._connected:
            import_ray().shutdown()
            self._connected = False

    def _gpus(self) -> float:
        if self.gpus_per_run is None:
            self.gpus_per_run = float(any(node["Resources"].get("GPU", 0) >= 1 for node in live_nodes()))
        return self.gpus_per_run

    def _connect(self) -> None:
        ray = import_ray()
        if ray.is_initialized():
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        address = str(self.address)
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL"}
        if address == "local":
            options |= {"num_cpus": host_cpus(), "include_dashboard": False}
            options |= {"object_store_memory": LOCAL_STORE_BYTES}
        try:
            _reach(address)
            with _stderr_closed():
                _start(ray, address, options)
            self._connected = True
        except SystemExit:  # Ray has replaced the handler of SIGTERM, and exits on the signal
            raise KeyboardInterrupt from None
        except Exception as error:  # Ray raises many types here, among them plain Exception
            reason = " ".join(str(error).split())[:300]
            raise WorkerError(f"--launcher ray: no cluster at '{address}': {reason}") from error


@contextmanager
def _stderr_closed() -> Iterator[None]:
    """Discard what native code writes to stderr, where a client of Ray reports every second what it waits for."""
    try:
        kept = os.dup(2)
    except OSError:  # stderr was never open
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _reach(address: str) -> None:
    """Wait up to `REACH_SECONDS` for a host to listen at HOST:PORT; Ray itself would try for minutes.

    Raises:
        OSError: no host listens there.
        OverflowError: there is no such port.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return  # a name such as "auto", which Ray looks up
    deadline = time.monotonic() + REACH_SECONDS
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS).close()
            return
        except (OSError, OverflowError) as error:  # another try cannot mend a port out of range
            if time.monotonic() > deadline or not isinstance(error, OSError):
                raise
        time.sleep(0.5)


def _start(ray: Any, address: str, options: dict[str, Any]) -> None:
    """Connect to a cluster, or start one on this host with two tries.

    Ray gives its own processes 30 s to start, which a busy machine may exceed.
    """
    try:
        ray.init(address=address, **options)
    except Exception:
        ray.shutdown()
        if address != "local":
            raise
        ray.init(address=address, **options)


def import_ray() -> Any:
    """Import the package `ray`.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--launcher ray: Ray is not installed; pip install 'fastdc[ray]'") from error
    return ray


def live_nodes() -> list[dict[str, Any]]:
    """Return the live hosts of the cluster, as Ray describes them."""
    return [node for node in import_ray().nodes() if node["Alive"]]


class RayPool:
    """Pool of the Ray actors of one plan; see `Pool`.

    A worker on a CPU reserves one CPU for each of its threads. A worker on a GPU reserves its part of the GPU and no
    CPU: its threads load data, and it takes the same part of the host's CPUs.
    """

    def __init__(self, plan: Plan, gpus: float) -> None:
        self._ray = import_ray()
        self._cpus, self._gpus = (0, gpus) if gpus else (plan.threads, 0.0)
        share = None
        if gpus and not plan.config.threads:
            share = min((gpus / node["Resources"]["GPU"] for node in live_nodes() if self._room(node)), default=1.0)
        self._home = self._ray.put(Home(this_fastdc(), Path.cwd(), share))
        self._plan = self._ray.put(plan)
        self._actor = self._ray.remote(concurrency_groups={NEWS: 1})(CellWorker).options(
            num_cpus=self._cpus, num_gpus=gpus, max_restarts=0, runtime_env={"env_vars": worker_environment(gpus)}
        )
        self._actors: dict[int, Any] = {}
        self._calls: dict[Any, tuple[int, Call]] = {}
        self._asked: dict[Any, int] = {}  # worker by pending call for news; at most one call for each worker
        self._heard: Counter[int] = Counter()  # number of the next new event, by worker
        self._started = 0
        self._looked, self._capacity = 0.0, 0

    def _room(self, node: dict[str, Any]) -> int:
        """Return the number of workers for which a host has room."""
        resources = node["Resources"]
        if self._gpus:
            # No worker takes parts of two GPUs. The 1e-6 guards against 1 / gpus just below a whole number.
            return int(resources.get("GPU", 0)) * int(1 / self._gpus + 1e-6)
        return int(resources.get("CPU", 0) / self._cpus)

    def check(self) -> None:
        """Refuse, before any work, a cluster on which no worker has room.

        Raises:
            ConfigError: no host has room; names what a worker takes and what the largest host has.
        """
        if self.capacity() == 0:
            hosts = [node["Resources"] for node in live_nodes()]
            most = {kind: max((host.get(kind, 0) for host in hosts), default=0) for kind in ("CPU", "GPU")}
            needed, hint = f"{self._cpus} CPUs (its threads)", "lower --threads"
            if self._gpus:
                needed, hint = f"{self._gpus:g} of a GPU", "start Ray with --num-gpus, or set --gpus-per-run 0"
            found = f"{most['CPU']:g} CPUs and {most['GPU']:g} GPUs"
            raise ConfigError(f"--launcher ray: a run takes {needed}, the largest host has {found}; {hint}")

    def capacity(self) -> int:
        """See `Pool`. Counts the workers for which the live hosts have room, anew every `LOOK_AGAIN_SECONDS`."""
        if self._looked == 0.0 or time.monotonic() - self._looked > LOOK_AGAIN_SECONDS:
            self._capacity, self._looked = sum(map(self._room, live_nodes())), time.monotonic()
        return self._capacity

    def start(self) -> int:
        """See `Pool`."""
        self._started += 1
        self._actors[self._started] = self._actor.remote()
        self.send(self._started, "open", self._plan, self._home)
        return self._started

    def send(self, worker: int, call: Call, *arguments: Any) -> None:
        """See `Pool`."""
        self._calls[getattr(self._actors[worker], call).remote(*arguments)] = (worker, call)
        if call != "open" and worker not in self._asked.values():
            self._ask(worker)

    def _ask(self, worker: int) -> None:
        ask = self._actors[worker].news.options(concurrency_group=NEWS)
        self._asked[ask.remote(self._heard[worker])] = worker

    def wait(self, seconds: float) -> list[Event]:
        """See `Pool`."""
        if not self._calls:
            time.sleep(seconds)
            return []
        waiting = [*self._asked, *self._calls]
        ready, _ = self._ray.wait(waiting, num_returns=1, timeout=seconds)
        if ready:  # ray.wait returns num_returns at most: collect all others that are ready by now
            ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        news = [event for call in ready if call in self._asked for event in self._news(call)]
        return news + [self._event(call) for call in ready if call in self._calls]

    def _news(self, call: Any) -> list[Event]:
        worker = self._asked.pop(call)
        try:
            told = self._unheard(worker, self._ray.get(call))
        except self._ray.exceptions.RayError:
            return []  # the request that the worker handles will report the error
        if any(worker == busy for busy, _ in self._calls.values()):
            self._ask(worker)
        return [Event(worker, "news", told)] if told else []

    def _unheard(self, worker: int, told: Told) -> Told:
        new = tuple(event for event in told if event[0] >= self._heard[worker])
        if new:
            self._heard[worker] = new[-1][0] + 1
        return new

    def _event(self, call: Any) -> Event:
        worker, name = self._calls.pop(call)
        try:
            value = self._ray.get(call)
            if isinstance(value, Answer):
                value = value._replace(events=self._unheard(worker, value.events))
            return Event(worker, name, value)
        except self._ray.exceptions.RayError as error:
            self.drop(worker)
            return Event(worker, "lost", lost_reason(error))

    def drop(self, worker: int) -> None:
        """See `Pool`."""
        self._calls = {call: sent for call, sent in self._calls.items() if sent[0] != worker}
        self._asked = {call: asked for call, asked in self._asked.items() if asked != worker}
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
