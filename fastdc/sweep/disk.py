"""How much disk a sweep will write, before it writes anything."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from fastdc.sweep.networks import observer_needs
from fastdc.sweep.plan import Cell, Plan, SubsetPlan

if TYPE_CHECKING:
    from fastdc.observe.config import ObserverConfig

BYTES_PER_PIXEL = 0.31  # 15.7 kB for 224 x 224 (paper.md section 1)
BYTES_PER_IMAGE = 600
LOG_BYTES = 20  # of the observer, for each image and epoch: five float32
FINAL_BYTES = 40 + 2 * 512  # of its last pass, for each image: scalars, and float16 features of ResNet-18's width


class Disk(NamedTuple):
    """Bytes that a sweep still has to write.

    Attributes:
        subsets: compressed sets. labels: stored soft labels. observers: their logs and features.
        making: raw pixels of the largest set that is recovered, and of its start; gone when it is whole.
        holdout: the two parts of a split training set.
    """

    subsets: int
    labels: int
    observers: int
    making: int
    holdout: int = 0

    @property
    def most(self) -> int:
        """At the worst moment."""
        return sum(self)


def disk_needed(
    plan: Plan, todo: list[Cell], new: Sequence[SubsetPlan], observers: Sequence[tuple["ObserverConfig", int]] = ()
) -> Disk:
    """What the cells still to run will write.

    Args:
        new: subsets that have to be made.
        observers: trainings of observers that are left, each with its epochs.
    """
    per_image = BYTES_PER_PIXEL * plan.config.image_size**2 + BYTES_PER_IMAGE
    recovered = [subset.images for subset in new if subset.variant.teachers]
    return Disk(
        subsets=round(sum(subset.images * per_image for subset in new)),
        labels=stored_label_bytes(plan, todo),
        observers=observer_bytes(plan, todo, observers),
        making=2 * 3 * plan.config.image_size**2 * max(recovered, default=0),
        holdout=0 if plan.holdout is None or not todo else plan.holdout.bytes_left,
    )


def observer_bytes(plan: Plan, todo: Iterable[Cell], observers: Sequence[tuple["ObserverConfig", int]]) -> int:
    """Bytes of what the observers still to be trained keep of every image; their weights are small beside it."""
    images, needs, total = sum(plan.train.counts), observer_needs(todo), 0
    for observer, epochs in observers:
        if observer == plan.observer:  # of other networks, which are teachers, the weights alone are kept
            outputs = 2 * len(plan.train.classes) * needs.outputs
            rolling = (4 * needs.tdds + 4 * len(plan.train.classes)) * (needs.tdds > 0)
            total += images * (LOG_BYTES * epochs + FINAL_BYTES * needs.final + outputs + rolling)
    return total


def stored_label_bytes(plan: Plan, todo: Iterable[Cell]) -> int:
    """Bytes of the stored labels of the cells still to run, each file once, those that lie there already included."""
    from fastdc.train.label_layout import label_bytes

    classes = len(plan.train.classes)
    files = {
        (cell.subset.key, cell.protocol.name, cell.views): label_bytes(
            cell.protocol, cell.subset.images, classes, cell.views
        )
        for cell in todo
        if cell.subset is not None and cell.protocol.labels == "stored"
    }
    return sum(files.values())
