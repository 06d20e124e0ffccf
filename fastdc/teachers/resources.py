"""Resources of a method that runs networks. Imports no torch, so that methods can be listed without it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastdc.nn.device import Compute
    from fastdc.teachers.network import Teacher


@dataclass(frozen=True)
class Teaching:
    """Teachers, device, training set and scratch space of a method that runs networks.

    Attributes:
        teachers: the networks that `Method.teachers` names, in that order; frozen, in eval mode, on the device.
        compute: device and precision.
        train: the training set's beton, for methods that run a teacher over it.
        scratch: folder for this subset only. Its files survive a kill, and are deleted once the subset is stored.
    """

    teachers: "tuple[Teacher, ...]"
    compute: "Compute"
    train: Path
    scratch: Path
