"""Augmentation, mixing and a step's arithmetic read no value on the host, and every copy to the device is asynchronous.

Tensors on torch's `meta` device stand for those of a GPU: they have no values, so reading one fails.
"""

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from fastdc.nn.models import build_model
from fastdc.nn.step_ledger import StepLedger
from fastdc.train.batch_augment import augment_batch, draw_augment
from fastdc.train.batch_mixing import mix_batch, mix_classes
from fastdc.train.protocols import BatchAugment, Mix

META = torch.device("meta")


class Copies(TorchDispatchMode):
    """Keeps, for each copy from the CPU to the device, whether it is asynchronous."""

    def __init__(self) -> None:
        super().__init__()
        self.asynchronous: list[bool] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        if func._opname == "_to_copy" and args[0].device.type == "cpu" and found.device.type == "meta":
            self.asynchronous.append(bool(kwargs.get("non_blocking")))
        if func._opname == "copy_" and args[1].device.type == "cpu" and args[0].device.type == "meta":
            self.asynchronous.append(len(args) > 2 and bool(args[2]))
        return found


def images() -> torch.Tensor:
    return torch.empty(6, 3, 32, 32, device=META).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", ["dsa", "idc", "jitter"])
def test_augmentation(kind: BatchAugment) -> None:
    copies, seen = Copies(), set()
    with copies:
        for step in range(60):
            draw = draw_augment(kind, 0, 0, step, 6)
            seen.add(draw.operations)
            assert augment_batch(images(), draw).shape == (6, 3, 32, 32)
    assert len(seen) == {"dsa": 6, "idc": 3, "jitter": 1}[kind]
    assert copies.asynchronous
    assert all(copies.asynchronous)


@pytest.mark.parametrize("mix", ["cutmix", "mixup", "cutout"])
def test_mixing(mix: Mix) -> None:
    copies, labels = Copies(), torch.empty(6, dtype=torch.int64, device=META)
    with copies:
        mixed, shares = mix_batch(mix, images(), 0, 0, 0, 1.0)
        assert shares is None or mix_classes(labels, 4, shares).shape == (6, 4)
    assert mixed.shape == (6, 3, 32, 32)
    assert len(copies.asynchronous) == {"cutmix": 2, "mixup": 2, "cutout": 0}[mix]
    assert all(copies.asynchronous)


def test_forward_and_backward_pass_and_the_ledger() -> None:
    model, ledger = build_model("convnet_w8", 3, 32, 0).to(META), StepLedger(META)
    labels = torch.empty(6, dtype=torch.int64, device=META)
    loss = nn.functional.cross_entropy(model(images()), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    ledger.add(loss.detach(), norm, 6)
    with pytest.raises((RuntimeError, NotImplementedError)):
        ledger.read()  # the one wait of an epoch: this test would find another
