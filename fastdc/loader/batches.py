"""What every loader shares: batches, the order of samples, and the checks on what a caller asks for."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from fastdc.beton import BetonFile, sample_id
from fastdc.errors import BetonError, LoaderError
from fastdc.loader.views import View
from fastdc.seeding import derive_seed

Engine = Literal["ffcv", "resident"]


class Batch(NamedTuple):
    """One batch. Its tensors belong to the caller: no later batch ever writes to them.

    Attributes:
        images: uint8 [B, S, S, 3], RGB.
        labels: int64 [B].
        indices: int64 [B], the samples' numbers in the beton.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor


class SampleOrder:
    """The samples of an epoch, in order: those of `indices`, shuffled anew in each epoch if asked.

    The permutation comes from PCG64(derive_seed(seed, "shuffle", epoch=epoch)), so neighbouring seeds share nothing.
    """

    def __init__(self, samples: NDArray[np.int64], seed: int, shuffle: bool) -> None:
        self.samples, self.seed, self.shuffle = samples, int(seed), shuffle  # a numpy integer has no JSON form to hash

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        """Sample numbers of epoch `epoch`, int64 [n]."""
        if not self.shuffle:
            return self.samples
        generator = np.random.Generator(np.random.PCG64(derive_seed(self.seed, "shuffle", epoch=epoch)))
        return generator.permutation(self.samples)


class EpochLoader(ABC):
    """Batches of one view of a beton's samples; the same batches whichever engine makes them.

    Attributes:
        engine: "ffcv" or "resident".
        path: the beton.
        view: what is made of each image.
        batch_size: samples in a batch; the last one of an epoch may be shorter.
        num_samples: samples in an epoch.
        batches_per_epoch: batches in an epoch, at least 1.
    """

    engine: Engine

    def __init__(
        self, path: Path, view: View, order: SampleOrder, labels: NDArray[np.int64], batch_size: int, workers: int
    ) -> None:
        self.path, self.view, self.order, self.labels = path, view, order, labels
        self.batch_size, self.workers = batch_size, workers
        self.augment_seed = derive_seed(order.seed, "augment")
        self.num_samples = len(order.samples)
        self.batches_per_epoch = -(-self.num_samples // batch_size)
        self.closed = False

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch `epoch`, in the same order and with the same pixels however often it is asked for.

        `start` leaves out that many batches, unmade: a resumed training goes on where it was.

        Epochs may be asked for in any order; an iterator that is dropped early leaves nothing behind.

        Raises:
            LoaderError: the loader is closed, `epoch` is negative, or (while iterating) a sample cannot be decoded.
        """
        epoch, start = int(epoch), int(start)  # numpy's integers are no part of a seed's text
        if self.closed:
            raise LoaderError(f"{self.path}: this loader was closed; open it again")
        if not 0 <= epoch < 2**63:
            raise LoaderError(f"{self.path}: epoch {epoch} does not exist, expected 0 or more")
        if not 0 <= start <= self.batches_per_epoch:
            raise LoaderError(f"{self.path}: batch {start} does not exist, an epoch has {self.batches_per_epoch}")
        return self._iterate(epoch, self.order.epoch(epoch)[start * self.batch_size :])

    @abstractmethod
    def _iterate(self, epoch: int, samples: NDArray[np.int64]) -> Iterator[Batch]:
        """The batches of one epoch, `epoch` being sound."""

    def _batch(self, images: torch.Tensor, samples: NDArray[np.int64]) -> Batch:
        """Put the labels and numbers of `samples` beside their images; both are copies."""
        return Batch(images, torch.from_numpy(self.labels[samples]), torch.from_numpy(samples.copy()))

    def close(self) -> None:
        """Release threads and memory; safe to call twice."""
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_samples(path: Path, total: int, indices: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """The samples to load as int64: all of them, or `indices` if these are sound.

    Raises:
        LoaderError: there are none, or an index is not an integer, outside 0..total-1, or given twice (a sample has one
            view per epoch, so a repeated index would be the very same picture again).
    """
    if total == 0:
        raise LoaderError(f"{path}: holds 0 samples, so there are 0 batches; write it again from a folder with images")
    if indices is None:
        return np.arange(total, dtype=np.int64)
    given = np.asarray(indices)
    if given.size == 0:
        raise LoaderError(f"{path}: indices are empty, so there are 0 batches; expected at least one sample")
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise LoaderError(f"{path}: indices are {given.dtype} {list(given.shape)}, expected a list of integers")
    outside = (given < 0) | (given >= total)
    if outside.any():
        raise LoaderError(f"{path}: index {given[outside][0]} does not exist, expected 0..{total - 1}")
    samples = given.astype(np.int64)
    ordered = np.sort(samples)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if repeated.size:
        raise LoaderError(f"{path}: index {repeated[0]} is given more than once; give each sample once")
    return samples


def check_labels(path: Path, labels: NDArray[np.int64]) -> None:
    """Refuse labels that no loss can take.

    Raises:
        LoaderError: a label is negative.
    """
    negative = np.flatnonzero(labels < 0)
    if negative.size:
        raise LoaderError(
            f"{path}: sample {negative[0]}: label {labels[negative[0]]}, expected 0 or more; run verify-beton on it"
        )


def decode_sample(file: BetonFile, sample: int) -> NDArray[np.uint8]:
    """Pixels of a sample, uint8 [H, W, 3], contiguous and writable: numba compiles anew for arrays that are read-only.

    Raises:
        LoaderError: it cannot be decoded; names the sample and, where the manifest is there, its id.
    """
    try:
        return np.require(file.decode(sample), requirements=["C", "W"])
    except BetonError as error:
        name = sample_id(file, sample)
        found = str(error) if name is None else str(error).replace(f"sample {sample}:", f"sample {sample} ({name}):", 1)
        raise LoaderError(f"{found}; run verify-beton --deep on the file") from error
