"""What a method that runs networks computes with. Imports no torch, so that methods can be listed without it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastdc.nn.device import Compute
    from fastdc.nn.teacher import Teacher


@dataclass(frozen=True)
class Teaching:
    """What a method that runs networks computes with.

    Attributes:
        teachers: the networks that `Method.teachers` names, in that order; frozen, in eval mode, on the device.
        compute: device and precision.
        train: the training set's beton, for methods that run a teacher over it.
        scratch: a folder of this subset alone. What lies there survives a kill, and goes when the subset is stored.
        show_progress: whether to report progress on stderr.
    """

    teachers: "tuple[Teacher, ...]"
    compute: "Compute"
    train: Path
    scratch: Path
    show_progress: bool = False
