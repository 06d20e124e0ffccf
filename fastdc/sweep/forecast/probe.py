"""Measure networks without a finished run, by a few training steps on this machine."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fastdc.common.errors import FastDCError
from fastdc.sweep.forecast.estimate import Rates, archs_of, making_seconds, subsets_left
from fastdc.sweep.plan import Cell, Plan

if TYPE_CHECKING:
    from fastdc.nn.step_time import StepCost
    from fastdc.observe.observer_config import ObserverConfig

PROBE_SECONDS = 20.0
"""Time after which no further network is probed; the rest get a rough rate."""

Probe = Callable[[Plan, Sequence[tuple[str, int]]], "dict[tuple[str, int], StepCost]"]


def unmeasured_networks(
    plan: Plan, todo: Iterable[Cell], rates: Rates, observers: Sequence[tuple["ObserverConfig", int]] = ()
) -> list[tuple[str, int]]:
    """List the networks, with the side of their images, that the estimate needs and no finished run has measured.

    Those with the most work come first. The arguments are those of `make_bill`.
    """
    todo = list(todo)
    work: dict[tuple[str, int], float] = {}

    def count(arch: str, image_size: int, seconds: float) -> None:
        work[arch, image_size] = work.get((arch, image_size), 0.0) + seconds

    for cell in todo:
        if not rates.is_measured(cell):
            for arch in archs_of(cell):
                count(arch, cell.label["image_size"], rates.seconds(cell))
    for observer, epochs in observers:
        visits = epochs * sum(plan.train.counts)  # without steps: this only orders the networks
        count(observer.arch, observer.image_size, rates.rough(observer.arch, observer.image_size, visits, 0))
    for subset in subsets_left(todo):
        if not rates.is_made(plan, subset):
            for teacher in subset.variant.teachers:
                count(teacher.arch, plan.config.image_size, making_seconds(plan, subset, rates))
    return sorted(work, key=lambda network: -work[network])


def probe_networks(plan: Plan, networks: Sequence[tuple[str, int]]) -> "dict[tuple[str, int], StepCost]":
    """Measure a training step of each network, with the plan's precision and threads. Starts torch.

    The result lacks networks that the probe cannot build, such as some that come trained. It also lacks those left when
    `PROBE_SECONDS` are over. It is empty if the plan is for another device than this machine's.
    """
    from fastdc.nn.device import choose_compute
    from fastdc.nn.step_time import probe_steps

    compute = choose_compute(plan.config.precision, plan.threads)
    costs: dict[tuple[str, int], StepCost] = {}
    start = time.monotonic()
    for arch, image_size in networks if compute.device.type == plan.device else ():
        if time.monotonic() - start > PROBE_SECONDS:
            break
        try:
            costs[arch, image_size] = probe_steps(arch, image_size, len(plan.train.classes), compute)
        except (FastDCError, RuntimeError):  # unknown, or too large for the memory: the run itself reports it
            continue
    return costs


def probed_rates(
    plan: Plan,
    todo: Iterable[Cell],
    rates: Rates,
    observers: Sequence[tuple["ObserverConfig", int]],
    probe: Probe,
) -> Rates:
    """Return `rates` with the costs of the networks that they lack, measured by `probe`.

    The other arguments are those of `make_bill`.
    """
    networks = unmeasured_networks(plan, todo, rates, observers)
    return replace(rates, probed=probe(plan, networks)) if networks else rates
