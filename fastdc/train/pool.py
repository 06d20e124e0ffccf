"""Batches by their place in the stream, for labels that were kept of some of them only."""

from collections.abc import Iterator
from itertools import islice

from fastdc.loader import Batch
from fastdc.nn.fit import Epochs, SharedEpochs, join_lone_sample
from fastdc.train.label_layout import LabelLayout


class PooledEpochs:
    """A training's batches where labels are pruned: each step takes a batch that was kept, as `LabelLayout.drawn` says.

    Order, crops and flips are those of the epoch that the batch was made in.
    """

    def __init__(self, loader: Epochs, layout: LabelLayout) -> None:
        self.loader, self.layout = loader, layout

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` from step `start` on."""
        for step in range(start, len(self.layout.sizes)):
            place = self.layout.drawn(epoch, step)
            yield batch_at(self.loader, self.layout, place.epoch, place.step)


class PooledSharedEpochs:
    """`PooledEpochs` of several trainings that share a stream."""

    def __init__(self, loader: SharedEpochs, layout: LabelLayout) -> None:
        self.loader, self.layout = loader, layout

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Batch, ...]]:
        """The tuples of batches of `epoch` from step `start` on."""
        for step in range(start, len(self.layout.sizes)):
            place = self.layout.drawn(epoch, step)
            yield _first(self.loader.epoch(place.epoch, place.step), place.step, self.layout)


def batch_at(loader: Epochs, layout: LabelLayout, epoch: int, step: int) -> Batch:
    """The batch of one step, with the lone sample that `join_lone_sample` adds to an epoch's last one."""
    return _first(((batch,) for batch in loader.epoch(epoch, step)), step, layout)[0]


def _first(stream: Iterator[tuple[Batch, ...]], step: int, layout: LabelLayout) -> tuple[Batch, ...]:
    is_last = step == len(layout.sizes) - 1
    return next(join_lone_sample(stream if is_last else islice(stream, 1)))
