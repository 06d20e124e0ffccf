"""Common parts of all loaders: batches, the order of samples, and the iteration through an epoch."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray

from fastdc.common.errors import LoaderError
from fastdc.common.keys import derive_seed
from fastdc.common.transfer import send
from fastdc.loader.buffers import BufferPool
from fastdc.loader.request import LoaderRequest

Engine = Literal["ffcv", "resident", "device"]


class Batch(NamedTuple):
    """One batch. Its tensors belong to the caller: no later batch ever writes to them.

    Attributes:
        images: uint8 [B, S, S, 3], RGB; or float32 [B, 3, S, S] in channels_last memory, normalised with ImageNet's
            mean and standard deviation. The device engine puts them on its device.
        labels: int64 [B], on the device of the images (but pinned images have labels in ordinary memory).
        indices: int64 [B], the samples' numbers in the beton, always on the CPU.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor


class SampleOrder:
    """Visits of an epoch, in order: rounds through the samples, each reshuffled if `shuffle` is set.

    The permutation comes from PCG64(derive_seed(seed, "shuffle", epoch=epoch)), so neighbouring seeds share nothing. A
    later round adds its number to the parts of that seed.

    Args:
        samples: int64 [n], sample numbers of a set of `total`.
        seed: seed of the permutations.
        shuffle: permute each round; else keep the order of `samples`.
        views: rounds in an epoch, at least 1.
        total: N; used only with several rounds.
    """

    def __init__(self, samples: NDArray[np.int64], seed: int, shuffle: bool, views: int = 1, total: int = 0) -> None:
        self.samples, self.seed, self.shuffle = samples, int(seed), shuffle  # seeds are derived from JSON
        self.views, self.total = views, total

    def __len__(self) -> int:
        return len(self.samples) * self.views

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        """Return the visits of epoch `epoch`, int64 [n * views]: round v visits sample i as i + v * total."""
        number = int(epoch)  # seeds are derived from JSON, which has no numpy integers
        return np.concatenate([self._round(number, view) + view * self.total for view in range(self.views)])

    def _round(self, epoch: int, view: int) -> NDArray[np.int64]:
        if not self.shuffle:
            return self.samples
        later = {"view": view} if view else {}  # the first round is the same for any number of rounds
        generator = np.random.Generator(np.random.PCG64(derive_seed(self.seed, "shuffle", epoch=epoch, **later)))
        return generator.permutation(self.samples)


