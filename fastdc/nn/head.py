"""The last layer of a network, which computes its logits in float32 also under autocast."""

from functools import lru_cache
from typing import Any
from weakref import WeakSet

import torch
from torch import nn

LAYERS = (nn.Linear, nn.Conv2d)
_widened: "WeakSet[nn.Module]" = WeakSet()


class _Float32(nn.Module):
    """Turn autocast off for one layer. Its weights are float32 already, its input is made so."""

    def forward(self, values: torch.Tensor) -> Any:
        with torch.autocast(values.device.type, enabled=False):
            return super().forward(values.float())


@lru_cache
def _float32_kind(kind: Any) -> Any:
    return type(f"Float32{kind.__name__}", (_Float32, kind), {})


def head_layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers that give a network's logits: the last linear layer or convolution, or a row of equal ones.

    Distilled transformers end in two such layers, whose outputs are averaged.
    """
    layers = [module for module in model.modules() if isinstance(module, LAYERS)]
    found: list[nn.Module] = []
    for layer in reversed(layers):
        if found and _shape(layer) != _shape(found[0]):
            break
        found.append(layer)
    return found


def _shape(layer: nn.Module) -> tuple[bool, int]:
    """Kind and number of outputs; a head may have inputs of another width than its neighbour."""
    weight: Any = layer.weight
    return isinstance(layer, nn.Linear), weight.shape[0]


def widen_head(model: nn.Module) -> None:
    """Make the last layer compute in float32 from now on, whatever autocast says; its weights and name stay.

    Only the layer's class changes, to a subclass of it. So copies of the network, its hooks and its state dict go on
    as before.
    """
    if model in _widened:
        return
    for layer in head_layers(model):
        if not isinstance(layer, _Float32):
            kind: Any = type(layer)
            layer.__class__ = _float32_kind(kind)
    _widened.add(model)
