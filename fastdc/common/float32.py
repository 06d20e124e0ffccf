"""Set torch's switches for float32 products: CUDA's (matmul, cuDNN) and the CPU's (oneDNN).

No other module may set them. torch 2.9 added `fp32_precision` beside its `allow_tf32` switches, and reading one kind
raises if they disagree. Its own code still reads the older kind (torch.compile, torch.export). Both kinds are
therefore always written together, with the same meaning. The switches belong to the process, not to a thread.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, NamedTuple

Products = Literal["ieee", "tf32"]


class Switch(NamedTuple):
    """Accessors of one torch switch, and its value for each kind of product."""

    read: Callable[[], Any]
    write: Callable[[Any], None]
    ieee: Any
    tf32: Any


def switches() -> tuple[Switch, ...]:
    """Return every switch of the installed torch that affects float32 products, in the order of writing."""
    from torch import backends

    return _since_2_9() if hasattr(backends.cuda.matmul, "fp32_precision") else _before_2_9()


def _since_2_9() -> tuple[Switch, ...]:
    import torch

    backends: Any = torch.backends
    matmul, cudnn, cpu = backends.cuda.matmul, backends.cudnn, backends.mkldnn
    return (
        _both(matmul, matmul, "ieee", "tf32"),
        _attribute(cudnn, "fp32_precision", "none", "none"),  # convolutions and RNNs, below it, have their own
        _both(cudnn, cudnn.conv, "ieee", "tf32"),  # the older switch resets that of RNNs, so rnn must come last
        _attribute(cudnn.rnn, "fp32_precision", "ieee", "tf32"),
        *(_attribute(owner, "fp32_precision", "ieee", "ieee") for owner in (cpu.matmul, cpu.conv, cpu.rnn)),
    )


def _both(older: Any, newer: Any, ieee: str, tf32: str) -> Switch:
    """Return a switch that writes both kinds and reads the newer one, which never raises."""

    def write(value: str) -> None:
        older.allow_tf32 = value == "tf32"
        newer.fp32_precision = value

    return Switch(partial(getattr, newer, "fp32_precision"), write, ieee, tf32)


def _before_2_9() -> tuple[Switch, ...]:
    import torch

    matmul = Switch(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest", "high")
    return matmul, _attribute(torch.backends.cudnn, "allow_tf32", False, True)


def _attribute(owner: Any, name: str, ieee: Any, tf32: Any) -> Switch:
    return Switch(partial(getattr, owner, name), partial(setattr, owner, name), ieee, tf32)


def set_float32(products: Products) -> None:
    """Set how this process multiplies float32: by IEEE rules, or with TF32's 10-bit fractions on CUDA.

    On the CPU both mean IEEE. torch's faster CPU modes are never used.
    """
    for switch in switches():
        switch.write(getattr(switch, products))


@contextmanager
def exact_float32() -> Iterator[None]:
    """Multiply float32 by IEEE rules within the block, then restore the switches."""
    found = [(switch, switch.read()) for switch in switches()]
    set_float32("ieee")
    try:
        yield
    finally:
        for switch, value in found:
            switch.write(value)