class VisitDrawer(Protocol):
    """Maker of training views from numbers that lie on its device.

    Attributes:
        labels: int64 [N], the label of every sample, on the device.
    """

    labels: torch.Tensor

    def visits(self, epoch: int, samples: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what describes visits of `epoch`, on the CPU: int64 [n], samples, and int32 [n, PLACE_NUMBERS]."""

    def draw(self, samples: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Return the views of visits, as `ViewStream.batches` does; on CUDA without a part for the host."""


class ViewStream(ABC):
    """Source of the views of batches of samples: the part of a loader in which the engines differ.

    Attributes:
        engine: "ffcv", "resident" or "device".
        labels: int64 [N], the label of every sample; on the device if the batches are there.
        pool: the memory of batches; `pool.made` counts allocations.
        decodes: uint32 [N], how often each sample was decoded for this stream (by the engines that keep images: for
            this process).
    """

    engine: Engine
    labels: torch.Tensor
    pool: BufferPool
    decodes: NDArray[np.uint32]

    @abstractmethod
    def batches(self, epoch: int, samples: NDArray[np.int64], batch_size: int) -> Iterator[tuple[torch.Tensor, ...]]:
        """Yield the views of the visits `samples` in `epoch`, batch by batch: one tensor for each distinct request.

        Visit i + v * N is one of sample i; see `fastdc.kernels.views.view_batches`.
        """

    @property
    def drawers(self) -> tuple[VisitDrawer, ...]:
        """Return for each requested view the maker of it from numbers on the device; empty if there is none."""
        return ()

    @abstractmethod
    def close(self) -> None:
        """Release threads and memory; safe to call twice. Iterators still in use then raise LoaderError."""


def batch_error(path: Path, samples: NDArray[np.int64], failure: BaseException | None) -> LoaderError:
    """Return the error to raise for a batch whose thread failed.

    It is the failure itself if that is a LoaderError, else a LoaderError that names the batch's samples.
    """
    if isinstance(failure, LoaderError):
        return failure
    shown = ", ".join(str(sample) for sample in samples[:8]) + (", ..." if len(samples) > 8 else "")
    reason = "its thread died" if failure is None else f"{type(failure).__name__}: {failure}"
    error = LoaderError(f"{path}: the batch of samples {shown} cannot be made: {reason}")
    error.__cause__ = failure
    return error


class Loader:
    """Batches of K >= 1 views of a beton's samples from one stream, which reads and decodes every image once.

    For the pixels of the engines, see `open_loader`.

    Attributes:
        engine: "ffcv", "resident" or "device".
        request: the settings that it was opened with.
        path: the beton.
        view: the first view made of each image.
        batch_size: samples in a batch; the last one of an epoch may be shorter.
        num_samples: visits in an epoch: the samples times the visits to each.
        batches_per_epoch: batches in an epoch, at least 1.
    """

    def __init__(self, request: LoaderRequest, stream: ViewStream, order: SampleOrder) -> None:
        self.request, self.order = request, order
        self.path, self.view, self.batch_size = request.path, request.requests[0].view, request.batch_size
        self.num_samples = len(order)
        self.batches_per_epoch = -(-self.num_samples // self.batch_size)
        self.closed = False
        self._stream, self._process = stream, os.getpid()

    @property
    def engine(self) -> Engine:
        """Return the engine that makes the batches."""
        return self._stream.engine

    @property
    def drawers(self) -> tuple[VisitDrawer, ...]:
        """Return for each view the maker of its `visits` on the device; empty if there is none, see `ViewStream`."""
        return self._stream.drawers

    @property
    def decodes(self) -> NDArray[np.uint32]:
        """Return how often each sample of the file was decoded, uint32 [N]; see `ViewStream`."""
        return self._stream.decodes

    @property
    def buffers_made(self) -> int:
        """Return the number of batch buffers allocated so far.

        It soon stays constant if the consumer keeps no batches.
        """
        return self._stream.pool.made

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Return the batches of epoch `epoch`, with the same order and pixels on every call.

        The first `start` batches are skipped without being made, so that a training resumes where it stopped. Epochs
        may be requested in any order. An iterator that is dropped early leaves nothing behind. Of several views, the
        batches are those of the first.

        Raises:
            LoaderError: the loader is closed or belongs to the process before a fork, `epoch` is negative, `start` is
                out of range, or (while iterating) a sample cannot be decoded or the file was changed.
        """
        return (batches[0] for batches in self.epoch_views(epoch, start))

    def epoch_views(self, epoch: int, start: int = 0) -> Iterator[tuple[Batch, ...]]:
        """Return the batches of epoch `epoch`, one per view: the same samples, each with its own views.

        Batch k equals that of `open_loader` with view k, seed k and the same `order_seed`, bit for bit. Equal requests
        share one tensor, and so do the labels and indices of all.

        Raises:
            LoaderError: see `epoch`.
        """
        epoch, start = int(epoch), int(start)  # seeds are derived from JSON, which has no numpy integers
        self._check(epoch, start)
        return self._walk(epoch, start)

    def visits(self, epoch: int, start: int = 0) -> NDArray[np.int64]:
        """Return the visits of epoch `epoch` from batch `start` on, in order, int64; see `ViewStream.batches`.

        Raises:
            LoaderError: see `epoch`.
        """
        self._check(epoch, start)
        return self.order.epoch(epoch)[start * self.batch_size :]

    def _check(self, epoch: int, start: int) -> None:
        if self.closed:
            raise LoaderError(f"{self.path}: this loader was closed; open it again")
        if os.getpid() != self._process:
            raise LoaderError(f"{self.path}: this loader was opened before the fork; open it again in this process")
        if not 0 <= epoch < 2**63:
            raise LoaderError(f"{self.path}: epoch {epoch} does not exist, expected 0 or more")
        if not 0 <= start <= self.batches_per_epoch:
            raise LoaderError(f"{self.path}: batch {start} does not exist, an epoch has {self.batches_per_epoch}")

    def _walk(self, epoch: int, start: int) -> Iterator[tuple[Batch, ...]]:
        samples = self.visits(epoch, start)
        made = self._stream.batches(epoch, samples, self.batch_size)
        try:
            for first in range(0, len(samples), self.batch_size):
                self._check(epoch, start)  # again for each batch: the loader may be closed between two of them
                # No local variable holds a batch here: its buffer could not be reused for the next one.
                yield self._delivered(next(made), samples[first : first + self.batch_size])
        finally:
            if os.getpid() == self._process:
                made.close()  # type: ignore[attr-defined]  # ends the epoch's thread even if it is abandoned early

    def _delivered(self, views: tuple[torch.Tensor, ...], visits: NDArray[np.int64]) -> tuple[Batch, ...]:
        """Return one batch per request from one tensor per distinct request."""
        labels = self._stream.labels
        indices = torch.from_numpy(visits % len(labels))
        labels = labels[send(indices, labels.device)]
        return tuple(Batch(views[place], labels, indices) for place in self.request.plan.places)

    def close(self) -> None:
        """Release threads and memory; safe to call twice."""
        self.closed = True
        if os.getpid() == self._process:  # a forked child has lost the threads, and their locks may be held
            self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
