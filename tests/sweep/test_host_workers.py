"""Processes of this host that run cells side by side: on the CPU for real, on GPUs by what each process is given."""

import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from fastdc.cli.main import run as run_command
from fastdc.common.errors import ConfigError, WorkerError
from fastdc.common.files import prepare_workdir
from fastdc.sweep.cells import make_plan
from fastdc.sweep.forecast.preview import preview
from fastdc.sweep.launch import host_workers
from fastdc.sweep.launch.child_process import ChildProcess
from fastdc.sweep.launch.host_gpus import find_gpus
from fastdc.sweep.launch.host_workers import HostLauncher, HostWorkers
from fastdc.sweep.launch.plan_message import pickled, unpickled
from fastdc.sweep.launch.workers import Finished, Lost, Request, Started
from fastdc.sweep.plan import Plan
from fastdc.sweep.run_cells import run_sweep
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig
from fastdc.sweep.sweep_record import read_records
from tests.sweep.stored import results_of, subset_bytes

Make = Callable[..., SweepConfig]
Write = Callable[[SweepConfig, Path], Path]


@pytest.mark.timeout(300)
def test_a_sweep_in_two_processes_stores_what_one_process_stores(make_config: Make, tmp_path: Path) -> None:
    grid = {"methods": "random,el2n,full", "observer": {"arch": "convnet1_w4", "epochs": 12}}
    local, spread = (make_config(**grid, workdir=tmp_path / name) for name in ("local", "spread"))
    _, expected = run_sweep(local, show_progress=False)
    _, outcome = run_sweep(spread, show_progress=False, launcher=HostLauncher(2))
    assert (outcome, outcome.states) == (expected, {"done": 6})
    assert results_of(spread.workdir) == results_of(local.workdir)
    assert subset_bytes(spread.workdir) == subset_bytes(local.workdir)


@pytest.fixture
def plan(make_config: Make) -> Plan:
    """Two runs of `random`, their store made."""
    plan = make_plan(make_config())
    prepare_workdir(plan.config.workdir)
    Store(plan.store_path).close()
    return plan


def next_of(workers: HostWorkers, kind: type[Any]) -> tuple[int, Any]:
    """Wait for an event of a kind."""
    while True:
        for worker, event in workers.wait(1.0):
            if isinstance(event, kind):
                return worker, event


@pytest.mark.timeout(120)
def test_a_killed_worker_is_reported_with_its_signal_and_another_takes_its_place(plan: Plan) -> None:
    with closing(HostWorkers(plan, ("",))) as workers:
        first = workers.start()
        assert next_of(workers, Started) == (first, Started(None))
        workers._children[first]._process.kill()
        assert next_of(workers, Lost) == (first, Lost("its process was killed by SIGKILL (was the memory short?)"))
        workers.drop(first)
        second = workers.start()
        assert next_of(workers, Started) == (second, Started(None))
        for cell in plan.cells:
            workers.send(second, Request((cell.key,), {}))
            assert next_of(workers, Finished) == (second, Finished())


@pytest.mark.timeout(60)
def test_a_worker_that_cannot_start_says_why(plan: Plan) -> None:
    plan.store_path.unlink()
    with closing(HostWorkers(plan, ("",))) as workers:
        workers.start()
        _, started = next_of(workers, Started)
    assert "does not see" in started.problem


class Given(ChildProcess):
    """A child that is not started, but keeps what it is given."""

    def __init__(self, message: bytes, environment: Any = None) -> None:
        self.plan, self.home = unpickled(message)
        self.environment = environment

    def kill(self) -> None:
        """There is nothing to end."""

    def close(self) -> None:
        """There is nothing to end."""


def children(workers: HostWorkers) -> list[Any]:
    return list(workers._children.values())


