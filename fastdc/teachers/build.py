"""Build the network of a planned teacher: from a weights file, or from a package that provides it."""

import torch
from torch import nn

from fastdc.common.errors import MethodError
from fastdc.common.normalisation import IMAGENET_MEAN, IMAGENET_STD
from fastdc.nn.device import Compute
from fastdc.nn.weights import build_from, read_weights, side_of
from fastdc.nn.weights_facts import IMAGENET_CLASSES, SEEN_IMAGENET, lacks_wnids
from fastdc.teachers.network import Teacher, freeze
from fastdc.teachers.plan import TeacherPlan
from fastdc.teachers.pretrained import (
    LITE0_MEAN,
    LITE0_STD,
    describe_pretrained,
    download_pretrained,
    imagenet_columns,
    lite0_network,
)


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


def build_teacher(plan: TeacherPlan, compute: Compute, image_size: int, seconds: float = 0.0) -> Teacher:
    """Build the teacher of a plan on the device.

    Args:
        plan: the teacher; the plan of an observer names the file of its weights, as one of kind "file" does.
        image_size: side in pixels of the images it will see; used where the plan has no side.
        seconds: wall time of its training.

    Raises:
        MethodError: see `fastdc.teachers.load.load_teacher`.
    """
    columns, side = plan.columns, plan.image_size or image_size
    if plan.kind == "file":
        network, columns, side = _from_file(plan, side)
        mean, std = (plan.facts.mean, plan.facts.std) if plan.facts is not None else (IMAGENET_MEAN, IMAGENET_STD)
    elif plan.kind == "lite0":
        assert plan.file is not None
        network, mean, std = lite0_network(plan.file), LITE0_MEAN, LITE0_STD
    else:
        found = describe_pretrained(plan.spec)
        network, mean, std = download_pretrained(plan.spec), found.mean, found.std
    model = freeze(Adapted(network, mean, std, columns), compute.device)
    picked = plan.kind == "file" and plan.facts is None and plan.order is None and columns is not None
    note = SEEN_IMAGENET if picked else plan.note
    return Teacher(plan.name, plan.identity, plan.arch, model, side, seconds, note)


def _from_file(plan: TeacherPlan, guess: int) -> tuple[nn.Module, tuple[int, ...] | None, int]:
    """Return network, columns and side.

    For a file that does not name its classes, the number of outputs decides. 1000 outputs are ImageNet's, unless an
    order was given or the data set has 1000 classes without WordNet ids. Any other number must equal that of the data
    set's classes, and the plan's columns apply.
    """
    file, facts = plan.file, plan.facts
    assert file is not None
    state = read_weights(file)
    side = facts.image_size if facts is not None else side_of(state, plan.arch, guess)
    network, outputs = build_from(file, state, plan.arch, side)
    who, imagenet = f"teacher {file}", facts is None and outputs == IMAGENET_CLASSES and plan.order is None
    if outputs == len(plan.classes if facts is None else facts.classes):
        by_name = imagenet and not lacks_wnids(plan.classes)
        return network, imagenet_columns(who, plan.classes) if by_name else plan.columns, side
    if imagenet:
        return network, imagenet_columns(who, plan.classes), side
    ordered = "" if plan.order is None else f" leave --teacher-order {plan.order} out, or"
    raise MethodError(
        f"{who}: has {outputs} outputs, the data set has {len(plan.classes)} classes;{ordered} take a teacher "
        "that was trained on this data set's classes"
    )
