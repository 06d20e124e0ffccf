"""Copies to a device; `tests/gpu` and `tests/train/test_no_host_wait.py` see what CUDA does with them."""

import torch

from fastdc.common.transfer import send


def test_a_tensor_on_its_own_device_is_unchanged() -> None:
    tensor = torch.arange(6).view(2, 3)
    assert send(tensor, torch.device("cpu")) is tensor


def test_a_copy_keeps_type_shape_and_layout() -> None:
    tensor = torch.zeros(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    sent = send(tensor, torch.device("meta"))
    assert (sent.device.type, sent.dtype, sent.shape, sent.stride()) == (
        "meta",
        tensor.dtype,
        tensor.shape,
        tensor.stride(),
    )
