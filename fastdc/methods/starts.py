"""What a recovery may start from instead of noise: real images and mosaics of real patches. No torch is imported here.

Every function chooses now and makes the pixels later, each time anew, so that a start of ImageNet's size takes no
memory. Rows are class-major: class 0's `ipc` images come first.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdc.beton import fit_image
from fastdc.methods.base import Fit, MethodContext
from fastdc.methods.selection import random_balanced
from fastdc.seeding import derive_seed

if TYPE_CHECKING:
    from fastdc.nn.teacher import Teacher

Pixels = NDArray[np.uint8]


class Start(NamedTuple):
    """Images to start from.

    Attributes:
        sources: int64 [C * ipc, K], the training images that each of them is made of.
        images: makes them anew at each call, in order, as RGB uint8 [S, S, 3], S = `context.image_size`.
    """

    sources: NDArray[np.int64]
    images: Callable[[], Iterator[Pixels]]


def random_images(context: MethodContext, ipc: int, seed: int, *, fit: Fit = "crop") -> Start:
    """Whole images, uniformly at random without replacement; DWA's start (Du et al., NeurIPS 2024).

    Args:
        ipc: images per class; every class has at least as many.
        seed: subset seed.
        fit: how an image becomes S x S.
    """
    chosen = random_balanced(context.labels, len(context.classes), ipc, derive_seed(seed, "random start"))
    return Start(chosen[:, None], lambda: _whole(context, chosen, fit))


def medium_images(context: MethodContext, teacher: "Teacher", ipc: int, *, fit: Fit = "crop") -> Start:
    """Whole images nearest to the class's median in the teacher's confidence; DELT's start (Shen et al., CVPR 2025)."""
    raise NotImplementedError


def easy_mosaics(
    context: MethodContext,
    teachers: "Sequence[Teacher]",
    ipc: int,
    seed: int,
    *,
    pool: int = 300,
    crops: int = 4,
    factor: int = 2,
) -> Start:
    """Mosaics of the easiest crops of the easiest images; EDC's start (Shao et al., NeurIPS 2024)."""
    raise NotImplementedError


def medium_mosaics(
    context: MethodContext,
    teachers: "Sequence[Teacher]",
    ipc: int,
    seed: int,
    *,
    pool: int = 300,
    crops: int = 5,
    factor: int = 2,
) -> Start:
    """RDED's mosaics of patches of medium difficulty; FADRM's start (Cui et al., NeurIPS 2025)."""
    raise NotImplementedError


def _whole(context: MethodContext, chosen: NDArray[np.int64], fit: Fit) -> Iterator[Pixels]:
    return (fit_image(context.image(int(index)), context.image_size, fit) for index in chosen)
