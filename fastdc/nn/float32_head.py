"""The last layer of a network, switched to float32 so that logits keep full precision under autocast."""

from functools import lru_cache
from typing import Any
from weakref import WeakSet

import torch
from torch import nn

LAYERS = (nn.Linear, nn.Conv2d)
_widened: "WeakSet[nn.Module]" = WeakSet()  # networks already switched, so that a forward pass need not search again


class _Float32(nn.Module):
    """Mixin that turns autocast off for one layer: its weights are float32 already, and its input is converted."""

    def forward(self, values: torch.Tensor) -> Any:
        with torch.autocast(values.device.type, enabled=False):
            return super().forward(values.float())  # the layer's own: next in the order of `_float32_kind`'s bases


@lru_cache
def _float32_kind(kind: Any) -> Any:
    return type(f"Float32{kind.__name__}", (_Float32, kind), {})


def head_layers(model: nn.Module) -> list[nn.Module]:
    """Return the output layers of a network: its last linear layer or convolution, and equal ones directly before it.

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
    """Return type and number of outputs; two heads of one network may differ in the width of their inputs."""
    weight: Any = layer.weight
    return isinstance(layer, nn.Linear), weight.shape[0]


def widen_head(model: nn.Module) -> None:
    """Make a network's output layers compute in float32 from now on, even under autocast.

    Only each layer's class changes, to a subclass of its own. Weights, names, copies of the network, hooks and the
    state dict therefore stay valid.
    """
    if model in _widened:
        return
    for layer in head_layers(model):
        if not isinstance(layer, _Float32):
            kind: Any = type(layer)
            layer.__class__ = _float32_kind(kind)
    _widened.add(model)