@pytest.mark.parametrize(
    ("launcher", "devices", "gpu_share", "cpu_share"),
    [
        (HostLauncher(gpus="all"), ["0", "1", "2", "3"], None, 1 / 4),
        (HostLauncher(gpus="0,2"), ["0", "2"], None, 1 / 2),
        (HostLauncher(4, "1,3"), ["1", "3", "1", "3"], 1 / 2, 1 / 4),
        (HostLauncher(3, "1-2"), ["1", "2", "1"], 1 / 2, 1 / 3),
        (HostLauncher(3), ["0", "0", "0"], 1 / 3, 1 / 3),
        (HostLauncher(1, "all"), ["0"], None, 1.0),
    ],
    ids=repr,
)
def test_workers_divide_gpus_and_their_memory(
    make_config: Make,
    monkeypatch: pytest.MonkeyPatch,
    launcher: HostLauncher,
    devices: list[str],
    gpu_share: float | None,
    cpu_share: float,
) -> None:
    four_gpus(monkeypatch)
    monkeypatch.setattr(host_workers, "ChildProcess", Given)
    assert launcher.device() == "cuda"
    plan = make_plan(make_config(), "cuda")
    assert (launcher.capacity(plan), launcher.crowded(plan)) == (len(devices), gpu_share is not None)
    with launcher.open(plan) as workers:
        for _ in range(launcher.capacity(plan)):
            workers.start()
        assert [child.environment["CUDA_VISIBLE_DEVICES"] for child in children(workers)] == devices
        assert {(child.home.gpu_share, child.home.cpu_share) for child in children(workers)} == {(gpu_share, cpu_share)}


def four_gpus(monkeypatch: pytest.MonkeyPatch, visible: str | None = None) -> list[int]:
    """Let torch find four GPUs; return a list that will hold those that are selected."""
    selected: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", selected.append)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    return selected


def test_numbers_count_the_gpus_that_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    four_gpus(monkeypatch, "7, GPU-8a,MIG-2,1")
    assert find_gpus("all") == ("7", "GPU-8a", "MIG-2", "1")
    assert find_gpus("3,1") == ("1", "GPU-8a")


def test_each_part_of_a_divided_gpu_is_a_place_though_one_process_sees_only_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    four_gpus(monkeypatch, "MIG-5c,MIG-9f")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert find_gpus("all") == ("MIG-5c", "MIG-9f")


@pytest.mark.parametrize(
    ("gpus", "visible", "chosen"),
    [
        ("all", None, []),  # the first is current anyway, and selecting it would take memory
        ("1,2", None, [1]),
        ("2,0", "GPU-5c,GPU-9f,GPU-1a,GPU-77", [2]),
        ("3", "MIG-5c,MIG-9f,MIG-1a,MIG-77", []),  # a process sees only the first part of a divided GPU
    ],
)
def test_the_sweeps_process_computes_on_the_first_of_the_gpus(
    monkeypatch: pytest.MonkeyPatch, gpus: str, visible: str | None, chosen: list[int]
) -> None:
    selected = four_gpus(monkeypatch, visible)
    if visible is not None and visible.startswith("MIG-"):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert HostLauncher(gpus=gpus).device() == "cuda"
    assert selected == chosen


class Interrupted(HostLauncher):
    """A launcher that a sweep cannot open, because Ctrl-C comes first; it keeps the plan of a dry run."""

    def open(self, plan: Plan) -> Any:
        raise KeyboardInterrupt

    def capacity(self, plan: Plan) -> int:
        self.plan = plan
        return super().capacity(plan)


