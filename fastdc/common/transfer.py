"""Copies of CPU tensors to a device, without a wait for it."""

import torch


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor on `device` without waiting for the transfer; on the CPU, and on its own device, it is unchanged.

    CUDA copies ordinary memory only while the host waits, so it is copied to page-locked memory first. That memory
    comes from torch's cache, which reuses it only after every copy that reads it has ended. It may therefore be dropped
    at once.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()  # the tensor itself if it is page-locked already
    return tensor.to(device, non_blocking=True)
