"""What a recovery may start from instead of noise: real images and mosaics of real patches. No torch is imported here.

Every function chooses now and makes the pixels later, each time anew, so that a start of ImageNet's size takes no
memory. Rows are class-major: class 0's `ipc` images come first.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdc.beton import fit_image
from fastdc.methods.base import Fit, MethodContext
from fastdc.methods.patches import (
    CropLaw,
    Patches,
    best_crop_patches,
    best_of_classes,
    image_losses,
    lowest_crops,
    outward,
    random_pools,
    teaching_of,
    tiles_per_side,
)
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


def medium_images(
    context: MethodContext, teacher: "Teacher", ipc: int, *, fit: Fit = "crop", batch_size: int = 256
) -> Start:
    """Whole images of medium difficulty; DELT's start (Shen et al., CVPR 2025).

    The images of a class are ranked by the teacher's probability of their class, and taken from the median outwards,
    the harder neighbour first (the paper does not say which). One pass over the training set.

    Args:
        ipc: images per class; every class has at least as many.
        batch_size: images in a forward pass.

    Raises:
        MethodError: an output of the teacher is not finite, or memory does not suffice.
    """
    losses = image_losses(context, [teacher], batch_size, "rank images by confidence")
    chosen = []
    for label in range(len(context.classes)):
        members = np.flatnonzero(context.labels == label)
        ranking = members[np.argsort(losses[members], kind="stable")]
        chosen.append(ranking[outward(members.size)[:ipc]])
    indices = np.concatenate(chosen).astype(np.int64)
    return Start(indices[:, None], lambda: _whole(context, indices, fit))


def easy_mosaics(
    context: MethodContext,
    ipc: int,
    seed: int,
    *,
    teachers: "Sequence[Teacher] | None" = None,
    pool: int = 300,
    crops: int = 4,
    factor: int | None = None,
    batch_size: int = 256,
) -> Start:
    """Mosaics of the easiest crops of the easiest images; EDC's start (Shao et al., NeurIPS 2024).

    Easy is a low cross-entropy of the teachers' mean logits: first of the whole image (the code squashes it to a
    square; here it is resized and cropped as in validation), then of RandomResizedCrops with mirroring. The code draws
    one crop for 64 images together and drops the last 300 % 64 images; here every image has crops of its own.

    Args:
        ipc: mosaics per class.
        seed: subset seed.
        teachers: None for all of the context's.
        pool: images per class that are cropped, the easiest.
        crops: crops per image.
        factor: tiles per side; None for the papers': 2 from 128 px on, else 1.
        batch_size: images or crops in a forward pass.

    Raises:
        MethodError: a class has too few images, an output is not finite, or memory does not suffice.
    """
    chosen = _teachers(context, teachers, "easy mosaics")
    losses = image_losses(context, chosen, batch_size, "find easy images")
    law = CropLaw(seed, crops, ratio=(3 / 4, 4 / 3), flip=True)
    return _start(
        context,
        lowest_crops(
            context,
            best_of_classes(context, losses, pool),
            law,
            chosen,
            ipc=ipc,
            factor=tiles_per_side(factor, context.image_size),
            batch_size=batch_size,
            label="find easy crops",
        ),
    )


def medium_mosaics(
    context: MethodContext,
    ipc: int,
    seed: int,
    *,
    teachers: "Sequence[Teacher] | None" = None,
    pool: int = 300,
    crops: int = 5,
    factor: int | None = None,
    batch_size: int = 256,
) -> Start:
    """RDED's mosaics, of patches of medium difficulty; FADRM's start (Cui et al., NeurIPS 2025).

    As `rded` makes them, but the ranking of the best crops is taken from its median outwards. The authors offer their
    patches as a download, without the code that made them: this reading is inferred.

    Args:
        ipc, seed, teachers, crops, factor, batch_size: as of `easy_mosaics`.
        pool: images per class that are cropped, at random; more where ipc * factor**2 are needed.

    Raises:
        MethodError: a class has too few images, an output is not finite, or memory does not suffice.
    """
    tiles = tiles_per_side(factor, context.image_size)
    patches, _ = best_crop_patches(
        context,
        random_pools(context, max(pool, ipc * tiles**2), derive_seed(seed, "patch pool")),
        CropLaw(seed, crops),
        _teachers(context, teachers, "medium mosaics"),
        ipc=ipc,
        factor=tiles,
        batch_size=batch_size,
        label="find medium patches",
        medium=True,
    )
    return _start(context, patches)


def _teachers(context: MethodContext, given: "Sequence[Teacher] | None", name: str) -> "Sequence[Teacher]":
    return teaching_of(context, name).teachers if given is None else given


def _start(context: MethodContext, patches: Patches) -> Start:
    return Start(patches.samples, partial(patches.mosaics, context))


def _whole(context: MethodContext, chosen: NDArray[np.int64], fit: Fit) -> Iterator[Pixels]:
    return (fit_image(context.image(int(index)), context.image_size, fit) for index in chosen)