@pytest.mark.parametrize("guess", ["cpu", "cuda"])
@pytest.mark.parametrize(
    ("gpus", "changes", "runs", "observer"),
    [
        ("0", {}, "fp32", "fp32"),
        ("1,2", {}, "bf16", "bf16"),  # the first GPU of the host is not used
        ("2,0", {}, "fp32", "fp32"),
        ("all", {}, "fp32", "fp32"),
        (None, {}, "fp32", "fp32"),  # torch's first GPU
        ("all", {"precision": "bf16", "observer": {"precision": "auto"}}, "bf16", "fp32"),
        ("1", {"precision": "fp32", "observer": {"precision": "auto"}}, "fp32", "bf16"),
        ("1", {"observer": {"precision": "fp32"}}, "bf16", "fp32"),
    ],
)
def test_the_weakest_of_the_gpus_decides_on_the_precision_of_all_runs(
    make_config: Make,
    monkeypatch: pytest.MonkeyPatch,
    guess: str,
    gpus: str | None,
    changes: dict[str, Any],
    runs: str,
    observer: str,
) -> None:
    four_gpus(monkeypatch)
    monkeypatch.setattr("fastdc.sweep.run_cells.guess_device", lambda: guess)
    monkeypatch.setattr("fastdc.sweep.launch.host_workers.actual_device", lambda: "cuda")
    capability = [(7, 5), (8, 0), (9, 0), (8, 6), None].__getitem__
    monkeypatch.setattr("fastdc.common.machine.gpu_capability", capability)
    monkeypatch.setattr("fastdc.common.precision.gpu_capability", lambda: capability(0))
    config = make_config(**changes)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(config, show_progress=False, launcher=Interrupted(gpus=gpus))
    with Store(config.workdir / "store.sqlite", readonly=True) as store:
        assert {record.label["precision"] for record in store.records()} == {runs}
    (recorded,) = (record["config"] for record in read_records(config.workdir))
    assert (recorded["precision"], recorded["observer"]["precision"]) == (runs, observer)
    preview(config, launcher=(launcher := Interrupted(gpus=gpus)))
    assert {cell.label["precision"] for cell in launcher.plan.cells} == {runs}
    assert launcher.resolve(config, "cpu") is config


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["3", "GPU-0b61a2c6-6d1c-7a3e-9a32-2a1f0c9d8e7f", "MIG-9f"])
def test_a_process_gets_its_gpu_by_the_name_that_was_given(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"GPU-1,{name}")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    with closing(HostWorkers(plan, (name,))) as workers:
        worker = workers.start()
        next_of(workers, Started)
        found = Path(f"/proc/{workers._children[worker]._process.pid}/environ").read_bytes().split(b"\0")
    assert {f"CUDA_VISIBLE_DEVICES={name}".encode(), b"CUDA_DEVICE_ORDER=PCI_BUS_ID"} <= set(found)


def with_setting(plan: Plan, value: object) -> Plan:
    """Return the plan with one more value in the settings of its last cell's method."""
    last = plan.cells[-1]
    assert last.subset is not None
    variant = replace(last.subset.variant, settings={"hook": value})  # type: ignore[call-arg, type-var]
    cell = replace(last, subset=replace(last.subset, variant=variant))
    return replace(plan, cells=[*plan.cells[:-1], cell])


def test_a_plug_in_that_cannot_leave_its_process_is_named(plan: Plan) -> None:
    reason = (
        r"^method random cannot be sent to another process \(.*lambda.*\); define it at the top level of an installed"
    )
    with pytest.raises(WorkerError, match=reason), HostLauncher(2).open(with_setting(plan, lambda: 0)):
        pass


