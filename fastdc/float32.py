"""The one place where torch's switches for float32 products are set: CUDA's (matmul, cuDNN) and the CPU's (oneDNN).

torch 2.9 replaced its `allow_tf32` switches by `fp32_precision`, and reading one kind after setting the other raises.
So only the kind that the installed torch prefers is used. The switches belong to the process, not to a thread.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, NamedTuple

Products = Literal["ieee", "tf32"]


class Switch(NamedTuple):
    """One of torch's switches: how it is read and set, and its value for each kind of product."""

    read: Callable[[], Any]
    write: Callable[[Any], None]
    ieee: Any
    tf32: Any


def switches() -> tuple[Switch, ...]:
    """Return every switch that decides how float32 is multiplied, of the API that the installed torch prefers."""
    from torch import backends

    return _since_2_9() if hasattr(backends.cuda.matmul, "fp32_precision") else _before_2_9()


def _since_2_9() -> tuple[Switch, ...]:
    import torch

    backends: Any = torch.backends
    gpu = (backends.cuda.matmul, backends.cudnn, backends.cudnn.conv, backends.cudnn.rnn)
    cpu = (backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn)
    found = [_attribute(owner, "fp32_precision", "ieee", "tf32") for owner in gpu]
    return (*found, *(_attribute(owner, "fp32_precision", "ieee", "ieee") for owner in cpu))


def _before_2_9() -> tuple[Switch, ...]:
    import torch

    matmul = Switch(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest", "high")
    return matmul, _attribute(torch.backends.cudnn, "allow_tf32", False, True)


def _attribute(owner: Any, name: str, ieee: Any, tf32: Any) -> Switch:
    return Switch(partial(getattr, owner, name), partial(setattr, owner, name), ieee, tf32)


def set_float32(products: Products) -> None:
    """Set how float32 is multiplied in this process: as IEEE says, or with TF32's 10-bit fractions on CUDA.

    On the CPU both mean IEEE. torch's faster CPU modes are never used.
    """
    for switch in switches():
        switch.write(getattr(switch, products))


@contextmanager
def exact_float32() -> Iterator[None]:
    """Multiply float32 as IEEE says within the block, and leave the switches as they were."""
    found = [(switch, switch.read()) for switch in switches()]
    set_float32("ieee")
    try:
        yield
    finally:
        for switch, value in found:
            switch.write(value)
