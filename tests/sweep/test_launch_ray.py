"""Sweeps on a real Ray cluster of two workers on this host."""

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fastdc import cli
from fastdc.errors import ConfigError
from fastdc.report import make_rows
from fastdc.sweep.config import SweepConfig
from fastdc.sweep.launch_ray import RayLauncher
from fastdc.sweep.run import run_sweep
from fastdc.sweep.store import Store

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'fastdc[ray]'")

Make = Callable[..., SweepConfig]
Write = Callable[[SweepConfig, Path], Path]

GRID = {
    "methods": "full,random,el2n,pca",
    "protocols": "hard-small*epochs=6",
    "set": {"full.protocol.epochs": 2},
    "observer": {"arch": "convnet1_w4", "epochs": 12},
}
TIMES = ("seconds", "train_seconds", "cost", "relabel_seconds", "teacher_seconds")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a cluster with room for two runs of one thread."""
    options: dict[str, Any] = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 80 * 2**20}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        context = ray.init(address="local", log_to_driver=False, logging_level="ERROR", **options)
        yield str(context.address_info["gcs_address"])
        ray.shutdown()


def results_of(workdir: Path) -> dict[str, Any]:
    """Everything stored of every run but what a clock or the order of events decides."""
    with Store(workdir / "store.sqlite", readonly=True) as store:
        found = {}
        for record in store.records():
            summary = {key: value for key, value in (record.summary or {}).items() if key not in TIMES}
            detail = store.detail(record.key) or {}
            found[record.key] = (record.label, record.state, record.reason, summary, detail.get("per_class"))
    return found


def subset_bytes(workdir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((workdir / "subsets").glob("*.beton"))}


@pytest.mark.timeout(300)
def test_a_sweep_on_two_workers_stores_what_a_local_one_stores(cluster: str, make_config: Make, tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--address", "auto"], "--address auto: only --launcher ray reads it"),
        (["--gpus-per-run", "0.5"], "--gpus-per-run 0.5: only --launcher ray reads it"),
        (["--launcher", "ray", "--address", "ray://host:10001"], "must run on a host of the cluster"),
    ],
)
def test_options_that_cannot_work_are_refused(
    make_config: Make,
    write_yaml: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    path = write_yaml(make_config(), tmp_path / "grid.yaml")
    assert cli.run(["sweep", str(path), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


class Marked:
    """`fastdc sweep --launcher ray` in a process group of its own, all of whose processes can be found again."""

    def __init__(self, config: Path, *arguments: str) -> None:
        self.mark = f"FASTDC_TEST_MARK={secrets.token_hex(8)}"
        name, value = self.mark.split("=")
        command = [sys.executable, "-m", "fastdc.cli", "sweep", str(config), "--launcher", "ray", *arguments]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env={**os.environ, name: value}, start_new_session=True, **pipes)

    def processes(self) -> list[str]:
        """Command line of every process with the mark, but Ray's agents."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # ended meanwhile
                title = (folder / "cmdline").read_text().replace("\0", " ")
                if self.mark.encode() in (folder / "environ").read_bytes() and not re.search("agent", title, re.I):
                    found.append(title)
        return found

    def wait_for(self, condition: Callable[[], bool], seconds: float = 90.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() < deadline:
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.02)
        assert condition()

    def left(self) -> list[str]:
        """Command lines of its processes that go on for seconds. Agents of Ray's notice within a minute, idle."""
        deadline = time.monotonic() + 20
        while (found := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found


def states_of(config: SweepConfig) -> list[str]:
    path = config.workdir / "store.sqlite"
    if not path.exists():
        return []
    with Store(path, readonly=True) as store:
        return sorted(store.states().values())


@pytest.mark.timeout(300)
def test_a_killed_worker_costs_its_cell_some_time_and_nothing_else(
    cluster: str, make_config: Make, write_yaml: Write, tmp_path: Path
) -> None:
    grid = {"seeds": "0-2", "protocols": "hard-small*epochs=400,validate_every=400"}
    local, spread = (make_config(**grid, workdir=tmp_path / name) for name in ("local", "ray"))
    run_sweep(local, show_progress=False)
    sweep = Marked(write_yaml(spread, tmp_path / "grid.yaml"), "--address", cluster)
    sweep.wait_for(lambda: bool(workers()))
    os.kill(workers()[0], signal.SIGKILL)
    out, errors = sweep.process.communicate(timeout=100)
    assert sweep.process.returncode == 0, errors
    assert re.search(r"random ipc 2 .* seed \d: its worker was lost \(.*\); runs again", errors), errors
    assert "3 runs: 3 done (3 run now)" in out
    assert "raylet" not in out + errors
    assert results_of(spread.workdir) == results_of(local.workdir)
    assert subset_bytes(spread.workdir) == subset_bytes(local.workdir)


def workers() -> list[int]:
    """Workers on this host that are asked for something, whichever sweep's they are."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found += [int(path.parent.name)] if path.read_text().startswith("ray::CellWorker.run") else []
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["control-c", "kill -9"])
def test_a_stopped_sweep_leaves_no_process_and_no_claim(
    make_config: Make, write_yaml: Write, tmp_path: Path, way: str
) -> None:
    config = make_config(protocols="hard-small*epochs=1,hard-small*epochs=100000")
    sweep = Marked(write_yaml(config, tmp_path / "grid.yaml"))
    sweep.wait_for(lambda: states_of(config) == ["done", "done", "running", "running"])
    sent = signal.SIGKILL if way == "kill -9" else signal.SIGINT
    if way == "control-c":
        os.killpg(sweep.process.pid, sent)  # as a terminal does
    else:
        sweep.process.send_signal(sent)
    started = time.monotonic()
    _, errors = sweep.process.communicate(timeout=60)
    assert sweep.process.returncode == (-signal.SIGKILL if way == "kill -9" else 130), errors
    assert not sweep.left()
    assert time.monotonic() - started < 25
    assert "Traceback" not in errors
    if way == "control-c":
        assert errors.endswith("interrupted; finished runs are kept, the same command goes on\n")
        assert states_of(config) == ["done", "done", "interrupted", "interrupted"]
    with Store(config.workdir / "store.sqlite") as store:
        assert all(store.claim(key) is not None for key, state in store.states().items() if state != "done")
