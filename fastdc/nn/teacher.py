"""A teacher: a trained network that stays as it is, and says what an image shows or how images of a class behave."""

from dataclasses import dataclass

import torch
from torch import nn

from fastdc.errors import MethodError
from fastdc.nn.names import no_batch_norm


@dataclass(frozen=True)
class Teacher:
    """A frozen network in the data set's terms.

    Attributes:
        name: as tables show it: "observer (convnet_w32, 10 epochs)", "efficientnet_lite0".
        identity: content key of all that its outputs depend on: weights, columns, normalisation.
        arch: network by name.
        model: in eval mode, without gradients of its own, channels_last, on the device it computes on. Takes float32
            [B, 3, S, S] normalised with ImageNet's mean and std (`Compute.images`), gives logits [B, C] in the order of
            the data set's classes.
        image_size: side of the images that it was trained on, in pixels; it takes other sides where its network does.
        seconds: wall time of its training; 0 for a network that came trained.
        note: what a reader of its results must know, for example that it has seen the validation images.
    """

    name: str
    identity: str
    arch: str
    model: nn.Module
    image_size: int
    seconds: float
    note: str = ""


def device_of(model: nn.Module) -> torch.device:
    """Where the network's weights lie; the CPU for one without any."""
    return next((tensor.device for tensor in model.parameters()), torch.device("cpu"))


def freeze(model: nn.Module, device: torch.device) -> nn.Module:
    """The network as a teacher holds it: in eval mode, without gradients of its own, channels_last, on `device`."""
    frozen = model.eval().requires_grad_(False).to(device)
    return frozen.to(memory_format=torch.channels_last)


def require_batch_norm(teacher: Teacher) -> None:
    """Refuse a network without BatchNorm, for methods that match its running statistics.

    Raises:
        MethodError: it has no BatchNorm2d layer with running statistics.
    """
    layers = [layer for layer in teacher.model.modules() if isinstance(layer, nn.BatchNorm2d)]
    if not any(layer.running_mean is not None for layer in layers):
        raise MethodError(no_batch_norm(teacher.name, teacher.arch))
