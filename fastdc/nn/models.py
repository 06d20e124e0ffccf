"""Networks with fresh weights, by the names of `fastdc.nn.arch_names`."""

import torch
from torch import nn

from fastdc.common.errors import ConfigError, is_out_of_memory
from fastdc.common.keys import derive_seed
from fastdc.common.text import one_line
from fastdc.nn.arch_names import check_arch, find_arch, is_own_arch


def build_model(arch: str, num_classes: int, image_size: int, seed: int) -> nn.Module:
    """Build a network with fresh weights, channels_last, on the CPU; the same seed gives the same weights.

    Args:
        arch: a torchvision classifier ("resnet18", "mobilenet_v2", ...), "timm:NAME", or one of a file of
            `fastdc.nn.architectures` or of a plug-in.
        image_size: side of the input in pixels, on which the shape of some networks depends.

    Raises:
        ConfigError: the architecture is unknown, or takes no images of this side.
    """
    check_arch(arch)
    generator_state = torch.get_rng_state()  # building a network must not advance the caller's random numbers
    torch.manual_seed(derive_seed(seed, "initial weights"))
    try:
        model = find_arch(arch).build(num_classes, image_size).to(memory_format=torch.channels_last)
        if not is_own_arch(arch):  # a plug-in's network may run on a GPU alone
            _check_side(model, arch, image_size)
        return model
    finally:
        torch.set_rng_state(generator_state)


@torch.no_grad()
def _check_side(model: nn.Module, arch: str, side: int) -> None:
    """Run a library's network on one black image, because its errors about the side of images are its own.

    Raises:
        ConfigError: it takes no images of this side.
    """
    if next(model.parameters()).is_meta:  # built for its names and shapes only
        return
    try:
        model.eval()(torch.zeros(1, 3, side, side))
    except (AssertionError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise ConfigError(
            f"{arch}: takes no images of {side} px ({one_line(error)}); choose another image size or network"
        ) from error
    model.train()


def count_parameters(arch: str, num_classes: int, image_size: int) -> int:
    """Count a network's parameters without allocating it.

    Raises:
        ConfigError: see `build_model`.
    """
    check_arch(arch)
    with torch.device("meta"):
        return sum(each.numel() for each in find_arch(arch).build(num_classes, image_size).parameters())


def decay_weights_only(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return parameter groups that decay only parameters with "weight" in their name and two or more dimensions.

    This is the benchmark's rule (arXiv 2502.06434). Swin's position tables and ViT's class token do not decay.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    decayed = [p for name, p in named if "weight" in name and p.ndim >= 2]
    plain = [p for name, p in named if not ("weight" in name and p.ndim >= 2)]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def make_sgd(
    model: nn.Module, lr: float, momentum: float, weight_decay: float, precision: str
) -> torch.optim.Optimizer:
    """Return SGD over every parameter; fused on a GPU, where faults then stay on the device, unless precision is fp16.

    On the CPU the fused form would change digits. In fp16 the scaler often skips the first step, after which torch's
    fused SGD goes on with a momentum that was never written.
    """
    fused = next(model.parameters()).is_cuda and precision != "fp16"
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay, fused=fused or None)
