"""Estimate how much disk space a sweep will take, before it writes anything."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from fastdc.sweep.cell_networks import observer_needs
from fastdc.sweep.plan import Cell, Plan, SubsetPlan

if TYPE_CHECKING:
    from fastdc.observe.observer_config import ObserverConfig

BYTES_PER_PIXEL = 0.31  # of a stored JPEG: 15.7 kB for 224 x 224
BYTES_PER_IMAGE = 600
LOG_BYTES = 20  # of the observer's log per image and epoch: five float32
FINAL_BYTES = 40 + 2 * 512  # of the observer's last pass per image: scalars, and ResNet-18's 512 float16 features


class Disk(NamedTuple):
    """Hold the bytes that a sweep still has to write, by part.

    Attributes:
        subsets: compressed sets. labels: stored soft labels. observers: logs and features of observers.
        making: raw pixels of the largest recovered set and of its initial images; removed once that set is complete.
        holdout: the two parts of a split training set.
    """

    subsets: int
    labels: int
    observers: int
    making: int
    holdout: int = 0

    @property
    def most(self) -> int:
        """Return the bytes at the moment when the sweep takes most."""
        return sum(self)


def disk_needed(
    plan: Plan, todo: list[Cell], new: Sequence[SubsetPlan], observers: Sequence[tuple["ObserverConfig", int]] = ()
) -> Disk:
    """Estimate what the cells still to run will write.

    Args:
        plan: the checked sweep.
        todo: cells that will run.
        new: subsets that have to be made.
        observers: observers that still have to be trained, each with its epochs.
    """
    per_image = BYTES_PER_PIXEL * plan.config.image_size**2 + BYTES_PER_IMAGE
    recovered = [subset.images for subset in new if subset.variant.teachers]
    return Disk(
        subsets=round(sum(subset.images * per_image for subset in new)),
        labels=stored_label_bytes(plan, todo),
        observers=observer_bytes(plan, todo, observers),
        making=2 * 3 * plan.config.image_size**2 * max(recovered, default=0),  # the images and their start, as RGB
        holdout=0 if plan.holdout is None or not todo else plan.holdout.bytes_left,
    )


def observer_bytes(plan: Plan, todo: Iterable[Cell], observers: Sequence[tuple["ObserverConfig", int]]) -> int:
    """Return the bytes that the observers still to be trained keep about the training images.

    Their weights are left out, because they are small in comparison.
    """
    images, needs, total = sum(plan.train.counts), observer_needs(todo), 0
    for observer, epochs in observers:
        if observer == plan.observer:  # the other networks are teachers, of which only the weights are kept
            outputs = 2 * len(plan.train.classes) * needs.outputs
            followed = needs.tdds_epochs(observer.epochs)
            rolling = (4 * followed + 4 * len(plan.train.classes)) * (followed > 0)
            total += images * (LOG_BYTES * epochs + FINAL_BYTES * needs.final + outputs + rolling)
    return total


def stored_label_bytes(plan: Plan, todo: Iterable[Cell]) -> int:
    """Return the bytes of the stored labels of the cells still to run.

    Each file counts once. Files that exist already are included.
    """
    from fastdc.train.labels.layout import label_bytes

    classes = len(plan.train.classes)
    files = {
        (cell.subset.key, cell.protocol.name, cell.views): label_bytes(
            cell.protocol, cell.subset.images, classes, cell.views
        )
        for cell in todo
        if cell.subset is not None and cell.protocol.labels == "stored"
    }
    return sum(files.values())
