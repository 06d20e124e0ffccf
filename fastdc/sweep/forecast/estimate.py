"""Estimate the time and disk that a sweep takes, from similar runs in the store, a probe, or a rough rate."""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from fastdc.common.choices import Device
from fastdc.common.files import existing_folder
from fastdc.common.precision import resolve_precision
from fastdc.common.text import counted
from fastdc.nn.architectures import convnet, resnet10
from fastdc.sweep.forecast.disk import Disk, disk_needed
from fastdc.sweep.plan import Cell, Plan, SubsetPlan
from fastdc.sweep.store.results import Record

if TYPE_CHECKING:
    from fastdc.nn.step_time import StepCost
    from fastdc.observe.observer_config import ObserverConfig

# Rough forward cost of one 224-px image in giga-multiplications; a training visit costs three times as much.
# Networks with depthwise convolutions are bound by memory. Their entry is what a ResNet computes in the same time.
ROUGH_GMAC = {
    "resnet18": 1.8,
    "resnet34": 3.7,
    "resnet50": 4.1,
    "resnet101": 7.8,
    "mobilenet_v2": 3.0,
    "efficientnet_b0": 4.5,
    "shufflenet_v2_x0_5": 1.5,
}
ROUGH_GMAC_OTHER = 4.0
CONVNET_GMAC, RESNET10_GMAC = 2.5, 0.78  # at the default width; the cost grows with its square
SMALL_STEM_FACTOR = 16.0  # resnet18_small: stride 1 and no pooling leave 4 x 4 times as many positions
# GMAC/s per CPU thread, and per GPU in half precision. Source of the latter: ffcv-imagenet's ResNet-18 takes 35 min
# for 16 epochs on an A100, which is twice as fast.
# FP32_ON_GPU is the share of that speed in fp32. Source: SRe2L's 2.52 s per image of 4000 iterations on an RTX 4090 are
# 8,600 GMAC/s (FADRM's table). An RTX 4090 is as fast in IEEE fp32 as in TF32. An A100's peak in IEEE fp32 is
# 19.5 TFLOP/s, 20 % above this speed.
ROUGH_SPEED = {"cpu": 15.0, "cuda": 16_000.0}
FP32_ON_GPU = 0.5
STEP_SECONDS = {"cpu": 0.005, "cuda": 0.015}  # cost of a step that does not depend on its images


class Bill(NamedTuple):
    """Hold the seconds of the work that a sweep still has to do, by part.

    Attributes:
        observers: training of the observers and teachers that methods and labels need.
        sets: making of compressed sets, by method.
        trainings: training of the cells, by protocol.
    """

    observers: float
    sets: dict[str, float]
    trainings: dict[str, float]

    @property
    def seconds(self) -> float:
        """Return the total."""
        return self.observers + sum(self.sets.values()) + sum(self.trainings.values())


class Estimate(NamedTuple):
    """Hold the time and disk that a sweep still takes.

    Attributes:
        seconds: time of all the work.
        basis: where that number comes from, in words.
        disk: bytes to write.
        free_bytes: bytes free in the workdir.
        bill: the seconds by part.
    """

    seconds: float
    basis: str
    disk: Disk
    free_bytes: int
    bill: Bill


