"""Builds teachers: from files of weights, and from packages that bring a trained network."""

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from fastdc.errors import ConfigError, MethodError
from fastdc.nn.device import Compute
from fastdc.nn.facts import (
    IMAGENET_CLASSES,
    SEEN_IMAGENET,
    Facts,
    Kind,
    find_columns,
    imagenet_wnids,
    lacks_wnids,
)
from fastdc.nn.names import TIMM_PREFIX, check_arch
from fastdc.nn.options import IMAGENET_MEAN, IMAGENET_STD
from fastdc.nn.orders import OrderName
from fastdc.nn.teacher import Teacher, freeze
from fastdc.nn.weights import build_from, read_weights, side_of

LITE0_MEAN, LITE0_STD = (127 / 255,) * 3, (128 / 255,) * 3
"""EfficientNet-Lite's input is (level - 127) / 128 with levels 0..255."""
PRETRAINED_SIDE = 224
FIRST_WEIGHTS = "IMAGENET1K_V1"
"""What `torchvision:NAME` means: the weights that torchvision published first, which the benchmark and the papers use.
Its DEFAULT are later ones for many networks."""


class Pretrained(NamedTuple):
    """What a package says of a pretrained network.

    Attributes:
        name: as tables show it, with the name of its weights.
        weights: which weights, by an address or name that changes when they do.
        mean, std: what its input is normalised with, on a scale from 0 to 1.
    """

    name: str
    arch: str
    weights: str
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Planned(Protocol):
    """What is asked of a plan (`fastdc.observe.teacher.TeacherPlan`, which also knows of observers)."""

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
    """A network behind the input and the classes that fastdc gives every teacher.

    Args:
        mean, std: normalisation that the network expects, in place of ImageNet's.
        columns: outputs that are the data set's classes; None for all.
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
        own_mean, own_std = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
        given_mean, given_std = (torch.tensor(each, dtype=torch.float64) for each in (IMAGENET_MEAN, IMAGENET_STD))
        self.register_buffer("scale", (given_std / own_std).float().view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", ((given_mean - own_mean) / own_std).float().view(1, 3, 1, 1), persistent=False)
        self.register_buffer("columns", None if columns is None else torch.tensor(columns), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [B, C] of images [B, 3, S, S] that are normalised with ImageNet's mean and std."""
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
    """The teacher of a plan, on the device.

    Args:
        kind: where its weights come from; an observer's come from a file.
        file, facts: that file and what it says of itself; None takes the plan's.
        seconds: wall time of its training.
        image_size: side of the images that it will get, in pixels.

    Raises:
        MethodError: see `fastdc.observe.teacher_load.load_teacher`.
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
    """Network, columns and side; of a file that names no classes the number of outputs decides."""
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
    """What torchvision or timm says of one of its pretrained networks.

    Raises:
        ConfigError: there is none, it was not trained on ImageNet-1K, or timm is not installed.
    """
    if spec.startswith(TIMM_PREFIX):
        return _describe_timm(spec)

    name, weights = _torchvision_weights(spec)
    view = weights.transforms()
    shown = f"torchvision:{name}@{weights.name}"
    return Pretrained(shown, name, weights.url, view.crop_size[0], tuple(view.mean), tuple(view.std))


def _torchvision_weights(spec: str) -> tuple[str, Any]:
    """Return the network and weights that `torchvision:NAME[@WEIGHTS]` means; V1 is short for IMAGENET1K_V1.

    Raises:
        ConfigError: torchvision has no such network or weights; lists those it has.
    """
    from torchvision import models

    name, at, wanted = spec.partition(":")[2].partition("@")
    check_arch(name)
    try:
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
    """The pretrained network; its package keeps the weights in its own cache."""
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
    except Exception as error:  # whatever the network, a proxy or a cache may raise
        reason = " ".join(str(error).split())[:200]
        raise MethodError(
            f"teacher {spec}: its weights cannot be had ({type(error).__name__}: {reason}); download them on another "
            "machine and name the file, as ARCH@FILE"
        ) from error
