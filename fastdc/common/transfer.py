"""Copies between the CPU and a device, without a wait for it."""

from collections import deque

import torch

MOST_STEPS_AHEAD = 16


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor on `device` without waiting for the transfer; on the CPU, and on its own device, it is unchanged.

    CUDA copies ordinary memory only while the host waits, so it is copied to page-locked memory first. That memory
    comes from torch's cache, which reuses it only after every copy that reads it has ended. It may therefore be dropped
    at once.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()  # the tensor itself if it is page-locked already
    return tensor.to(device, non_blocking=True)


class Fetched:
    """Copy of a tensor to the CPU; the host need not wait for it at once."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._copy, self._end = tensor, None
        if tensor.device.type == "cuda":
            self._copy = torch.empty_like(tensor, device="cpu", pin_memory=True)
            self._copy.copy_(tensor, non_blocking=True)
            self._end = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            self._end.record()

    def wait(self) -> torch.Tensor:
        """Return the copy once it is complete; of a tensor on the CPU, the tensor itself."""
        if self._end is not None:
            self._end.synchronize()
        return self._copy


class Lead:
    """Bound on the steps by which the host may be ahead of a CUDA device.

    Batches lie in page-locked memory until their copies have ended. A host that never waits could queue an epoch.
    """

    def __init__(self) -> None:
        self._ends: deque[torch.cuda.Event] = deque()

    def step(self) -> None:
        """Mark the end of a step on the device; wait for the step `MOST_STEPS_AHEAD` before it if it still runs."""
        if len(self._ends) < MOST_STEPS_AHEAD:
            end = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        else:
            end = self._ends.popleft()
            end.synchronize()
        end.record()
        self._ends.append(end)
