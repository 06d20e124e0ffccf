"""Groups of runs that train at once on a GPU: which, how many, and what memory holds."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from fastdc.common.errors import MethodError
from fastdc.nn.models import build_model, count_parameters
from fastdc.nn.overlap import MOST_TOGETHER, SMALL_SIDE, overlaps, training_bytes
from fastdc.sweep.cell_groups import divide_by_memory, split_groups
from fastdc.sweep.cell_result import CellResult
from fastdc.sweep.cell_runner import CellRunner
from fastdc.sweep.cells import make_plan
from fastdc.sweep.launch import cell_worker
from fastdc.sweep.launch.cell_worker import CellWorker
from fastdc.sweep.launch.workers import Ended, Lost, Request
from fastdc.sweep.plan import Cell, Plan, SubsetPlan
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig

Make = Callable[..., SweepConfig]
ARCHS = ",".join(f"convnet1_w{width}" for width in range(4, 14))


def planned(make_config: Make, device: Any = "cuda", **changes: Any) -> Plan:
    """Plan ten networks on one subset, as on a machine with that device."""
    return replace(make_plan(make_config(**{"seeds": "0", "archs": ARCHS, **changes})), device=device)


def sizes(plan: Plan, workers: int = 1) -> list[int]:
    return [len(group) for group in split_groups(plan, plan.cells, {}, workers)]


@pytest.mark.parametrize("side", [28, SMALL_SIDE])
def test_runs_of_small_images_share_a_gpu(make_config: Make, side: int) -> None:
    assert sizes(planned(make_config, image_size=side)) == [5, 5]


@pytest.mark.parametrize(
    ("device", "changes"),
    [
        ("cpu", {}),
        ("cuda", {"image_size": SMALL_SIDE + 1}),
        ("cuda", {"together": "never"}),
        ("cuda", {"compile": True}),
        ("cuda", {"compile": True, "together": "always"}),
    ],
    ids=["the CPU is full", "large images", "never", "compiled", "compiled always"],
)
def test_all_others_run_one_by_one(make_config: Make, device: Any, changes: dict[str, Any]) -> None:
    assert sizes(planned(make_config, device, **changes)) == [1] * 10


def test_who_wants_groups_of_large_images_gets_them(make_config: Make) -> None:
    assert sizes(planned(make_config, image_size=224, together="always")) == [10]


@pytest.mark.parametrize("methods", ["full", "random"], ids=["one set", "a set for each seed"])
def test_seeds_and_networks_of_a_method_share_a_gpu(make_config: Make, methods: str) -> None:
    grid = {"methods": methods, "seeds": "0-2", "archs": "convnet1_w4,convnet1_w6"}
    assert sizes(planned(make_config, **grid)) == [6]
    assert sizes(planned(make_config, "cpu", **grid, together="always")) == [2, 2, 2]
    assert sizes(planned(make_config, **grid, image_size=128)) == [1] * 6


def test_parts_of_a_group_share_few_streams(make_config: Make) -> None:
    plan = planned(make_config, methods="full", seeds="0-3", archs="convnet1_w4,convnet1_w6,convnet1_w8")
    parts = split_groups(plan, plan.cells, {})
    assert [len({cell.seed for cell in part}) for part in parts] == [2, 2]
    assert [len(part) for part in parts] == [6, 6]


def test_methods_and_protocols_are_groups_of_their_own(make_config: Make) -> None:
    grid = {"methods": "random,pca,pca[grid=1]", "archs": "convnet1_w4", "seeds": "0-2"}
    assert sizes(planned(make_config, **grid)) == [3, 3, 3]
    assert sizes(planned(make_config, **grid, protocols="hard-small,hard")) == [3] * 6


def test_runs_with_soft_labels_share_a_gpu_where_they_share_a_stream(make_config: Make) -> None:
    grid = {"methods": "full", "seeds": "0-2", "archs": "convnet1_w4,convnet1_w6", "teacher": "observer"}
    assert sizes(planned(make_config, **grid, protocols="soft-small")) == [2, 2, 2]
    assert sizes(planned(make_config, **grid, protocols="soft-small*order=shared")) == [6]


@pytest.mark.parametrize(("workers", "expected"), [(0, [5, 5]), (2, [5, 5]), (3, [2, 3, 2, 3]), (20, [1] * 10)])
def test_no_worker_idles_beside_a_group(make_config: Make, workers: int, expected: list[int]) -> None:
    plan = planned(make_config)
    found = sizes(plan, workers)
    assert (sum(found), sorted(found)) == (10, sorted(expected))
    assert max(found) <= MOST_TOGETHER


def test_a_run_that_did_not_end_trains_alone(make_config: Make) -> None:
    plan = planned(make_config)
    groups = split_groups(plan, plan.cells, {plan.cells[2].key: 1})
    assert [len(group) for group in groups] == [4, 5, 1]
    assert groups[-1] == [plan.cells[2]]


@pytest.mark.parametrize(
    ("trainings", "expected"), [(0.4, [1] * 10), (1.9, [1] * 10), (2, [2] * 5), (4, [3, 3, 4]), (100, [10])]
)
def test_memory_bounds_the_runs_at_once(make_config: Make, trainings: float, expected: list[int]) -> None:
    plan = planned(make_config)
    one = training_bytes(plan.cells[0].label["batch"], 28, parameters := 10**7)
    parts = divide_by_memory(plan.cells, int(2 * one * trainings), parameters)  # resident images may take half
    assert sorted(map(len, parts)) == expected
    assert [cell for part in parts for cell in part] == plan.cells


def test_images_of_several_sets_are_counted(make_config: Make) -> None:
    plan = planned(make_config, methods="random", seeds="0-3", archs="convnet1_w4", ipc=10)
    one = training_bytes(plan.cells[0].label["batch"], 28, 10**4)
    both = one + 3 * 10 * 28 * 28 * 3
    assert list(map(len, divide_by_memory(plan.cells, 2 * 4 * both, 10**4))) == [4]
    assert list(map(len, divide_by_memory(plan.cells, 2 * 4 * both - 2, 10**4))) == [2, 2]


@pytest.mark.parametrize("arch", ["convnet1_w13", "resnet10", "resnet18", "vgg11", "vit_b_16", "swin_t"])
def test_parameters_are_counted_without_a_network(arch: str) -> None:
    side = 224 if arch == "vit_b_16" else 64
    built = build_model(arch, 7, side, seed=0)
    assert count_parameters(arch, 7, side) == sum(each.numel() for each in built.parameters())


def test_trainings_overlap_on_small_images_only() -> None:
    found = [overlaps(*each) for each in ((1, 28), (2, 28), (8, 64), (9, 28), (2, 65))]
    assert found == [False, True, True, False, False]


def run_worker(
    plan: Plan,
    patch: pytest.MonkeyPatch,
    together: Callable[[Sequence[Cell]], list[Any]],
    alone: list[str] | None = None,
) -> list[Any]:
    """Run all cells as one group on a GPU with memory for four trainings; return the worker's events.

    Args:
        alone: receives the keys of the cells that run alone.
    """
    ran = [] if alone is None else alone
    one = training_bytes(plan.cells[0].label["batch"], 28, count_parameters("convnet1_w13", 3, 28))
    patch.setattr(cell_worker, "own_gpu_budget", lambda: 8 * one)
    patch.setattr(CellRunner, "run_together", lambda _, cells: together(cells))
    patch.setattr(CellRunner, "run", lambda _, cell: ran.append(cell.key) or CellResult({"top1": 1.0}, {}))
    plan.config.workdir.mkdir(parents=True)
    with Store(plan.store_path) as store:
        return list(CellWorker(plan, store).run(Request(tuple(cell.key for cell in plan.cells), {})))


def test_a_worker_trains_what_its_memory_holds(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, trained = planned(make_config), list[int]()

    def together(cells: Sequence[Cell]) -> list[CellResult]:
        trained.append(len(cells))
        return [CellResult({"top1": 1.0}, {}) for _ in cells]

    events = run_worker(plan, monkeypatch, together)
    assert sorted(trained) == [3, 3, 4]
    assert [event.cell for event in events if isinstance(event, Ended)] == [cell.key for cell in plan.cells]


def test_a_set_that_cannot_be_made_leaves_the_others_of_its_group_together(
    make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(make_config, methods="random", seeds="0-3", archs="convnet1_w4")
    trained, alone, bad = list[int](), list[str](), plan.cells[1]
    assert bad.subset is not None
    make, key = CellRunner.make_subset, bad.subset.key

    def fail(own: CellRunner, subset: SubsetPlan) -> dict[str, Any]:
        if subset.key == key:
            raise MethodError("cannot")
        return make(own, subset)

    def together(cells: Sequence[Cell]) -> list[CellResult]:
        trained.append(len(cells))
        return [CellResult({"top1": 1.0}, {}) for _ in cells]

    monkeypatch.setattr(CellRunner, "make_subset", fail)
    events = run_worker(plan, monkeypatch, together, alone)
    assert (trained, alone) == ([3], [bad.key])
    seconds = [event.result.provenance["seconds"] for event in events if isinstance(event, Ended)]
    assert len(seconds) == 4


def test_runs_of_a_group_divide_the_time(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(make_config, methods="full", archs="convnet1_w4,convnet1_w6", seeds="0-1")

    def together(cells: Sequence[Cell]) -> list[CellResult]:
        time.sleep(0.4)
        return [CellResult({"top1": 1.0}, {}) for _ in cells]

    events = run_worker(plan, monkeypatch, together)
    seconds = [event.result.provenance["seconds"] for event in events if isinstance(event, Ended)]
    assert [0.1 <= each < 0.3 for each in seconds] == [True] * 4


def test_no_part_follows_one_that_found_no_memory(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, trained = planned(make_config), list[int]()

    def together(cells: Sequence[Cell]) -> list[CellResult]:
        trained.append(len(cells))
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    assert run_worker(plan, monkeypatch, together) == [Lost("it ran out of memory")]
    assert len(trained) == 1
