"""Which labels of a training are stored, where they lie in their file, and how many bytes they take.

Labels are counted in batches: (epoch, step) of the stream that they were made on is one batch, its rows one per image.
All of it is arithmetic on a protocol and the size of a set; imports no torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdc.errors import ConfigError
from fastdc.seeding import derive_seed
from fastdc.train.protocols import Protocol

LOGIT_BYTES = 2
"""A logit is stored in fp16."""


def hard_label_bytes(num_classes: int) -> int:
    """Whole bytes that name one of `num_classes` classes."""
    return max(1, math.ceil(math.log2(num_classes) / 8)) if num_classes > 1 else 1


def label_bytes(protocol: Protocol, images: int, classes: int, views: int = 1) -> int:
    """Bytes of the labels that train on a set under a protocol.

    Args:
        images, classes: stored images of the set, and its classes.
        views: visits to each image in an epoch.

    Returns:
        Of hard labels, the bytes that name each image's class. Of online labels, which are not stored, those of fp16
        logits of every view in every epoch. Of stored labels, the size of their file.

    Raises:
        ConfigError: `label_topk` is above the number of classes.
    """
    if protocol.labels == "hard":
        return images * hard_label_bytes(classes)
    if protocol.labels == "online":
        return protocol.epochs_for(images, classes) * images * views * classes * LOGIT_BYTES
    return LabelLayout(protocol, images, classes, views).file_bytes


def row_type(topk: int | None, classes: int) -> np.dtype[np.void]:
    """One stored label: `logits` fp16 [k]; with top-k also `classes` [k], in the smallest unsigned type.

    Raises:
        ConfigError: `topk` is above the number of classes.
    """
    if topk is None:
        return np.dtype([("logits", "<f2", (classes,))])
    if topk > classes:
        raise ConfigError(f"label_topk={topk}: the data has {classes} classes, expected at most as many")
    index = next(kind for kind in ("<u1", "<u2", "<u4") if classes <= np.iinfo(kind).max + 1)
    return np.dtype([("logits", "<f2", (topk,)), ("classes", index, (topk,))])


def step_sizes(images: int, batch_size: int) -> list[int]:
    """Images in each step of an epoch; a last one of a single image joins the step before it, as in `nn.fit`."""
    sizes = [batch_size] * (images // batch_size) + [images % batch_size] * (images % batch_size > 0)
    if len(sizes) > 1 and sizes[-1] == 1 < sizes[-2]:
        sizes[-2:] = [sizes[-2] + 1]
    return sizes


class Place(NamedTuple):
    """A batch of the stream: the epoch and step that it is made in, and its number in the file if it has one."""

    epoch: int
    step: int
    slot: int = -1


@dataclass(frozen=True)
class LabelLayout:
    """The file of stored labels: the kept batches in order of (epoch, step), rows in the batch's order.

    Attributes:
        protocol: of labels=stored. images, classes: of the set. views: visits to each image in an epoch.
    """

    protocol: Protocol
    images: int
    classes: int
    views: int = 1

    @property
    def epochs(self) -> int:
        """Return the epochs of the training."""
        return self.protocol.epochs_for(self.images, self.classes)

    @cached_property
    def sizes(self) -> list[int]:
        """Rows of each step of an epoch."""
        return step_sizes(self.images * self.views, self.protocol.batch_for(self.images))

    @cached_property
    def row(self) -> np.dtype[np.void]:
        """Type of one row."""
        return row_type(self.protocol.label_topk, self.classes)

    @cached_property
    def kept(self) -> NDArray[np.int64]:
        """The kept batches as epoch * steps + step, int64 [K], ascending; a random 1/label_ratio of them, at least 1.

        LPLD (Xiao & He, NeurIPS 2024): whole batches are drawn from the pool of all epochs.
        """
        total = self.epochs * len(self.sizes)
        if self.protocol.label_ratio == 1:
            return np.arange(total, dtype=np.int64)
        count = max(1, round(total / self.protocol.label_ratio))
        generator = np.random.Generator(np.random.PCG64(derive_seed(self.protocol.label_seed, "label pool")))
        return np.sort(generator.permutation(total)[:count]).astype(np.int64)

    @cached_property
    def first_rows(self) -> NDArray[np.int64]:
        """First row of each kept batch, and at the end the number of rows; int64 [K + 1]."""
        rows = np.asarray(self.sizes, np.int64)[self.kept % len(self.sizes)]
        return np.concatenate([[0], np.cumsum(rows)])

    @property
    def file_bytes(self) -> int:
        """Size of the file."""
        return int(self.first_rows[-1]) * self.row.itemsize

    def slots_of(self, epoch: int) -> Sequence[int]:
        """Numbers of the kept batches that were made in `epoch`; they follow one another."""
        steps = len(self.sizes)
        first, end = np.searchsorted(self.kept, [epoch * steps, (epoch + 1) * steps])
        return range(int(first), int(end))

    def place(self, slot: int) -> Place:
        """Where the batch `slot` of the file was made."""
        epoch, step = divmod(int(self.kept[slot]), len(self.sizes))
        return Place(epoch, step, slot)

    def drawn(self, epoch: int, step: int) -> Place:
        """The stored batch that a training takes in a step: its own, or with label_ratio above 1 one of the pool."""
        if self.protocol.label_ratio == 1:
            return Place(epoch, step, epoch * len(self.sizes) + step)
        draw = derive_seed(self.protocol.label_seed, "label draw", epoch=epoch, step=step)
        return self.place(draw % len(self.kept))
