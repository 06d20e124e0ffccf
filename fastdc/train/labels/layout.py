"""Layout of a file of stored labels: which labels it holds, where, and how many bytes they take.

The unit is a batch, which is one (epoch, step) of the stream that the labels were made on. It has one row per image.
Everything follows from a protocol and the size of a set. Imports no torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdc.common.errors import ConfigError
from fastdc.common.keys import derive_seed
from fastdc.nn.step_sizes import step_sizes
from fastdc.train.protocols import Protocol

LOGIT_BYTES = 2
"""Bytes of a stored logit, which is fp16."""


def hard_label_bytes(num_classes: int) -> int:
    """Return the whole bytes needed to name one of `num_classes` classes, at least 1."""
    return max(1, math.ceil(math.log2(num_classes) / 8)) if num_classes > 1 else 1


def label_bytes(protocol: Protocol, images: int, classes: int, views: int = 1) -> int:
    """Return the bytes of all labels that a training on a set uses under a protocol.

    Args:
        images, classes: number of stored images of the set, and of its classes.
        views: visits to each image per epoch.

    Returns:
        For hard labels, the bytes that name each image's class. For online labels, which are not stored, the bytes of
        fp16 logits for every view in every epoch. For stored labels, the size of their file.

    Raises:
        ConfigError: `label_topk` is above the number of classes.
    """
    if protocol.labels == "hard":
        return images * hard_label_bytes(classes)
    if protocol.labels == "online":
        return protocol.epochs_for(images, classes) * images * views * classes * LOGIT_BYTES
    return LabelLayout(protocol, images, classes, views).file_bytes


def row_type(topk: int | None, classes: int) -> np.dtype[np.void]:
    """Return the type of a stored label: `logits` fp16 [k], and with top-k `classes` [k] in the smallest unsigned type.

    Args:
        topk: number of logits kept, k; None keeps all, so that k is `classes`.

    Raises:
        ConfigError: `topk` is above the number of classes.
    """
    if topk is None:
        return np.dtype([("logits", "<f2", (classes,))])
    if topk > classes:
        raise ConfigError(f"label_topk={topk}: the data has {classes} classes, expected at most as many")
    index = next(kind for kind in ("<u1", "<u2", "<u4") if classes <= np.iinfo(kind).max + 1)
    return np.dtype([("logits", "<f2", (topk,)), ("classes", index, (topk,))])


class Place(NamedTuple):
    """Batch of the stream: its epoch and step, and its number in the file (-1 without a file)."""

    epoch: int
    step: int
    slot: int = -1


@dataclass(frozen=True)
class LabelLayout:
    """Layout of a file of stored labels: the kept batches in order of (epoch, step), rows in the batch's order.

    Attributes:
        protocol: a protocol with labels=stored.
        images, classes: number of the set's images and classes.
        views: visits to each image per epoch.
    """

    protocol: Protocol
    images: int
    classes: int
    views: int = 1

    @property
    def epochs(self) -> int:
        """Return the number of epochs of the training."""
        return self.protocol.epochs_for(self.images, self.classes)

    @cached_property
    def sizes(self) -> list[int]:
        """Return the number of rows in each step of an epoch."""
        return step_sizes(self.images * self.views, self.protocol.batch_for(self.images))

    @cached_property
    def row(self) -> np.dtype[np.void]:
        """Return the type of one row."""
        return row_type(self.protocol.label_topk, self.classes)

    @cached_property
    def kept(self) -> NDArray[np.int64]:
        """Return the kept batches as epoch * steps + step, int64 [K], ascending.

        They are a random 1/label_ratio of the batches of all epochs, at least 1. Whole batches are kept, as in LPLD
        (Xiao & He, NeurIPS 2024).
        """
        total = self.epochs * len(self.sizes)
        if self.protocol.label_ratio == 1:
            return np.arange(total, dtype=np.int64)
        count = max(1, round(total / self.protocol.label_ratio))
        generator = np.random.Generator(np.random.PCG64(derive_seed(self.protocol.label_seed, "label pool")))
        return np.sort(generator.permutation(total)[:count]).astype(np.int64)

    @cached_property
    def first_rows(self) -> NDArray[np.int64]:
        """Return the first row of each kept batch, followed by the total number of rows, int64 [K + 1]."""
        rows = np.asarray(self.sizes, np.int64)[self.kept % len(self.sizes)]
        return np.concatenate([[0], np.cumsum(rows)])

    @property
    def file_bytes(self) -> int:
        """Return the size of the file in bytes."""
        return int(self.first_rows[-1]) * self.row.itemsize

    def slots_of(self, epoch: int) -> Sequence[int]:
        """Return the numbers of the kept batches made in `epoch`; they are consecutive."""
        steps = len(self.sizes)
        first, end = np.searchsorted(self.kept, [epoch * steps, (epoch + 1) * steps])
        return range(int(first), int(end))

    def place(self, slot: int) -> Place:
        """Return the epoch and step in which batch `slot` of the file was made."""
        epoch, step = divmod(int(self.kept[slot]), len(self.sizes))
        return Place(epoch, step, slot)

    def drawn(self, epoch: int, step: int) -> Place:
        """Return the stored batch for a training step: its own or, with label_ratio above 1, a random kept one."""
        if self.protocol.label_ratio == 1:
            return Place(epoch, step, epoch * len(self.sizes) + step)
        draw = derive_seed(self.protocol.label_seed, "label draw", epoch=epoch, step=step)
        return self.place(draw % len(self.kept))
