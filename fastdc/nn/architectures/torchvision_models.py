"""Classifiers of torchvision, by their names there."""

import re
from functools import partial
from typing import TYPE_CHECKING

from fastdc.nn.architecture import Architecture, any_side, one_side

if TYPE_CHECKING:
    from torch import nn

COMMON_ARCHS = {
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "mobilenet_v2", "mobilenet_v3_small"),
    *("mobilenet_v3_large", "efficientnet_b0", "swin_t", "vit_b_16", "vgg11", "vgg16", "alexnet", "densenet121"),
    *("shufflenet_v2_x1_0", "convnext_tiny"),
}
"""Names that every torchvision release has; accepted without importing it, which takes three seconds."""
# Matched in full, so that vgg16_bn is not among them.
WITHOUT_BATCH_NORM = re.compile(r"alexnet|vgg\d+|vit_.*|swin_.*|convnext_.*|squeezenet.*")
AUXILIARY_ARCHS = ("googlenet", "inception_v3")  # with their auxiliary heads, training would return tuples
SIDES = {"alexnet": (64, 96), "vit_b_16": (224,)}


def build(num_classes: int, image_size: int, name: str) -> "nn.Module":
    """Build the classifier `name`; its shape does not depend on the side of the images."""
    from torchvision import models

    extra = {"aux_logits": False, "init_weights": True} if name in AUXILIARY_ARCHS else {}
    return models.get_model(name, weights=None, num_classes=num_classes, **extra)  # type: ignore[no-any-return]


def describe(name: str) -> Architecture:
    """Return the classifier `name`, known by its name alone; that torchvision has it is not checked."""
    return Architecture(
        name,
        partial(build, name=name),
        title="torchvision's classifier of this name",
        batch_norm=WITHOUT_BATCH_NORM.fullmatch(name) is None,
        sides=SIDES.get(name, (32, 64)),
        # The position table of torchvision's vision transformers fits a single number of patches.
        takes_side=one_side if name.startswith("vit_") else any_side,
    )


ARCHITECTURES = tuple(map(describe, sorted(COMMON_ARCHS)))
