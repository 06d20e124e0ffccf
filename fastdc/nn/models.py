"""Networks by name: the classifiers of torchvision and timm, and three families for images of 28 to 112 px."""

import torch
from torch import nn
from torchvision import models

from fastdc.common.errors import ConfigError
from fastdc.common.keys import derive_seed
from fastdc.nn.arch_names import CONVNET_PATTERN, RESNET10_PATTERN, TIMM_PREFIX, check_arch, convnet_depth
from fastdc.nn.residual import RESNET10_WIDTH, resnet10, resnet18_small

CONVNET_WIDTH = 128
AUXILIARY_ARCHS = ("googlenet", "inception_v3")  # with their auxiliary heads, training would return tuples


def build_model(arch: str, num_classes: int, image_size: int, seed: int) -> nn.Module:
    """Build a network with fresh weights, channels_last, on the CPU; the same seed gives the same weights.

    Args:
        arch: a torchvision classifier ("resnet18", "mobilenet_v2", ...), "timm:NAME", or one for small images.
            "resnet10" has one basic block per stage and global average pooling, for 28 to 112 px. Its first stage has
            32 channels; that of "resnet10_w64" has 64. "resnet18_small" is ResNet-18 with a 3x3 stride-1 stem and no
            max-pooling, for 28 to 64 px. "convnet" stacks blocks of convolution, BatchNorm, ReLU and 2x2 max-pooling
            down to a map of 3 to 5 px. It has 128 channels, "convnet_w32" has 32; "convnet4" has 4 blocks.
        image_size: side of the input in pixels; only "convnet" depends on it.

    Raises:
        ConfigError: the architecture is unknown, or the image is too small for it.
    """
    check_arch(arch)
    generator_state = torch.get_rng_state()  # building a network must not advance the caller's random numbers
    torch.manual_seed(derive_seed(seed, "initial weights"))
    try:
        return _new_model(arch, num_classes, image_size).to(memory_format=torch.channels_last)
    finally:
        torch.set_rng_state(generator_state)


def _new_model(arch: str, num_classes: int, image_size: int) -> nn.Module:
    match = CONVNET_PATTERN.fullmatch(arch)
    if match is not None:
        depth = int(match["depth"]) if match["depth"] else None
        return convnet(num_classes, image_size, depth, int(match["width"] or CONVNET_WIDTH))
    match = RESNET10_PATTERN.fullmatch(arch)
    if match is not None:
        return resnet10(num_classes, int(match["width"] or RESNET10_WIDTH))
    if arch == "resnet18_small":
        return resnet18_small(num_classes)
    if arch.startswith(TIMM_PREFIX):
        import timm

        network: nn.Module = timm.create_model(arch.removeprefix(TIMM_PREFIX), num_classes=num_classes)
        return network
    extra = {"aux_logits": False, "init_weights": True} if arch in AUXILIARY_ARCHS else {}
    return models.get_model(arch, weights=None, num_classes=num_classes, **extra)  # type: ignore[no-any-return]


def convnet(num_classes: int, image_size: int, depth: int | None, width: int) -> nn.Sequential:
    """Build the small ConvNet of the distillation literature, with BatchNorm in place of InstanceNorm.

    Args:
        depth: number of blocks, each of which halves the map; None continues down to a map of 3 to 5 px.

    Raises:
        ConfigError: the image is too small for `depth` halvings.
    """
    if depth is None:
        depth = convnet_depth(image_size)
    side = image_size >> depth
    if side < 1:
        raise ConfigError(f"convnet{depth}: {image_size} px cannot be halved {depth} times; use fewer blocks")
    layers: list[nn.Module] = []
    channels = 3
    for _ in range(depth):
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        layers.append(nn.MaxPool2d(2))
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * side * side, num_classes))


def decay_weights_only(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return parameter groups that decay only parameters with "weight" in their name and two or more dimensions.

    This is the benchmark's rule (arXiv 2502.06434). Swin's position tables and ViT's class token do not decay.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    decayed = [p for name, p in named if "weight" in name and p.ndim >= 2]
    plain = [p for name, p in named if not ("weight" in name and p.ndim >= 2)]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
