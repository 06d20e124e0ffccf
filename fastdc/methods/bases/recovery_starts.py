"""Starts of a recovery other than noise: real images and mosaics of real patches. Imports no torch.

Every function chooses images at once but makes their pixels later, anew at each call. A start of ImageNet's size thus
takes no memory. Rows are class-major: class 0's `ipc` images come first.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdc.beton import fit_image
from fastdc.common.keys import derive_seed
from fastdc.methods.bases.method import MethodContext
from fastdc.methods.bases.method_config import Fit
from fastdc.methods.bases.mosaics import central_view
from fastdc.methods.bases.patches import (
    RDED_CROPS,
    RDED_POOL,
    CropLaw,
    Patches,
    best_crop_patches,
    best_of_classes,
    lowest_crops,
    outward,
    random_pools,
    tiles_per_side,
)
from fastdc.methods.bases.selection import members_of, random_balanced
from fastdc.methods.bases.teacher_losses import BATCH, image_losses, teaching_of

if TYPE_CHECKING:
    from fastdc.teachers.network import Teacher

Pixels = NDArray[np.uint8]
EASY_POOL, EASY_CROPS = 300, 4
"""Candidates in EDC's published scripts: easiest images per class, and crops of each."""


class Start(NamedTuple):
    """Images from which a recovery starts.

    Attributes:
        sources: int64 [C * ipc, K], the training images of which each start image is made.
        images: function that makes the start images anew at each call, in order, as RGB uint8 [S, S, 3] with
            S = `context.image_size`.
    """

    sources: NDArray[np.int64]
    images: Callable[[], Iterator[Pixels]]


def random_images(context: MethodContext, ipc: int, seed: int, *, fit: Fit = "crop") -> Start:
    """Draw whole images uniformly without replacement; DWA's start (Du et al., NeurIPS 2024).

    Args:
        ipc: images per class; every class has at least as many.
        seed: subset seed.
        fit: how an image becomes S x S.
    """
    chosen = random_balanced(context.labels, len(context.classes), ipc, derive_seed(seed, "random start"))
    return Start(chosen[:, None], lambda: _whole(context, chosen, fit))