@dataclass(frozen=True)
class Rates:
    """Hold the speed of trainings and of methods on one kind of machine.

    Attributes:
        measured: seconds per unit of work (one visit to a training image), by `_kind` of training.
        device, threads, precision: what the trainings compute on and with.
        sets: seconds per stored image for making a set, by method as shown, image size, device and threads.
        probed: cost of a training step by network and image size, where a probe timed some steps.
    """

    measured: dict[tuple[Any, ...], float]
    device: str
    threads: int
    precision: str = "fp32"
    sets: dict[tuple[Any, ...], float] = field(default_factory=dict)
    probed: "dict[tuple[str, int], StepCost]" = field(default_factory=dict)

    def seconds(self, cell: Cell) -> float:
        """Return the expected seconds of one cell's training.

        The rate of similar runs in the store comes first, then that of a probe, then a rough one.
        """
        rate = self.measured.get(_kind(cell.label))
        if rate is not None:
            return rate * float(cell.label["work"])
        size, work, steps = cell.label["image_size"], cell.label["work"], cell.label["steps"]
        # A teacher makes no backward pass, which leaves a third of the cost.
        labels = 0.0 if cell.teacher is None else self.rough(cell.teacher.arch, size, work / 3, 0)
        return self.rough(cell.arch, size, work, steps) + labels

    def is_measured(self, cell: Cell) -> bool:
        """Return whether a similar run is in the store."""
        return _kind(cell.label) in self.measured

    def is_probed(self, cell: Cell) -> bool:
        """Return whether the cell's network and its teacher were probed."""
        return all((arch, cell.label["image_size"]) in self.probed for arch in archs_of(cell))

    def is_made(self, plan: Plan, subset: SubsetPlan) -> bool:
        """Return whether the store knows the cost of a similar set."""
        return _set_name(plan, subset) in self.sets and self.device == plan.device

    def rough(self, arch: str, image_size: int, visits: float, steps: float) -> float:
        """Return the seconds of so many visits to training images and so many steps.

        They come from a probe, or else from the operations of the network at a rough speed.
        """
        cost = self.probed.get((arch, image_size))
        if cost is not None:
            return visits * cost.image + steps * cost.step
        speed = ROUGH_SPEED[self.device] * (self.threads if self.device == "cpu" else 1)
        if self.device == "cuda" and self.precision in ("fp32", "tf32"):
            speed *= FP32_ON_GPU
        per_image = 3 * rough_gmac(arch) * (image_size / 224) ** 2 / speed
        return visits * per_image + steps * STEP_SECONDS[self.device]


def archs_of(cell: Cell) -> list[str]:
    """Return the networks that run in a cell's training: its own, and the one that gives soft labels."""
    return [cell.arch] if cell.teacher is None else [cell.arch, cell.teacher.arch]


def rough_gmac(arch: str) -> float:
    """Return the rough forward cost of one 224-px image, in giga-multiplications."""
    convnets, resnets = (
        (convnet.PATTERN, convnet.WIDTH, CONVNET_GMAC),
        (resnet10.PATTERN, resnet10.WIDTH, RESNET10_GMAC),
    )
    for pattern, width, gmac in (convnets, resnets):
        match = pattern.fullmatch(arch)
        if match is not None:
            return gmac * (int(match["width"] or width) / width) ** 2
    if arch == "resnet18_small":
        return ROUGH_GMAC["resnet18"] * SMALL_STEM_FACTOR
    return ROUGH_GMAC.get(arch, ROUGH_GMAC_OTHER)


def _kind(label: dict[str, Any]) -> tuple[Any, ...]:
    names = ("arch", "image_size", "precision", "batch", "device", "threads", "teacher")
    return tuple(label.get(name) for name in names)


