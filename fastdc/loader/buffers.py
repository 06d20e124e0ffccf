"""Memory for batches: used again, but only when nobody can see it any more."""

import sys
import threading
from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray

_LOCK_SECONDS = 0.1


def _count_references(arrays: list[NDArray[np.uint8]]) -> int:
    """References to the array of a list of one, counted as `BufferPool.take` does; versions of Python differ by one."""
    for array in arrays:
        return sys.getrefcount(array)
    raise AssertionError("a list of one")


# Of a buffer that nobody uses: by the pool's list, the loop and getrefcount itself. Where a tensor does not add one to
# it, nothing can be told, and no buffer is used again.
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
        """The bytes start .. end as a tensor of `shape` [B, S, S, 3], float32 ones as [B, 3, S, S], channels_last."""
        flat = self._tensor(start, end)
        if output == "float32":
            return flat.view(torch.float32).view(shape).permute(0, 3, 1, 2)
        return flat.view(shape)

    @abstractmethod
    def _tensor(self, start: int, end: int) -> torch.Tensor:
        """Some of the bytes, uint8; keeps the memory alive."""


class PlainBuffer(Buffer):
    """Ordinary memory, which tensors hold through numpy's reference count."""

    def __init__(self, array: NDArray[np.uint8]) -> None:
        self.array = array

    def _tensor(self, start: int, end: int) -> torch.Tensor:
        return torch.from_numpy(self.array[start:end])


class PinnedBuffer(Buffer):
    """Page-locked memory of torch's own cache, which reuses it only after the copies that read it have ended."""

    def __init__(self, size: int) -> None:
        self._memory = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        self.array = self._memory.numpy()

    def _tensor(self, start: int, end: int) -> torch.Tensor:
        return self._memory[start:end]


class BufferPool:
    """Batches' memory, taken again once the consumer has dropped every tensor made of it.

    Whether it has is read from the array's reference count: a tensor holds its array, and everything made of the tensor
    (a slice, what autograd saved) holds the tensor's storage. So no batch is ever written to while somebody can see it.

    Args:
        keep: the most buffers to remember; a consumer that holds more gets new ones.
        pinned: take page-locked memory from torch instead.

    Attributes:
        made: buffers that were allocated so far.
    """

    def __init__(self, keep: int, pinned: bool = False) -> None:
        self.keep, self.pinned, self.made = keep, pinned, 0
        self._arrays: list[NDArray[np.uint8]] = []
        self._largest = 0  # what is asked for most of the time; a short last batch takes as much
        self._lock = threading.Lock()

    def take(self, size: int) -> Buffer:
        """A buffer of `size` bytes that nobody else uses."""
        if self.pinned:
            self.made += 1
            return PinnedBuffer(size)
        if not self._lock.acquire(timeout=_LOCK_SECONDS):
            # Its holder may be waiting for this very thread: making an object can start a garbage collection, and that
            # can close an abandoned epoch of the same loader.
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
                del self._arrays[0]  # whoever still uses it keeps it alive
            return PlainBuffer(array)
        finally:
            self._lock.release()

    def clear(self) -> None:
        """Forget all buffers."""
        with self._lock:
            self._arrays.clear()
