"""Batch memory, reused only when no other reference to it is left."""

import sys
import threading
from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray

_LOCK_SECONDS = 0.1


def _count_references(arrays: list[NDArray[np.uint8]]) -> int:
    """Count the references to the array of a list of one, the way `BufferPool.take` does.

    Versions of Python differ by one.
    """
    for array in arrays:
        return sys.getrefcount(array)
    raise AssertionError("a list of one")


# References of an unused buffer: the pool's list, the loop variable and getrefcount's argument. If a tensor does not
# add one, use cannot be detected: the count becomes -1, which no buffer has, and none is reused.
_PROBE = [np.empty(1, np.uint8)]
_OWN_REFERENCES = _count_references(_PROBE)
_PROBE_TENSOR = torch.from_numpy(_PROBE[0])
if _count_references(_PROBE) != _OWN_REFERENCES + 1:
    _OWN_REFERENCES = -1
del _PROBE, _PROBE_TENSOR


class Buffer(ABC):
    """Bytes for one batch.

    Attributes:
        array: flat uint8, for kernels to write.
    """

    array: NDArray[np.uint8]

    def tensor(self, start: int, end: int, shape: tuple[int, ...], output: str) -> torch.Tensor:
        """Return the bytes start .. end - 1 as a tensor of `shape` [B, S, S, 3].

        float32 tensors are returned as [B, 3, S, S] in channels_last memory.
        """
        flat = self._tensor(start, end)
        if output == "float32":
            return flat.view(torch.float32).view(shape).permute(0, 3, 1, 2)
        return flat.view(shape)

    @abstractmethod
    def _tensor(self, start: int, end: int) -> torch.Tensor:
        """Return some of the bytes as uint8; the tensor keeps the memory alive."""


class PlainBuffer(Buffer):
    """Ordinary memory, which tensors hold through numpy's reference count."""

    def __init__(self, array: NDArray[np.uint8]) -> None:
        self.array = array

    def _tensor(self, start: int, end: int) -> torch.Tensor:
        return torch.from_numpy(self.array[start:end])


class PinnedBuffer(Buffer):
    """Page-locked memory from torch's own cache, which reuses it only after all copies that read it have ended."""

    def __init__(self, size: int) -> None:
        self._memory = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        self.array = self._memory.numpy()

    def _tensor(self, start: int, end: int) -> torch.Tensor:
        return self._memory[start:end]


class BufferPool:
    """Pool of batch memory that reuses a buffer once the consumer has dropped every tensor made of it.

    The pool reads the array's reference count. A tensor holds its array, and everything derived from the tensor (a
    slice, tensors saved by autograd) holds the tensor's storage. So no batch is overwritten while a reference to it
    exists.

    Args:
        keep: the most buffers to remember; a consumer that holds more gets new ones.
        pinned: take page-locked memory from torch instead.

    Attributes:
        made: buffers allocated so far.
    """

    def __init__(self, keep: int, pinned: bool = False) -> None:
        self.keep, self.pinned, self.made = keep, pinned, 0
        self._arrays: list[NDArray[np.uint8]] = []
        self._largest = 0  # the usual size; a short last batch gets a buffer of this size too
        self._lock = threading.Lock()

    def take(self, size: int) -> Buffer:
        """Return a buffer of `size` bytes that is not in use."""
        if self.pinned:
            self.made += 1
            return PinnedBuffer(size)
        if not self._lock.acquire(timeout=_LOCK_SECONDS):
            # The lock's holder may be waiting for this very thread: allocating an object can start a garbage
            # collection, which can close an abandoned epoch of the same loader. A fresh buffer avoids that deadlock.
            self.made += 1
            return PlainBuffer(np.empty(size, np.uint8))
        try:
            for array in self._arrays:
                if array.size >= size and sys.getrefcount(array) == _OWN_REFERENCES:
                    return PlainBuffer(array)
            self._largest = max(self._largest, size)
            array = np.empty(self._largest, np.uint8)
            self.made += 1
            self._arrays.append(array)
            if len(self._arrays) > self.keep:
                del self._arrays[0]  # tensors that still use it keep it alive
            return PlainBuffer(array)
        finally:
            self._lock.release()

    def clear(self) -> None:
        """Forget all buffers."""
        with self._lock:
            self._arrays.clear()
