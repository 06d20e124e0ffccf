"""Random access to a stream's batches, for trainings whose labels are pruned."""

from collections.abc import Iterator
from itertools import islice

from fastdc.loader import Batch
from fastdc.nn.fit_loop import Epochs, join_lone_sample
from fastdc.train.labels.layout import LabelLayout


class PooledEpochs:
    """Source of trainings' batches where labels are pruned: each step takes a kept batch, drawn by `LabelLayout`.

    Order, crops and flips are those of the epoch in which the batch was labelled.
    """

    def __init__(self, loader: Epochs, layout: LabelLayout) -> None:
        self.loader, self.layout = loader, layout

    def epoch_views(self, epoch: int, start: int = 0) -> Iterator[tuple[Batch, ...]]:
        """Yield the tuples of batches of `epoch` from step `start` on."""
        for step in range(start, len(self.layout.sizes)):
            place = self.layout.drawn(epoch, step)
            yield batches_at(self.loader, self.layout, place.epoch, place.step)


def batches_at(loader: Epochs, layout: LabelLayout, epoch: int, step: int) -> tuple[Batch, ...]:
    """Return the batches of one step; an epoch's last ones include the lone sample that `join_lone_sample` merges."""
    stream = loader.epoch_views(epoch, step)
    # Only an epoch's last batch can gain a lone sample. For the others, looking ahead would decode a batch in vain.
    is_last = step == len(layout.sizes) - 1
    return next(join_lone_sample(stream if is_last else islice(stream, 1)))