def _set_kind(label: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(label.get(name) for name in ("method", "image_size", "device", "threads"))


def rough_rates(plan: Plan, device: Device) -> Rates:
    """Return rough rates of a device, which this machine need not have."""
    return Rates({}, device, plan.threads, resolve_precision(plan.config.precision, device))


def measured_rates(records: Iterable[Record], plan: Plan) -> Rates:
    """Measure the rates of finished runs.

    A kind of training gets the median of its runs' seconds per unit of work. A method gets the median of its sets'
    seconds per stored image.
    """
    samples: dict[tuple[Any, ...], list[float]] = {}
    sets: dict[tuple[Any, ...], dict[str, float]] = {}
    for record in records:
        if record.summary and record.label.get("work"):
            rate = float(record.summary["train_seconds"]) / float(record.label["work"])
            samples.setdefault(_kind(record.label), []).append(rate)
        if record.summary and record.summary.get("cost") and record.summary.get("images"):
            cost = record.summary["cost"]
            made = sum(float(cost.get(part, 0.0)) for part in ("scoring", "selection", "writing"))
            per_image = made / float(record.summary["images"])
            # Keyed by subset: runs that share a set repeat its cost, which must count once.
            sets.setdefault(_set_kind(record.label), {})[str(record.label.get("subset", record.key))] = per_image
    return replace(
        rough_rates(plan, plan.device),
        measured={kind: median(rates) for kind, rates in samples.items()},
        sets={kind: median(rates.values()) for kind, rates in sets.items()},
    )


def _set_name(plan: Plan, subset: SubsetPlan) -> tuple[Any, ...]:
    """Return the `_set_kind` of a set that is still to be made."""
    threads = plan.threads if plan.device == "cpu" else None
    return subset.variant.name, plan.config.image_size, plan.device, threads


def making_seconds(plan: Plan, subset: SubsetPlan, rates: Rates) -> float:
    """Return the expected seconds of making a compressed set.

    They come from earlier sets of the method, or else from its passes through its teachers.
    """
    side = plan.config.image_size
    known = rates.sets.get(_set_name(plan, subset))
    if known is not None and rates.device == plan.device:
        return known * subset.images
    teachers = subset.variant.teachers
    visits = subset.variant.network_visits(subset.images, sum(plan.train.counts), side, len(plan.train.classes))
    return sum(rates.rough(teacher.arch, side, visits / len(teachers), 0) for teacher in teachers)


def subsets_left(todo: Iterable[Cell]) -> list[SubsetPlan]:
    """Return the compressed sets that the cells need and that do not exist yet, each once."""
    subsets = {cell.subset.path: cell.subset for cell in todo if cell.subset and cell.subset.ipc is not None}
    return [subset for path, subset in subsets.items() if not path.exists()]


def make_bill(
    plan: Plan, todo: Iterable[Cell], rates: Rates, observers: Sequence[tuple["ObserverConfig", int]] = ()
) -> Bill:
    """Return the seconds of the cells still to run, with the observers, teachers and sets that they need.

    Args:
        plan: the checked sweep.
        todo: cells that will run.
        rates: from `measured_rates`, or `rough_rates` of another device.
        observers: observers that still have to be trained, including further teachers, each with its epochs.
    """
    todo = list(todo)
    trained = 0.0
    for observer, epochs in observers:
        visits = epochs * sum(plan.train.counts)
        trained += rates.rough(observer.arch, observer.image_size, visits, visits / observer.batch_size)
    sets: dict[str, float] = {}
    for subset in subsets_left(todo):
        name = subset.variant.stem
        sets[name] = sets.get(name, 0.0) + making_seconds(plan, subset, rates)
    trainings: dict[str, float] = {}
    for cell in todo:
        trainings[cell.protocol.name] = trainings.get(cell.protocol.name, 0.0) + rates.seconds(cell)
    return Bill(trained, {name: seconds for name, seconds in sets.items() if seconds > 0}, trainings)


def estimate(
    plan: Plan, todo: list[Cell], rates: Rates, observers: Sequence[tuple["ObserverConfig", int]] = ()
) -> Estimate:
    """Estimate the time and disk of the cells still to run. The arguments are those of `make_bill`."""
    bill = make_bill(plan, todo, rates, observers)
    needed = disk_needed(plan, todo, subsets_left(todo), observers)
    free = shutil.disk_usage(existing_folder(plan.config.workdir)).free
    return Estimate(bill.seconds, basis_of(plan, todo, rates, observers) or "nothing to do", needed, free, bill)


def basis_of(plan: Plan, todo: list[Cell], rates: Rates, observers: Sequence[tuple["ObserverConfig", int]] = ()) -> str:
    """Describe which of the estimate's numbers are measured, probed and rough.

    The arguments are those of `make_bill`.
    """
    measured = sum(map(rates.is_measured, todo))
    side = plan.config.image_size
    # Without measured sets, only methods that run teachers have a cost above 0.
    distilled = [subset for subset in subsets_left(todo) if making_seconds(plan, subset, replace(rates, sets={})) > 0]
    unknown = [subset for subset in distilled if not rates.is_made(plan, subset)]
    parts: dict[str, list[str]] = {"probed": [], "rough": []}
    sets_probed = [all((each.arch, side) in rates.probed for each in made.variant.teachers) for made in unknown]
    for probed, count, what in (
        *_split([rates.is_probed(cell) for cell in todo if not rates.is_measured(cell)], "training"),
        *_split([(observer.arch, observer.image_size) in rates.probed for observer, _ in observers], "observer"),
        *_split(sets_probed, "distilled set"),
    ):
        parts["probed" if probed else "rough"].append(counted(count, what))
    bases = [f"{counted(measured, 'training')} from similar runs in the store"] if measured else []
    probe = f"a probe of some steps, without loading{' and torch.compile' if plan.config.compile else ''}"
    bases += [", ".join(parts["probed"]) + f" from {probe}"] if parts["probed"] else []
    bases += [", ".join(parts["rough"]) + " by a rough rate, accurate to a factor of 5"] if parts["rough"] else []
    return "; ".join(bases)


def _split(probed: Sequence[bool], what: str) -> list[tuple[bool, int, str]]:
    """Count those that are probed and those that are not, leaving out a count of 0."""
    return [(state, probed.count(state), what) for state in (True, False) if state in probed]
