"""Teachers: frozen trained networks that label or score images, or whose statistics guide a method."""

from dataclasses import dataclass

import torch
from torch import nn

from fastdc.common.errors import MethodError
from fastdc.nn.arch_names import no_batch_norm


@dataclass(frozen=True)
class Teacher:
    """Frozen network whose outputs are the data set's classes.

    Attributes:
        name: name for tables, such as "observer (convnet_w32, 10 epochs)" or "efficientnet_lite0".
        identity: content key of everything its outputs depend on: weights, columns, normalisation.
        arch: architecture name.
        model: the network in eval mode, without parameter gradients, channels_last, on its device. It maps float32
            [B, 3, S, S], normalised with ImageNet's mean and std (`Compute.images`), to logits [B, C] in the data
            set's class order.
        image_size: side of its training images in pixels; other sides work where the architecture allows them.
        seconds: wall time of its training; 0 for a pretrained network.
        note: caveat to show beside its results, for example that it has seen the validation images.
    """

    name: str
    identity: str
    arch: str
    model: nn.Module
    image_size: int
    seconds: float
    note: str = ""


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a network's weights, or the CPU if it has none."""
    return next((tensor.device for tensor in model.parameters()), torch.device("cpu"))


def freeze(model: nn.Module, device: torch.device) -> nn.Module:
    """Put a network into a teacher's state: eval mode, no parameter gradients, channels_last, on `device`."""
    frozen = model.eval().requires_grad_(False).to(device)
    return frozen.to(memory_format=torch.channels_last)


def require_batch_norm(teacher: Teacher) -> None:
    """Check that a teacher has BatchNorm, for methods that match its running statistics.

    Raises:
        MethodError: it has no BatchNorm2d layer with running statistics.
    """
    layers = [layer for layer in teacher.model.modules() if isinstance(layer, nn.BatchNorm2d)]
    if not any(layer.running_mean is not None for layer in layers):
        raise MethodError(no_batch_norm(teacher.name, teacher.arch))
