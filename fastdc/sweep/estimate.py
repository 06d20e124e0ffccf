"""How long a sweep will take and how much disk it needs: from like runs in the store, else a stated rough rate."""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from fastdc.files import existing_folder
from fastdc.sweep.plan import Cell, Plan, SubsetPlan
from fastdc.sweep.store import Record

if TYPE_CHECKING:
    from fastdc.observe.config import ObserverConfig

# Rough forward cost of one 224-px image in giga-multiplications; a training visit costs three times as much.
ROUGH_GMAC = {"resnet18": 1.8, "resnet34": 3.7, "resnet50": 4.1, "resnet101": 7.8, "mobilenet_v2": 0.3}
ROUGH_GMAC_OTHER = 4.0
CONVNET_GMAC, CONVNET_WIDTH = 2.5, 128  # grows with the width squared
SMALL_STEM_FACTOR = 16.0  # resnet18_small: stride 1 and no pooling leave 4 x 4 times as many positions
ROUGH_SPEED = {"cpu": 15.0, "cuda": 8_000.0}  # GMAC/s per CPU thread; per GPU
STEP_SECONDS = {"cpu": 0.005, "cuda": 0.015}  # what a step costs besides: launches, optimizer, batch
BYTES_PER_PIXEL = 0.31  # 15.7 kB for 224 x 224 (paper.md section 1)
BYTES_PER_IMAGE = 600


class Estimate(NamedTuple):
    """Seconds still to train and where the number comes from; bytes to write and bytes free."""

    seconds: float
    basis: str
    disk_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Rates:
    """Seconds per unit of work (one training-image visit) by kind of training, measured on this machine."""

    measured: dict[tuple[Any, ...], float]
    device: str
    threads: int

    def seconds(self, cell: Cell) -> float:
        """Expected seconds of one cell's training: measured where a like run is in the store, else rough."""
        rate = self.measured.get(_kind(cell.label))
        if rate is not None:
            return rate * float(cell.label["work"])
        size, work, steps = cell.label["image_size"], cell.label["work"], cell.label["steps"]
        labels = 0.0 if cell.teacher is None else self.rough(cell.teacher.arch, size, work / 3, 0)  # no backward pass
        return self.rough(cell.arch, size, work, steps) + labels

    def is_measured(self, cell: Cell) -> bool:
        """Whether a like run is in the store."""
        return _kind(cell.label) in self.measured

    def rough(self, arch: str, image_size: int, visits: float, steps: float) -> float:
        """Seconds for that many training-image visits and steps, from counted operations and a rough speed."""
        speed = ROUGH_SPEED[self.device] * (self.threads if self.device == "cpu" else 1)
        per_image = 3 * rough_gmac(arch) * (image_size / 224) ** 2 / speed
        return visits * per_image + steps * STEP_SECONDS[self.device]


def rough_gmac(arch: str) -> float:
    """Forward cost of one 224-px image."""
    if arch.startswith("convnet") and not arch.startswith("convnext"):
        width = int(arch.rpartition("_w")[2]) if "_w" in arch else CONVNET_WIDTH
        return CONVNET_GMAC * (width / CONVNET_WIDTH) ** 2
    if arch == "resnet18_small":
        return ROUGH_GMAC["resnet18"] * SMALL_STEM_FACTOR
    return ROUGH_GMAC.get(arch, ROUGH_GMAC_OTHER)


def _kind(label: dict[str, Any]) -> tuple[Any, ...]:
    names = ("arch", "image_size", "precision", "batch", "device", "threads", "teacher")
    return tuple(label.get(name) for name in names)


def measured_rates(records: Iterable[Record], plan: Plan) -> Rates:
    """Median seconds per unit of work over finished runs of each kind."""
    samples: dict[tuple[Any, ...], list[float]] = {}
    for record in records:
        if record.summary and record.label.get("work"):
            rate = float(record.summary["train_seconds"]) / float(record.label["work"])
            samples.setdefault(_kind(record.label), []).append(rate)
    return Rates({kind: median(rates) for kind, rates in samples.items()}, plan.device, plan.threads)


def making_seconds(plan: Plan, subset: SubsetPlan, rates: Rates) -> float:
    """Expected seconds of the passes through its teachers that making a compressed set takes."""
    method, config, side = subset.variant.method, subset.variant.config, plan.config.image_size
    visits = method.network_visits(config, subset.images, sum(plan.train.counts), side)
    teachers = subset.variant.teachers
    return sum(rates.rough(teacher.arch, side, visits / len(teachers), 0) for teacher in teachers)


def estimate(
    plan: Plan, todo: list[Cell], rates: Rates, observers: Sequence[tuple["ObserverConfig", int]] = ()
) -> Estimate:
    """Time and disk of the cells still to run.

    Args:
        todo: cells that will run.
        rates: from `measured_rates`.
        observers: observers that still have to be trained, the methods' and further teachers, each with its epochs.
    """
    seconds = sum(rates.seconds(cell) for cell in todo)
    for observer, epochs in observers:
        visits = epochs * sum(plan.train.counts)
        seconds += rates.rough(observer.arch, observer.image_size, visits, visits / observer.batch_size)
    new = {cell.subset.path: cell.subset for cell in todo if cell.subset and cell.subset.ipc is not None}
    new = {path: subset for path, subset in new.items() if not path.exists()}
    made = [making_seconds(plan, subset, rates) for subset in new.values()]
    seconds += sum(made)
    guessed = sum(not rates.is_measured(cell) for cell in todo)
    parts = [f"{len(todo) - guessed} from like runs in the store"] if guessed < len(todo) else []
    parts += [f"{guessed} by a rough rate, right within a factor of 5"] if guessed else []
    parts += ["the observer by a rough rate"] if len(observers) == 1 else []
    parts += [f"{len(observers)} observers by a rough rate"] if len(observers) > 1 else []
    distilled = sum(each > 0 for each in made)
    parts += [f"{distilled} distilled set{'s' * (distilled > 1)} by a rough rate"] if distilled else []
    per_image = BYTES_PER_PIXEL * plan.config.image_size**2 + BYTES_PER_IMAGE
    needed = round(sum(subset.images * per_image for subset in new.values())) + stored_label_bytes(plan, todo)
    free = shutil.disk_usage(existing_folder(plan.config.workdir)).free
    return Estimate(seconds, "; ".join(parts) or "nothing to do", needed, free)


def stored_label_bytes(plan: Plan, todo: list[Cell]) -> int:
    """Bytes of the stored labels of the cells still to run, each file once, those that lie there already included."""
    from fastdc.train.label_layout import label_bytes

    files = {
        (cell.subset.key, cell.protocol.name): label_bytes(cell.protocol, cell.subset.images, len(plan.train.classes))
        for cell in todo
        if cell.subset is not None and cell.protocol.labels == "stored"
    }
    return sum(files.values())
