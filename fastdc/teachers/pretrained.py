"""Build teachers from weights files and from packages that provide pretrained networks."""

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from fastdc.common.errors import ConfigError, MethodError
from fastdc.common.normalisation import IMAGENET_MEAN, IMAGENET_STD
from fastdc.nn.arch_names import check_arch
from fastdc.nn.architectures.timm_models import PREFIX as TIMM_PREFIX
from fastdc.nn.device import Compute
from fastdc.nn.weights import build_from, read_weights, side_of
from fastdc.nn.weights_facts import (
    IMAGENET_CLASSES,
    SEEN_IMAGENET,
    Facts,
    Kind,
    find_columns,
    imagenet_wnids,
    lacks_wnids,
)
from fastdc.teachers.class_orders import OrderName
from fastdc.teachers.network import Teacher, freeze

LITE0_MEAN, LITE0_STD = (127 / 255,) * 3, (128 / 255,) * 3
"""Normalisation of EfficientNet-Lite's input, which is (level - 127) / 128 for levels 0..255."""
PRETRAINED_SIDE = 224
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


class Planned(Protocol):
    """The part of `fastdc.teachers.plan.TeacherPlan` that building a teacher reads."""

    @property
    def spec(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def arch(self) -> str: ...
    @property
    def identity(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def file(self) -> Path | None: ...
    @property
    def facts(self) -> Facts | None: ...
    @property
    def columns(self) -> tuple[int, ...] | None: ...
    @property
    def order(self) -> OrderName | None: ...
    @property
    def image_size(self) -> int | None: ...
    @property
    def note(self) -> str: ...


class Adapted(nn.Module):
    """Network adapted to fastdc's input normalisation and to the data set's classes.

    Args:
        mean, std: normalisation that the network expects; its input arrives normalised with ImageNet's.
        columns: output of each class of the data set; None for all outputs in their order.
    """

    shift: torch.Tensor
    scale: torch.Tensor
    columns: torch.Tensor | None

    def __init__(
        self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], columns: tuple[int, ...] | None
    ) -> None:
        super().__init__()
        self.network = network
        self.renormalised = (mean, std) != (IMAGENET_MEAN, IMAGENET_STD)
        # The change of normalisation is one scale and shift per channel, computed in float64 and rounded once.
        own_mean, own_std = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
        given_mean, given_std = (torch.tensor(each, dtype=torch.float64) for each in (IMAGENET_MEAN, IMAGENET_STD))
        self.register_buffer("scale", (given_std / own_std).float().view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", ((given_mean - own_mean) / own_std).float().view(1, 3, 1, 1), persistent=False)
        self.register_buffer("columns", None if columns is None else torch.tensor(columns), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [B, C] for images [B, 3, S, S] normalised with ImageNet's mean and std."""
        logits: torch.Tensor = self.network(images * self.scale + self.shift if self.renormalised else images)
        return logits if self.columns is None else logits[:, self.columns]


def build_teacher(
    kind: Kind,
    plan: Planned,
    compute: Compute,
    *,
    file: Path | None = None,
    facts: Facts | None = None,
    seconds: float = 0.0,
    image_size: int = PRETRAINED_SIDE,
) -> Teacher:
    """Build the teacher of a plan on the device.

    Args:
        kind: source of the weights; for an observer this is "file".
        file, facts: weights file and its metadata; None takes the plan's.
        seconds: wall time of its training.
        image_size: side in pixels of the images it will see; used where the plan has no side.

    Raises:
        MethodError: see `fastdc.teachers.load.load_teacher`.
    """
    columns, side = plan.columns, plan.image_size or image_size
    if kind == "file":
        file, facts = file or plan.file, facts or plan.facts
        assert file is not None
        network, columns, side = _from_file(file, facts, plan, side)
        mean, std = (facts.mean, facts.std) if facts is not None else (IMAGENET_MEAN, IMAGENET_STD)
    elif kind == "lite0":
        assert plan.file is not None
        network, mean, std = _lite0(plan.file), LITE0_MEAN, LITE0_STD
    else:
        found = describe_pretrained(plan.spec)
        network, mean, std = _download(plan.spec), found.mean, found.std
    model = freeze(Adapted(network, mean, std, columns), compute.device)
    note = _note(plan, kind, columns)
    return Teacher(plan.name, plan.identity, plan.arch, model, side, seconds, note)


def _note(plan: Planned, kind: Kind, columns: tuple[int, ...] | None) -> str:
    picked = kind == "file" and plan.facts is None and plan.order is None and columns is not None
    return SEEN_IMAGENET if picked else plan.note


def _from_file(
    file: Path, facts: Facts | None, plan: Planned, guess: int
) -> tuple[nn.Module, tuple[int, ...] | None, int]:
    """Return network, columns and side.

    For a file that does not name its classes, the number of outputs decides. 1000 outputs are ImageNet's, unless an
    order was given or the data set has 1000 classes without WordNet ids. Any other number must equal that of the data
    set's classes, and the plan's columns apply.
    """
    state = read_weights(file)
    side = facts.image_size if facts is not None else side_of(state, plan.arch, guess)
    network, outputs = build_from(file, state, plan.arch, side)
    if outputs == len(plan.classes if facts is None else facts.classes):
        by_name = facts is None and outputs == IMAGENET_CLASSES and plan.order is None and not lacks_wnids(plan.classes)
        return network, _imagenet_columns(file, plan) if by_name else plan.columns, side
    if facts is None and outputs == IMAGENET_CLASSES and plan.order is None:
        return network, _imagenet_columns(file, plan), side
    ordered = "" if plan.order is None else f" leave --teacher-order {plan.order} out, or"
    raise MethodError(
        f"teacher {file}: has {outputs} outputs, the data set has {len(plan.classes)} classes;{ordered} take a teacher "
        "that was trained on this data set's classes"
    )


def _imagenet_columns(file: Path, plan: Planned) -> tuple[int, ...] | None:
    return find_columns(f"teacher {file}", imagenet_wnids(), plan.classes)


def _lite0(file: Path) -> nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

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
        raise ConfigError(f"teacher {spec}: torchvision has no pretrained weights of it; take resnet18, ...") from error
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
        kind = "no pretrained weights" if found is None else f"weights for {found.num_classes} classes"
        raise ConfigError(f"teacher {spec}: timm has {kind} of it, expected ImageNet's {IMAGENET_CLASSES}; name others")
    weights = f"{found.hf_hub_id or found.url} {found.tag or tag}"
    shown = f"{base}.{found.tag or tag}".removesuffix(".")
    return Pretrained(shown, base, weights, found.input_size[-1], tuple(found.mean), tuple(found.std))


def _download(spec: str) -> nn.Module:
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
        reason = " ".join(str(error).split())[:200]
        raise MethodError(
            f"teacher {spec}: its weights cannot be had ({type(error).__name__}: {reason}); download them on another "
            "machine and name the file, as ARCH@FILE"
        ) from error