def medium_images(context: MethodContext, teacher: "Teacher", ipc: int, *, fit: Fit = "crop") -> Start:
    """Choose whole images of medium difficulty; DELT's start (Shen et al., CVPR 2025).

    The n images of a class are ranked by the teacher's probability of their class, lowest first. They are taken from
    place ceil(n / 2) outwards, the easier neighbour first, as in `store_medium` of the authors' data_selection.py. This
    takes one pass over the training set.

    Args:
        ipc: images per class; every class has at least as many.
        fit: how an image becomes S x S; `crop` first resizes its shorter side to S // 7 * 8 pixels, as in the code.

    Raises:
        MethodError: an output of the teacher is not finite, or memory is insufficient.
    """
    side = context.image_size
    resize = max(side // 7 * 8, side)  # S // 7 * 8 is below S for small sides, such as 8 for 13
    losses = image_losses(context, [teacher], BATCH, "rank images by confidence", resize=resize)
    chosen = []
    for members in members_of(context.labels, len(context.classes)):
        # The loss is -ln of the class's probability, so the lowest probability comes first.
        ranking = members[np.argsort(-losses[members], kind="stable")]
        chosen.append(ranking[outward(members.size, -(-members.size // 2))[:ipc]])
    indices = np.concatenate(chosen).astype(np.int64)
    if fit != "crop":
        return Start(indices[:, None], lambda: _whole(context, indices, fit))
    return Start(indices[:, None], lambda: (central_view(context.image(int(index)), side, resize) for index in indices))


def easy_mosaics(
    context: MethodContext,
    ipc: int,
    seed: int,
    *,
    pool: int = EASY_POOL,
    crops: int = EASY_CROPS,
    factor: int | None = None,
    again: bool = False,
) -> Start:
    """Make mosaics of the easiest crops of the easiest images; EDC's start (Shao et al., NeurIPS 2024).

    Easy means a low cross-entropy of the teachers' mean logits, first of the whole image, then of RandomResizedCrops
    with mirroring. Two things differ from the authors' code. The code squashes the whole image to a square; here it is
    resized and cropped as in validation. The code draws one crop for 64 images together and drops the last 300 % 64
    images; here every image has its own crops.

    Args:
        ipc: mosaics per class.
        seed: subset seed.
        pool: number of easiest images per class that are cropped.
        crops: crops per image.
        factor: tiles per side; None takes the papers' value: 2 from 128 px on, else 1.
        again: whether the `ipc` starts of a class are drawn from its mosaics with replacement, as in EDC's recovery.

    Raises:
        MethodError: a class has too few images, an output is not finite, or memory is insufficient.
    """
    teachers = teaching_of(context, "easy mosaics").teachers
    losses = image_losses(context, teachers, BATCH, "find easy images")
    law = CropLaw(seed, crops, ratio=(3 / 4, 4 / 3), flip=True)
    patches = lowest_crops(
        context,
        best_of_classes(context, losses, pool),
        law,
        teachers,
        ipc=ipc,
        factor=tiles_per_side(factor, context.image_size),
        batch_size=BATCH,
        label="find easy crops",
    )
    return _start(context, _drawn(patches, ipc, seed) if again else patches)


def images_again(context: MethodContext, ipc: int, seed: int, *, fit: Fit = "squash") -> Start:
    """Draw whole images at random with replacement; EDC's start below 128 px (Shao et al., NeurIPS 2024).

    Args:
        ipc: images per class.
        seed: subset seed.
        fit: how an image becomes S x S; the authors' code squashes it.
    """
    root, chosen = derive_seed(seed, "random start"), []
    for label, members in enumerate(members_of(context.labels, len(context.classes))):
        generator = np.random.Generator(np.random.PCG64([root, label]))
        chosen.append(generator.choice(members, ipc))
    indices = np.concatenate(chosen).astype(np.int64)
    return Start(indices[:, None], lambda: _whole(context, indices, fit))


def mirrored(start: Start, seed: int, *, shuffled: int = 1) -> Start:
    """Mirror every image of a start with probability 1/2, and shuffle its tiles; EDC's augmentation of its starts.

    Columns and rows of tiles are shuffled, as EDC's `ShufflePatches` is meant to do. The released code draws the order
    but leaves every tile in its place.

    Args:
        seed: subset seed.
        shuffled: tiles per side; 1 shuffles nothing.
    """
    root = derive_seed(seed, "mirror starts")

    def images() -> Iterator[Pixels]:
        for number, image in enumerate(start.images()):
            generator = np.random.Generator(np.random.PCG64([root, number]))
            # Drawn before the shuffle, so that shuffling does not change which images are mirrored.
            flipped = image[:, ::-1] if generator.random() < 0.5 else image
            yield np.ascontiguousarray(_shuffled(flipped, shuffled, generator))

    return Start(start.sources, images)


def _shuffled(image: Pixels, tiles: int, generator: np.random.Generator) -> Pixels:
    for axis in (1, 0) if tiles > 1 else ():
        parts = np.array_split(image, tiles, axis)
        image = np.concatenate([parts[place] for place in generator.permutation(tiles)], axis)
    return image


def medium_mosaics(context: MethodContext, ipc: int, seed: int, *, factor: int | None = None) -> Start:
    """Make RDED's mosaics with patches of medium difficulty; FADRM's start (Cui et al., NeurIPS 2025).

    The mosaics are made as by `rded`, but the ranking of the best crops is taken from its median outwards. The authors
    offer their patches as a download, without the code that made them. This reading is inferred.

    Args:
        ipc, seed, factor: as in `easy_mosaics`.

    Raises:
        MethodError: a class has too few images, an output is not finite, or memory is insufficient.
    """
    tiles = tiles_per_side(factor, context.image_size)
    patches, _ = best_crop_patches(
        context,
        random_pools(context, max(RDED_POOL, ipc * tiles**2), derive_seed(seed, "patch pool")),
        CropLaw(seed, RDED_CROPS),
        teaching_of(context, "medium mosaics").teachers,
        ipc=ipc,
        factor=tiles,
        batch_size=BATCH,
        label="find medium patches",
        medium=True,
    )
    return _start(context, patches)


def _start(context: MethodContext, patches: Patches) -> Start:
    return Start(patches.samples, partial(patches.mosaics, context))


def _drawn(patches: Patches, ipc: int, seed: int) -> Patches:
    """Draw `ipc` of the `ipc` mosaics of every class, with replacement."""
    generator = np.random.Generator(np.random.PCG64(derive_seed(seed, "draw starts")))
    firsts = np.arange(0, len(patches.samples), ipc)
    rows = (firsts[:, None] + generator.integers(ipc, size=(len(firsts), ipc))).ravel()
    return Patches(patches.law, patches.samples[rows], patches.crops[rows])


def _whole(context: MethodContext, chosen: NDArray[np.int64], fit: Fit) -> Iterator[Pixels]:
    return (fit_image(context.image(int(index)), context.image_size, fit) for index in chosen)
