"""Sweeps on a real Ray cluster of two workers on this host."""

import json
import os
import pickle
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any, ClassVar

import pytest

from fastdc.cli.main import run as run_command
from fastdc.common.errors import ConfigError
from fastdc.common.threads import host_cpus
from fastdc.methods import get_method
from fastdc.report import make_rows
from fastdc.sweep.cells import make_plan
from fastdc.sweep.launch import ray_actors
from fastdc.sweep.launch.plan_message import unpickled
from fastdc.sweep.launch.ray_actors import RayLauncher, RayWorkers, lost_reason
from fastdc.sweep.launch.ray_cluster import connect
from fastdc.sweep.run_cells import run_sweep
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig
from tests.processes import start_process
from tests.sweep.stored import results_of, subset_bytes

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'fastdc[ray]'")

Make = Callable[..., SweepConfig]
Write = Callable[[SweepConfig, Path], Path]

GRID = {
    "methods": "full,random,el2n,pca",
    "protocols": "hard-small*epochs=6",
    "set": {"full.protocol.epochs": 2},
    "observer": {"arch": "convnet1_w4", "epochs": 12},
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Start a cluster with room for two runs of one thread; return its address."""
    options: dict[str, Any] = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 80 * 2**20}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # otherwise other work on the machine comes first
        context = ray.init(address="local", log_to_driver=False, logging_level="ERROR", **options)
        yield str(context.address_info["gcs_address"])
        ray.shutdown()


@pytest.mark.timeout(900)
def test_two_workers_store_the_results_of_a_local_sweep(cluster: str, make_config: Make, tmp_path: Path) -> None:
    local, spread = (make_config(**GRID, workdir=tmp_path / name) for name in ("local", "ray"))
    _, expected = run_sweep(local, show_progress=False)
    plan, outcome = run_sweep(spread, show_progress=False, launcher=RayLauncher())
    assert (outcome, outcome.states) == (expected, {"done": 8})
    assert results_of(spread.workdir) == results_of(local.workdir)
    assert subset_bytes(spread.workdir) == subset_bytes(local.workdir)
    with Store(plan.store_path, readonly=True) as store:
        rows = make_rows(store.records())
    assert all(row.observer_seconds for row in rows if row.method in ("el2n", "pca"))
    assert not any((spread.workdir / "checkpoints").glob("*"))


@pytest.mark.timeout(900)
def test_workers_run_on_a_split_of_the_training_set(cluster: str, make_config: Make, tmp_path: Path) -> None:
    grid: dict[str, Any] = {"methods": "random,full", "val": None, "holdout": 0.2}
    local, spread = (make_config(**grid, workdir=tmp_path / name) for name in ("local", "ray"))
    _, expected = run_sweep(local, show_progress=False)
    _, outcome = run_sweep(spread, show_progress=False, launcher=RayLauncher())
    assert (outcome, outcome.states) == (expected, {"done": 4})
    assert results_of(spread.workdir) == results_of(local.workdir)


@pytest.mark.parametrize(
    ("gpus", "threads", "message"),
    [
        (0, 64, r"a run takes 64 CPUs \(its threads\), the largest host has 2 CPUs and 0 GPUs; lower --threads"),
        (0.25, 1, r"a run takes 0.25 of a GPU, the largest host has 2 CPUs and 0 GPUs; start Ray with --num-gpus"),
    ],
)
def test_a_cluster_without_room_is_refused_before_any_cell_is_claimed(
    cluster: str, make_config: Make, gpus: float, threads: int, message: str
) -> None:
    config = make_config(threads=threads)
    with pytest.raises(ConfigError, match=message):
        run_sweep(config, show_progress=False, launcher=RayLauncher(gpus_per_run=gpus))
    assert set(states_of(config)) == {"pending"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("held", "message"),
    [
        (
            "lock",
            r"method random cannot be sent to another process \(TypeError: cannot pickle '_thread\.lock' object\)",
        ),
        (
            "class",
            r"[34] workers could not be started: host \S+: it cannot read a plug-in \(.*No module named 'only_here'\)",
        ),
    ],
)
def test_a_plug_in_that_no_worker_can_get_is_one_line(
    cluster: str,
    make_config: Make,
    write_yaml: Write,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    held: str,
    message: str,
) -> None:
    module = ModuleType("only_here")
    exec("class Mine: pass", vars(module))
    monkeypatch.setitem(sys.modules, "only_here", module)
    monkeypatch.setattr(get_method("random"), "held", Lock() if held == "lock" else module.Mine(), raising=False)
    config = make_config()
    grid = write_yaml(config, tmp_path / "grid.yaml")
    assert run_command(["sweep", str(grid), "--launcher", "ray", "--quiet"]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert re.fullmatch(
        f"error: {message}; define it at the top level of an installed module.* and --launcher ray", line
    )
    assert set(states_of(config)) == {"pending"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--address", "auto"], "--address auto: only --launcher ray reads it"),
        (["--gpus-per-run", "0.5"], "--gpus-per-run 0.5: only --launcher ray reads it"),
        (["--launcher", "ray", "--address", "ray://host:10001"], "must run on a host of the cluster"),
    ],
)
def test_impossible_options_are_refused(
    make_config: Make,
    write_yaml: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    path = write_yaml(make_config(), tmp_path / "grid.yaml")
    assert run_command(["sweep", str(path), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


class Marked:
    """`fastdc sweep --launcher ray` in its own process group, with all of its processes marked."""

    started: ClassVar[list["Marked"]] = []

    def __init__(self, config: Path, *arguments: str) -> None:
        self.mark = f"FASTDC_TEST_MARK={secrets.token_hex(8)}"
        name, value = self.mark.split("=")
        command = [sys.executable, "-m", "fastdc", "sweep", str(config), "--launcher", "ray", "--log", "json"]
        self.log = config.with_suffix(".log")
        with self.log.open("w") as errors:
            self.process = start_process(
                [*command, *arguments],
                env={**os.environ, name: value, "RAY_worker_niceness": "0"},
                start_new_session=True,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.started.append(self)

    def processes(self) -> dict[int, str]:
        """Return the command line of every marked process except Ray's agents, by process id."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # ended meanwhile
                title = (folder / "cmdline").read_text().replace("\0", " ")
                if self.mark.encode() in (folder / "environ").read_bytes() and not re.search("agent", title, re.I):
                    found[int(folder.name)] = title
        return found

    def workers(self) -> list[int]:
        """Return the processes that run its cells."""
        return [pid for pid, title in self.processes().items() if title.startswith("ray::RayWorker")]

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        """Return the events so far."""
        lines = self.log.read_text().splitlines(keepends=True)
        events = [json.loads(line) for line in lines if line.endswith("\n")]
        return [event for event in events if event["event"] in kinds]

    def wait_for(self, condition: Callable[[], bool], seconds: float = 240.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        assert condition(), self.log.read_text()

    def end(self, seconds: float) -> str:
        """Wait for the end; return stdout."""
        return self.process.communicate(timeout=seconds)[0]

    def left(self) -> list[str]:
        """Return command lines of processes that remain for seconds. Ray's idle agents end within a minute."""
        deadline = time.monotonic() + 20
        while (found := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return list(found.values())


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """End the sweeps of a test that failed; they would train 100,000 epochs beside the next tests."""
    yield
    while Marked.started:
        for process in Marked.started.pop().processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def states_of(config: SweepConfig) -> list[str]:
    path = config.workdir / "store.sqlite"
    if not path.exists():
        return []
    with Store(path, readonly=True) as store:
        return sorted(store.states().values())


def both_train(sweep: Marked) -> bool:
    """Return whether two cells train, and have reported an epoch while they run."""
    seen = Counter(event["event"] for event in sweep.events("epoch", "cell_started", "cell_done"))
    return seen["epoch"] > 0 and seen["cell_started"] - seen["cell_done"] == 2


@pytest.mark.timeout(900)
def test_a_killed_worker_only_delays_its_cell(
    cluster: str, make_config: Make, write_yaml: Write, tmp_path: Path
) -> None:
    grid = {"seeds": "0-2", "protocols": "hard-small*epochs=400,validate_every=400"}
    local, spread = (make_config(**grid, workdir=tmp_path / name) for name in ("local", "ray"))
    run_sweep(local, show_progress=False)
    sweep = Marked(write_yaml(spread, tmp_path / "grid.yaml"), "--address", cluster)
    sweep.wait_for(lambda: both_train(sweep))
    os.kill(sweep.workers()[0], signal.SIGKILL)
    out = sweep.end(100)
    assert sweep.process.returncode == 0, sweep.log.read_text()
    lost = [event["text"] for event in sweep.events("message") if "was lost" in event["text"]]
    assert len(lost) == 1
    assert re.fullmatch(r"random ipc 2 .* seed \d: its worker was lost \(.*\); runs again", lost[0])
    assert "3 runs: 3 done (3 of them now)" in out
    assert "raylet" not in out + sweep.log.read_text()
    assert results_of(spread.workdir) == results_of(local.workdir)
    assert subset_bytes(spread.workdir) == subset_bytes(local.workdir)
    epochs: dict[str, list[int]] = {}
    for event in sweep.events("cell_started", "epoch"):
        if event["event"] == "cell_started":
            epochs[event["cell"]] = []
        else:
            epochs[event["cell"]].append(event["epoch"])
    assert list(epochs.values()) == [list(range(1, 401))] * 3  # each epoch once, in order


@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", [pytest.param("control-c", marks=pytest.mark.slow), "kill -9"])
def test_a_stopped_sweep_leaves_no_process_and_no_claim(
    cluster: str, make_config: Make, write_yaml: Write, tmp_path: Path, way: str
) -> None:
    config = make_config(protocols="hard-small*epochs=1,hard-small*epochs=100000")
    address = ["--address", cluster] if way == "control-c" else []  # the other also ends its own cluster
    sweep = Marked(write_yaml(config, tmp_path / "grid.yaml"), *address)
    sweep.wait_for(lambda: states_of(config) == ["done", "done", "running", "running"])
    sent = signal.SIGKILL if way == "kill -9" else signal.SIGINT
    if way == "control-c":
        os.killpg(sweep.process.pid, sent)  # like a terminal
    else:
        sweep.process.send_signal(sent)
    started = time.monotonic()
    sweep.end(60)
    assert sweep.process.returncode == (-signal.SIGKILL if way == "kill -9" else 130), sweep.log.read_text()
    assert not sweep.left()
    assert time.monotonic() - started < 25
    assert "Traceback" not in sweep.log.read_text()
    if way == "control-c":
        message = sweep.events("message")[-1]["text"]
        assert message == "fastdc: interrupted; finished runs are kept, the same command continues the sweep"
        assert states_of(config) == ["done", "done", "interrupted", "interrupted"]
    with Store(config.workdir / "store.sqlite") as store:
        assert all(store.claim(key) is not None for key, state in store.states().items() if state != "done")


def test_an_address_without_a_server_is_one_line(
    make_config: Make,
    write_yaml: Write,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fastdc.sweep.launch.ray_cluster.REACH_SECONDS", 0.1)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # without listening
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        grid = write_yaml(make_config(), tmp_path / "grid.yaml")
        assert run_command(["sweep", str(grid), "--launcher", "ray", "--address", address, "--quiet"]) == 1
    assert (
        capfd.readouterr().err == f"error: --launcher ray: no cluster at '{address}': [Errno 111] Connection refused\n"
    )


def test_a_sigterm_while_ray_starts_is_an_interrupt(
    make_config: Make, write_yaml: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: object, **__: object) -> None:
        raise SystemExit(signal.SIGTERM)  # like Ray's own handler

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", start)
    grid = write_yaml(make_config(), tmp_path / "grid.yaml")
    assert run_command(["sweep", str(grid), "--launcher", "ray", "--quiet"]) == 130


def test_one_openmp_thread_is_no_limit_on_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """OMP_NUM_THREADS=1 is for one run; a cluster of one CPU would have room for a single run."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: given.update(options))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    connect("local")
    assert given["num_cpus"] == host_cpus()


def test_an_address_in_the_environment_follows_the_same_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://host:10001")
    with pytest.raises(ConfigError, match="must run on a host of the cluster"):
        RayLauncher()


class Cluster:
    """Ray as far as workers are prepared: it keeps objects as they are."""

    cloudpickle = pickle

    def put(self, value: Any) -> Any:
        return value

    def remote(self, _actor: type[Any]) -> "Cluster":
        return self

    def options(self, **options: Any) -> dict[str, Any]:
        return options


@pytest.mark.parametrize(
    ("gpus", "workers", "cpu_share", "gpu_share"),
    [(0.25, 16, 1 / 16, 0.25), (1.0, 4, 1 / 4, None), (0.0, 32, 1 / 32, None)],
)
def test_workers_divide_a_host(
    make_config: Make,
    monkeypatch: pytest.MonkeyPatch,
    gpus: float,
    workers: int,
    cpu_share: float,
    gpu_share: float | None,
) -> None:
    monkeypatch.setattr(ray_actors, "live_nodes", lambda: [{"Resources": {"CPU": 32.0, "GPU": 4.0}}])
    monkeypatch.setattr(ray_actors, "import_ray", Cluster)
    opened = RayWorkers(make_plan(make_config(), "cuda" if gpus else "cpu"), gpus)
    assert opened.capacity() == workers
    _, home = unpickled(opened._message)
    assert (home.cpu_share, home.gpu_share) == (cpu_share, gpu_share)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "The actor died unexpectedly before finishing this task.\n\tpid: 4\nThe actor is dead because its worker "
            "process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits with a "
            "connection error code 2. End of file. Some common causes include: (1) the OOM killer",
            "Worker unexpectedly exits with a connection error code 2. End of file",
        ),
        (
            "The actor died unexpectedly before finishing this task.\n\tclass_name: CellWorker\n\tip: 10.77.0.2\n"
            "The actor died because its node has died. Node Id: fa5b78b1f6",
            "its node has died",
        ),
        (
            "The actor died because of an error raised in its creation task, \x1b[36mray::CellWorker.__init__()\x1b[39m"
            " (pid=795)\n           ^^^^^^^^^^\nAttributeError: Can't get attribute 'x'",
            "AttributeError: Can't get attribute 'x'; is the same fastdc, with what it needs, installed on every host?",
        ),
        (
            "Task was killed due to the node running low on memory.",
            "Task was killed due to the node running low on memory.",
        ),
    ],
)
def test_the_reason_for_a_lost_worker_is_one_readable_line(text: str, reason: str) -> None:
    assert lost_reason(RuntimeError(text)) == f"RuntimeError: {reason}"
