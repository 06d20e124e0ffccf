"""A dry run's probe: the probed networks, the resulting hours, and runs without a probe."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fastdc.nn.step_time import StepCost
from fastdc.sweep.cells import make_plan
from fastdc.sweep.forecast import probe as probe_module
from fastdc.sweep.forecast.preview import preview
from fastdc.sweep.forecast.probe import probe_networks
from fastdc.sweep.launch.ray_actors import RayLauncher
from fastdc.sweep.plan import Plan
from fastdc.sweep.sweep_config import SweepConfig
from tests.sweep.instant_sweep import sweep

Make = Callable[..., SweepConfig]


class FixedProbe:
    """Probe with a second per step and ten per image; it keeps the requested networks."""

    def __init__(self) -> None:
        self.networks: list[tuple[str, int]] = []

    def __call__(self, plan: Plan, networks: Sequence[tuple[str, int]]) -> dict[tuple[str, int], StepCost]:
        self.networks += networks
        return {network: StepCost(1.0, 10.0) for network in networks}


def test_the_time_is_that_of_the_probe(make_config: Make) -> None:
    plan = make_plan(make_config(methods="random", ipc="2"))
    probe = FixedProbe()
    lines = preview(plan.config, probe=probe)
    (arch,) = plan.config.archs
    assert probe.networks == [(arch, plan.config.image_size)]
    expected = sum(10 * cell.label["work"] + cell.label["steps"] for cell in plan.runnable)
    (time,) = [line for line in lines if line.startswith("time: ")]
    assert f"({len(plan.runnable)} trainings from a probe of some steps, without loading)" in time
    assert time.startswith(f"time: about {_shown(expected)} on this machine's cpu")


def _shown(seconds: float) -> str:
    from fastdc.common.log import format_seconds

    return format_seconds(seconds)


def test_observers_and_teachers_are_probed_too(make_config: Make) -> None:
    probe = FixedProbe()
    config = make_config(methods="el2n", ipc="2", protocols="soft-small*epochs=1", teacher="observer:convnet1_w6")
    lines = preview(config, probe=probe)
    assert {arch for arch, _ in probe.networks} == {*config.archs, "convnet1_w4", "convnet1_w6"}
    assert any("trainings, 2 observers from a probe" in line for line in lines), lines


def test_networks_with_the_most_work_are_probed_first(make_config: Make) -> None:
    probe = FixedProbe()
    config = make_config(methods="el2n", ipc="2", archs="convnet2_w64", protocols="hard-small*epochs=3000")
    preview(config, probe=probe)
    assert [arch for arch, _ in probe.networks] == ["convnet2_w64", "convnet1_w4"]  # the observer last


def test_measured_networks_are_not_probed(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(make_plan(make_config(methods="random", ipc="2", seeds="0")))
    probe = FixedProbe()
    lines = preview(make_config(methods="random", ipc="2", seeds="0-2"), probe=probe)
    assert probe.networks == []
    assert any("2 trainings from similar runs in the store)" in line for line in lines)


def test_a_real_probe(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(make_config(methods="random", ipc="2"))
    side = plan.config.image_size
    costs = probe_networks(plan, [("convnet1_w4", side), ("torchvision:resnet18", side), ("convnet1_w6", side)])
    assert set(costs) == {("convnet1_w4", side), ("convnet1_w6", side)}  # the other is pretrained
    assert all(cost.step + cost.image > 0 for cost in costs.values())
    monkeypatch.setattr(probe_module, "PROBE_SECONDS", -1.0)
    assert probe_networks(plan, [("convnet1_w4", side)]) == {}


def test_nothing_is_probed_for_another_device(make_config: Make) -> None:
    plan = make_plan(make_config(methods="random", ipc="2", precision="fp32"), "cuda")
    assert probe_networks(plan, [("convnet1_w4", plan.config.image_size)]) == {} or _has_cuda()


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def test_what_no_probe_has_measured_is_marked(make_config: Make) -> None:
    config = make_config(methods="random", ipc="2", seeds="0", archs="convnet1_w4,convnet1_w6")
    only = {("convnet1_w4", config.image_size): StepCost(1.0, 10.0)}
    lines = preview(config, probe=lambda *_: only)
    assert [line.endswith(", rough)") for line in lines if line.startswith("missing ")] == [False, True]
    (time,) = [line for line in lines if line.startswith("time: ")]
    assert "1 training from a probe of some steps, without loading; 1 training by a rough rate" in time


def test_a_probe_of_runs_that_compile_says_that_it_does_not(make_config: Make) -> None:
    lines = preview(make_config(methods="random", ipc="2", seeds="0", compile=True), probe=FixedProbe())
    (time,) = [line for line in lines if line.startswith("time: ")]
    assert time.endswith("(1 training from a probe of some steps, without loading and torch.compile)")


def test_a_probe_on_a_gpu_gives_gpu_hours(make_config: Make) -> None:
    launcher = TwoOnOneGpu(gpus_per_run=0.5)
    config = make_config(methods="random", ipc="2", seeds="0-3", precision="fp32")
    lines = preview(config, launcher=launcher, probe=FixedProbe())
    seconds = sum(10 * cell.label["work"] + cell.label["steps"] for cell in make_plan(config).runnable)
    (time,) = [line for line in lines if line.startswith("time: ")]
    assert time == (
        f"time: about {_shown(seconds)} on one worker's cuda, {seconds / 3600:,.1f} GPU-hours "
        "(4 trainings from a probe of some steps, without loading)"
    )
    assert f"2 at a time: about {_shown(seconds / 2)}, if runs on one GPU do not slow each other" in lines
    (time,) = [line for line in preview(config, launcher=launcher) if line.startswith("time: ")]
    assert "GPU-hours (4 trainings by a rough rate, accurate to a factor of 5)" in time


class FourWorkers(RayLauncher):
    """A cluster with room for four workers, which a dry run does not start."""

    closed = False

    def device(self) -> Any:
        return "cpu"

    def capacity(self, plan: Plan) -> int:
        assert plan.cells
        return 4

    def crowded(self, _plan: Plan) -> bool:
        return False

    def open(self, *_: Any) -> Any:
        raise AssertionError("a dry run runs nothing")

    def close(self) -> None:
        self.closed = True


class TwoOnOneGpu(FourWorkers):
    """A cluster with one GPU, which two workers share."""

    def device(self) -> Any:
        return "cuda"

    def capacity(self, plan: Plan) -> int:
        return 2

    def crowded(self, _plan: Plan) -> bool:
        return True


def test_workers_share_the_time(make_config: Make) -> None:
    launcher = FourWorkers()
    config = make_config(methods="random", ipc="2-4", seeds="0-3")
    lines = preview(config, launcher=launcher, probe=FixedProbe())
    assert launcher.closed
    seconds = sum(10 * cell.label["work"] + cell.label["steps"] for cell in make_plan(config).runnable)
    assert f"4 at a time: about {_shown(seconds / 4)}" in lines
    lone = make_config(methods="random", ipc="2", seeds="0")
    assert any(line.startswith("1 at a time: about") for line in preview(lone, launcher=launcher))
