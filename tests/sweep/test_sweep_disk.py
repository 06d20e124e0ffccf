"""Bytes that a dry run predicts against those that a sweep writes."""

from collections.abc import Callable
from pathlib import Path

from fastdc.observe import observe
from fastdc.observe.dynamics_log import LOG_NAME
from fastdc.observe.record_needs import ObserverNeeds
from fastdc.sweep.cells import make_plan
from fastdc.sweep.forecast.disk import disk_needed
from fastdc.sweep.forecast.estimate import subsets_left
from fastdc.sweep.observers_left import observers_left
from fastdc.sweep.sweep_config import SweepConfig

Make = Callable[..., SweepConfig]


def test_the_size_of_an_observers_log_is_exact(make_config: Make) -> None:
    plan = make_plan(make_config(methods="el2n[last_epoch=2]", ipc="2"))
    left = observers_left(plan, plan.cells)
    disk = disk_needed(plan, plan.cells, subsets_left(plan.cells), left)
    observe(plan.config.train, plan.config.workdir, plan.observer, needs=ObserverNeeds(epochs=2))
    (log,) = Path(plan.config.workdir).glob(f"observers/*/{LOG_NAME}")
    assert disk.observers == log.stat().st_size
    assert (disk.labels, disk.making) == (0, 0)
    assert disk.most == disk.subsets + disk.observers
    assert disk_needed(plan, plan.cells, [], observers_left(plan, plan.cells)).most == 0


def test_the_last_pass_and_tdds_are_counted(make_config: Make) -> None:
    def observers(methods: str) -> int:
        plan = make_plan(make_config(methods=methods, ipc="2"))
        return disk_needed(plan, plan.cells, [], [(plan.observer, 4)]).observers

    plan = make_plan(make_config(methods="el2n", ipc="2"))
    images, classes = sum(plan.train.counts), len(plan.train.classes)
    assert observers("aum") == images * 20 * 4
    assert observers("entropy") - observers("aum") >= images * 32
    assert observers("tdds") - observers("aum") >= images * classes * 4
