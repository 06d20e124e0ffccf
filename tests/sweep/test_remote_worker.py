"""A worker, here in this process: what it must share with the sweep, and what it reports."""

import errno
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import fastdc
from fastdc.common.errors import MethodError
from fastdc.common.files import prepare_workdir
from fastdc.common.log import log_message
from fastdc.common.threads import loader_cpus
from fastdc.sweep.cell_result import CellFailure, CellResult
from fastdc.sweep.cells import make_plan
from fastdc.sweep.launch.plan_message import pickled
from fastdc.sweep.launch.ray_actors import RayWorker
from fastdc.sweep.launch.remote_worker import Home, RemoteWorker, this_fastdc
from fastdc.sweep.launch.workers import Ended, Event, Finished, Lost, Made, Message, Request, SubsetMade, Tracked
from fastdc.sweep.plan import Cell, Plan
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig
from fastdc.track import emit

Make = Callable[..., SweepConfig]


@pytest.fixture
def plan(make_config: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Plan:
    """Plan two runs of `random` with their store; restore the current folder, which a worker may change."""
    monkeypatch.chdir(tmp_path)
    plan = make_plan(make_config())
    prepare_workdir(plan.config.workdir)
    Store(plan.store_path).close()
    return plan


class Reporting(RemoteWorker):
    """Worker that keeps the events that it reports."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        super().__init__(self.events.append)

    def of(self, kind: type[Any]) -> list[Any]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


def opened(plan: Plan, folder: Path) -> Reporting:
    worker = Reporting()
    assert worker.open(plan, Home(this_fastdc(), folder)) is None
    return worker


def test_a_host_with_another_fastdc_is_refused(plan: Plan, tmp_path: Path) -> None:
    problem = Reporting().open(plan, Home("0.0.1", tmp_path))
    assert problem is not None
    assert f"has fastdc {this_fastdc()}, the sweep 0.0.1; install the same on all" in problem


def test_other_code_of_the_same_version_is_another_fastdc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("__init__.py", "deep/kernel.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x = 1")
    monkeypatch.setattr(fastdc._version, "__file__", str(tmp_path / "__init__.py"))
    before = this_fastdc()
    (tmp_path / "deep" / "kernel.py").write_text("x = 2")
    assert this_fastdc() != before
    (tmp_path / "deep" / "kernel.py").write_text("x = 1")
    assert this_fastdc() == before


def test_a_host_without_the_store_or_with_other_images_is_refused(
    plan: Plan, make_config: Make, tmp_path: Path, write_tiny: Callable[..., Path]
) -> None:
    home = Home(this_fastdc(), tmp_path)
    other = write_tiny(tmp_path / "other.beton", 40, seed=5)
    wrong = Plan(**{**vars(plan), "config": plan.config.model_copy(update={"train": other})})
    problem = Reporting().open(wrong, home)
    assert problem is not None
    assert f"{other}: other images than the sweep's" in problem
    plan.store_path.unlink()
    problem = Reporting().open(plan, home)
    assert problem is not None
    assert f"does not see {plan.store_path}; all hosts must share the folder" in problem


def test_relative_paths_count_from_the_sweeps_folder(plan: Plan, tmp_path: Path) -> None:
    relative = plan.config.model_copy(update={"workdir": Path("work")})
    problem = Reporting().open(Plan(**{**vars(plan), "config": relative}), Home(this_fastdc(), tmp_path / "no"))
    assert problem is not None
    assert f"cannot enter {tmp_path / 'no'}" in problem
    opened(Plan(**{**vars(plan), "config": relative}), tmp_path)
    assert Reporting().open(plan, Home(this_fastdc(), tmp_path / "no")) is None  # all paths are absolute


def test_a_result_has_its_costs_and_provenance(plan: Plan, tmp_path: Path) -> None:
    worker, cell = opened(plan, tmp_path), plan.cells[0]
    assert cell.subset is not None
    worker.run(Request((cell.key,), {}, making=(("subset", cell.subset.key),)))
    (made,) = worker.of(SubsetMade)
    assert (made.key, made.label, made.cost["wall"] > 0) == (cell.subset.key, "random ipc 2", True)
    kinds = [type(event) for event in worker.events if not isinstance(event, Tracked)]
    assert kinds == [SubsetMade, Made, Ended, Finished]
    worker.events.clear()
    worker.run(Request((cell.key,), {cell.subset.key: {**made.cost, "wall": 77.0}}))
    (ended,), finished = worker.of(Ended), worker.events[-1]
    assert isinstance(ended.result, CellResult)
    assert (ended.cell, finished, worker.of(SubsetMade), worker.of(Message)) == (cell.key, Finished(), [], [])
    assert ended.result.summary["cost"]["wall"] == 77.0  # as recorded by the sweep, and the subset is not made again
    assert ended.result.provenance is not None
    assert ended.result.provenance["seeds"]["training"] == cell.seed
    with Store(plan.store_path, readonly=True) as store:
        assert store.subset_cost(cell.subset.key) is None  # only the sweep's process writes the store


def test_epochs_and_messages_are_reported_as_they_occur(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = opened(plan, tmp_path)

    def train(_runner: object, cell: Cell) -> CellResult:
        emit("epoch", cell=cell.name, epoch=1)
        assert [event.event["epoch"] for event in worker.of(Tracked)] == [1]
        log_message("a warning")
        return CellResult({"top1": 1.0}, {})

    monkeypatch.setattr("fastdc.sweep.cell_runner.CellRunner.run", train)
    worker.run(Request((plan.cells[0].key,), {}))
    assert [type(event) for event in worker.events] == [Tracked, Message, Ended, Finished]
    assert worker.of(Message) == [Message("a warning\n")]


@pytest.mark.timeout(60)
def test_an_actor_streams_its_events(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastdc.sweep.launch.ray_actors.BATCH_SECONDS", 0.0)
    actor, go_on = RayWorker(), threading.Event()
    assert actor.open(pickled(plan)) is None

    def train(_runner: object, cell: Cell) -> CellResult:
        emit("epoch", cell=cell.name, epoch=1)
        assert go_on.wait(10)
        emit("epoch", cell=cell.name, epoch=2)
        return CellResult({"top1": 1.0}, {})

    monkeypatch.setattr("fastdc.sweep.cell_runner.CellRunner.run", train)
    for cell in plan.cells:
        go_on.clear()
        stream = actor.run(Request((cell.key,), {}))
        (first,) = next(stream)  # while the cell runs
        go_on.set()
        rest = [event for batch in stream for event in batch]
        assert isinstance(first, Tracked)
        assert [type(event) for event in rest] == [Tracked, Ended, Finished]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MethodError("class 'moss' has 2 images"), ("failed", "class 'moss' has 2 images", "method", False)),
        (MemoryError("no"), ("failed", "out of memory", "infrastructure", True)),
    ],
)
def test_a_failure_is_returned_as_text(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: tuple[Any, ...]
) -> None:
    (ended,) = failing(plan, tmp_path, monkeypatch, error).of(Ended)
    result = ended.result
    assert isinstance(result, CellFailure)
    outcome, reason, failure, traced = expected
    assert (result.outcome, result.failure, result.trace is not None) == (outcome, failure, traced)
    assert result.reason.startswith(reason)


@pytest.mark.parametrize(
    "text", ["CUDA error: unspecified launch failure", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"]
)
def test_a_worker_that_lost_its_gpu_ends_and_never_forgets_it(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    worker = failing(plan, tmp_path, monkeypatch, RuntimeError(text))
    (ended,) = worker.of(Ended)
    assert (ended.result.failure, worker.events[-1]) == ("infrastructure", Lost("its GPU failed"))
    worker.events.clear()
    monkeypatch.setattr("fastdc.sweep.cell_runner.CellRunner.run", lambda *_: CellResult({"top1": 1.0}, {}))
    worker.run(Request(tuple(cell.key for cell in plan.cells), {}))
    assert worker.events == [Lost("its GPU failed")]  # no cell is tried on a GPU that is lost


@pytest.mark.parametrize("text", ["CUDA error: an illegal memory access was encountered", "CUDA out of memory."])
def test_what_fails_for_cells_together_or_for_what_they_need_fails_none_of_them(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    def lose(*_: object) -> None:
        raise RuntimeError(text)

    keys = tuple(cell.key for cell in plan.cells)
    monkeypatch.setattr("fastdc.sweep.cell_runner.CellRunner.run_together", lose)
    worker = opened(plan, tmp_path)
    worker.run(Request(keys, {}))
    assert [type(event) for event in worker.events] == [SubsetMade, SubsetMade, Message, Lost]
    assert worker.of(Ended) == []
    monkeypatch.setattr("fastdc.sweep.cell_runner.CellRunner.make_subset", lose)
    worker, subset = opened(plan, tmp_path), plan.cells[0].subset
    assert subset is not None
    worker.run(Request(keys[:1], {}, making=(("subset", subset.key), ("subset", subset.key))))
    assert [type(event) for event in worker.events] == [Made, Lost]


def test_a_network_that_found_no_memory_is_not_taken_for_made(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MethodError("the images do not fit") from RuntimeError("CUDA out of memory.")

    monkeypatch.setattr("fastdc.sweep.cell_runner.CellRunner.make_network", fail)
    worker = opened(plan, tmp_path)
    worker.run(Request((plan.cells[0].key,), {}, making=(("network", "observer"),)))
    made, lost = worker.events
    assert isinstance(made, Made)
    assert made.failure is not None
    assert (made.failure.failure, lost) == ("infrastructure", Lost("it ran out of memory"))


def test_a_worker_that_ran_out_of_memory_ends(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = failing(plan, tmp_path, monkeypatch, RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    (ended,) = worker.of(Ended)
    assert ended.result.reason.endswith("lower the protocol's batch_size or the image size")
    assert worker.events[-1] == Lost("it ran out of memory")


class TestOnAGpu:
    """What a worker finds of its GPU when it starts, with what torch reports of a GPU given."""

    @pytest.fixture
    def shares(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[float]:
        taken: list[float] = []
        monkeypatch.chdir(tmp_path)  # a worker may change the current folder
        monkeypatch.setattr("fastdc.sweep.launch.remote_worker.actual_device", lambda: "cuda")
        monkeypatch.setattr("fastdc.common.gpu_share.take_gpu_share", taken.append)
        monkeypatch.setattr("fastdc.common.precision.gpu_capability", lambda: (8, 0))
        monkeypatch.setattr("fastdc.common.threads._cpu_share", 1.0)  # put back after the test
        monkeypatch.setattr("fastdc.common.threads.host_cpus", lambda: 32)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(torch, "zeros", lambda *_, **__: torch.ones(1))
        return taken

    def make(self, make_config: Make, **changes: Any) -> Plan:
        plan = make_plan(make_config(**changes), "cuda")
        prepare_workdir(plan.config.workdir)
        Store(plan.store_path).close()
        return plan

    @pytest.mark.parametrize(("threads", "found"), [(0, 8), (3, 3)])
    def test_it_takes_its_share(
        self, make_config: Make, tmp_path: Path, shares: list[float], threads: int, found: int
    ) -> None:
        worker = Reporting()
        home = Home(this_fastdc(), tmp_path, 0.25, 0.5)
        assert worker.open(self.make(make_config, threads=threads), home) is None
        assert (shares, loader_cpus()) == ([0.5], 8)
        assert worker._worker._runner.plan.threads == found

    def test_a_dead_gpu_is_a_problem_of_the_start(
        self, make_config: Make, tmp_path: Path, shares: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nfor debugging")

        monkeypatch.setattr(torch, "zeros", fail)
        problem = Reporting().open(self.make(make_config), Home(this_fastdc(), tmp_path))
        assert problem is not None
        assert "its GPU cannot be used (CUDA error: CUDA-capable device(s) is/are busy or unavailable for" in problem

    def test_an_older_gpu_than_the_sweep_is_planned_for_is_refused(
        self, make_config: Make, tmp_path: Path, shares: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plan = self.make(make_config)
        monkeypatch.setattr("fastdc.common.precision.gpu_capability", lambda: (7, 5))
        problem = Reporting().open(plan, Home(this_fastdc(), tmp_path))
        assert problem is not None
        assert "precision auto is fp32 on its GPU, the sweep is planned for bf16; choose one by --precision" in problem
        named = self.make(make_config, precision="fp32")
        assert Reporting().open(named, Home(this_fastdc(), tmp_path)) is None

    @pytest.mark.parametrize(
        ("changes", "found"),
        [
            ({"precision": "bf16"}, ": precision bf16: this GPU has compute capability 7.5, expected 8.0 or higher"),
            (
                {"precision": "fp32", "methods": "el2n", "observer": {"arch": "convnet1_w4", "precision": "auto"}},
                ": observer convnet1_w4: precision bf16: this GPU has compute capability 7.5, expected 8.0 or higher; "
                "use fp16 or fp32, by --observer precision=...",
            ),
            ({"precision": "fp32", "observer": {"arch": "convnet1_w4", "precision": "auto"}}, None),  # trains none
        ],
        ids=["runs", "observer", "no observer"],
    )
    def test_a_gpu_without_a_precision_of_the_plan_is_refused(
        self,
        make_config: Make,
        tmp_path: Path,
        shares: list[float],
        monkeypatch: pytest.MonkeyPatch,
        changes: dict[str, Any],
        found: str | None,
    ) -> None:
        plan = self.make(make_config, **changes)
        monkeypatch.setattr("fastdc.common.precision.gpu_capability", lambda: (7, 5))
        monkeypatch.setattr("fastdc.sweep.launch.remote_worker.gpu_capability", lambda: (7, 5))
        problem = Reporting().open(plan, Home(this_fastdc(), tmp_path))
        assert (problem is None) == (found is None)
        assert (found or "") in (problem or "")

    def test_a_damaged_record_of_another_observer_refuses_no_gpu(
        self, make_config: Make, tmp_path: Path, shares: list[float]
    ) -> None:
        plan = self.make(make_config, methods="el2n", precision="fp32")
        damaged = plan.config.workdir / "observers" / "0123"
        damaged.mkdir(parents=True)
        (damaged / "observer.json").write_text("{")
        assert Reporting().open(plan, Home(this_fastdc(), tmp_path)) is None


def test_a_full_disk_ends_the_sweep(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError(errno.ENOSPC, "No space left on device")
    assert failing(plan, tmp_path, monkeypatch, error).events == [Finished(error)]


def failing(plan: Plan, folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> Reporting:
    """Return a worker after a first run that raised `error`."""
    worker = opened(plan, folder)

    def fail(_runner: object, _cell: object) -> None:
        raise error

    monkeypatch.setattr("fastdc.sweep.cell_runner.CellRunner.run", fail)
    worker.run(Request((plan.cells[0].key,), {}))
    return worker