@pytest.mark.timeout(60)
def test_a_plug_in_that_another_process_cannot_read_is_a_problem_of_the_start(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("only_here")
    exec("class Mine: pass", vars(module))
    monkeypatch.setitem(sys.modules, "only_here", module)
    with closing(HostWorkers(with_setting(plan, module.Mine()), ("",))) as workers:
        workers.start()
        _, started = next_of(workers, Started)
    assert started.problem.startswith(
        "it cannot read a plug-in (ModuleNotFoundError: No module named 'only_here'); define it at the top level"
    )


def test_another_fastdc_is_named_before_the_plug_in(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("only_here")
    exec("class Mine: pass", vars(module))
    monkeypatch.setitem(sys.modules, "only_here", module)
    message = pickled(with_setting(plan, module.Mine()))
    monkeypatch.delitem(sys.modules, "only_here")
    monkeypatch.setattr("fastdc.sweep.launch.plan_message.this_fastdc", lambda: "0.0.1")
    with pytest.raises(
        WorkerError, match=r"^it has fastdc 0\.0\.1, the sweep .* \(code .*\); install the same on all$"
    ):
        unpickled(message)


def test_workers_on_a_cpu_see_no_gpu(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_workers, "ChildProcess", Given)
    with HostLauncher(2).open(make_plan(make_config(), "cpu")) as workers:
        workers.start()
        (child,) = children(workers)
    assert (child.environment, child.home.gpu_share) == ({"CUDA_VISIBLE_DEVICES": ""}, None)
    assert child.plan.threads == 1


def test_a_gpu_whose_worker_failed_comes_last(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_message: bytes, environment: dict[str, str]) -> Given:
        if environment["CUDA_VISIBLE_DEVICES"] == "0":
            raise WorkerError("Resource temporarily unavailable")
        return Given(_message, environment)

    monkeypatch.setattr(host_workers, "ChildProcess", refuse)
    workers = HostWorkers(plan, ("0", "1"))
    dead = workers.start()
    assert workers.wait(0) == [(dead, Started("Resource temporarily unavailable"))]
    workers.drop(dead)
    workers.start()
    assert [child.environment["CUDA_VISIBLE_DEVICES"] for child in children(workers)] == ["1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gpus", "x"], "--gpus x: expected all, or numbers of GPUs such as 0,2 (found 'x', expected whole numbers"),
        (["--gpus", "0,0"], "--gpus 0,0: names a GPU twice; --workers sets how many processes share the GPUs"),
        (["--gpus", "all", "--launcher", "ray"], "--gpus all: only --launcher local reads it"),
        (["--workers", "2", "--launcher", "ray"], "--workers 2: only --launcher local reads it"),
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
    assert run_command(["sweep", str(path), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize(
    ("gpus", "found", "built", "message"),
    [
        ("all", 0, "13.0", r"^--gpus all: torch finds no GPU on this host; run fastdc doctor, or leave --gpus out"),
        ("0", 0, None, r"torch finds no GPU on this host \(torch .* is built without CUDA\); run"),
        ("0,5,9", 2, "13.0", r"^--gpus 0,5,9: there is no GPU 5, 9; torch finds 2 GPUs, numbers 0-1$"),
        ("1", 1, "13.0", r"^--gpus 1: there is no GPU 1; torch finds 1 GPU, number 0$"),
        ("-1", 2, "13.0", r"there is no GPU -1"),
    ],
)
def test_gpus_that_are_not_there_are_named(
    make_config: Make, monkeypatch: pytest.MonkeyPatch, gpus: str, found: int, built: str | None, message: str
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    monkeypatch.setattr(torch.version, "cuda", built)
    config = make_config()
    with pytest.raises(ConfigError, match=message):
        run_sweep(config, show_progress=False, launcher=HostLauncher(gpus=gpus))
    with Store(config.workdir / "store.sqlite") as store:
        assert not store.records()  # nothing is claimed or even registered


def test_hidden_gpus_are_named_as_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    four_gpus(monkeypatch, "4,5,6,7")
    with pytest.raises(ConfigError, match=r"finds 4 GPUs, numbers 0-3 \(CUDA_VISIBLE_DEVICES=4,5,6,7 hides others\)"):
        find_gpus("6")


def test_too_many_threads_are_noted(
    make_config: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(host_workers, "host_cpus", lambda: 4)
    for workers, noted in ((2, False), (3, True)):
        with HostLauncher(workers).open(make_plan(make_config(threads=2), "cpu")):
            pass
        assert ("3 workers of 2 threads slow each other on 4 CPUs" in capsys.readouterr().err) == noted
