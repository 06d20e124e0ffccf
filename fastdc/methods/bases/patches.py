"""Patches of real images, chosen by the loss of teachers. Torch and numba are imported only where they run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastdc.common.errors import MethodError
from fastdc.common.keys import derive_seed
from fastdc.methods.bases.method import MethodContext
from fastdc.methods.bases.selection import drawn_of_classes, members_of
from fastdc.methods.bases.teacher_losses import Indices, Losses, scored_once
from fastdc.recover.recovery_recipe import LARGE_SIDE

if TYPE_CHECKING:
    from fastdc.loader import ViewRequest
    from fastdc.teachers.network import Teacher

RDED_POOL, RDED_CROPS = 300, 5
"""Candidates in RDED's published scripts: images per class, and crops of each."""


@dataclass(frozen=True)
class CropLaw:
    """Law by which the candidate crops of an image are drawn: RandomResizedCrop, with independent draws per crop.

    Attributes:
        seed: subset seed; crop k of sample i depends only on (seed, i, k).
        crops: candidates per image.
        scale: lowest and highest area, as shares of the image's area.
        ratio: lowest and highest width / height.
        flip: whether a crop may be mirrored.
    """

    seed: int
    crops: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (1.0, 1.0)
    flip: bool = False

    def requests(self, size: int) -> "list[ViewRequest]":
        """Return the views to request from a loader: each image's crops at size x size pixels."""
        from fastdc.loader import TrainView, ViewRequest

        view = TrainView(size, self.scale, self.ratio, self.flip)
        return [ViewRequest(view, self._seed(crop)) for crop in range(self.crops)]

    def _seed(self, crop: int) -> int:
        return derive_seed(self.seed, "patches", crop=crop)

    def draws(self, size: int) -> tuple[NDArray[np.float64], list[int]]:
        """Return the law as kernels take it, float64 [VIEW_NUMBERS], and the seed of each candidate."""
        from fastdc.loader.view_settings import view_numbers

        requests = self.requests(size)
        # The loader derives its augmentation seed the same way, so `mosaics` cuts the crops that were scored.
        return view_numbers(requests[0].view), [derive_seed(request.seed, "augment") for request in requests]


@dataclass(frozen=True)
class Patches:
    """Chosen crops of M mosaics with K tiles.

    Attributes:
        law: law by which the crops were drawn.
        samples: int64 [M, K], the training image of each patch, with tiles in row-major order.
        crops: int64 [M, K], the candidate number of each patch.
    """

    law: CropLaw
    samples: Indices
    crops: Indices

    def mosaics(self, context: MethodContext) -> Iterator[NDArray[np.uint8]]:
        """Yield the mosaics, uint8 [S, S, 3]; every patch is cut at full resolution and resized once to its tile."""
        from fastdc.kernels.views.mosaics import combine_crops

        size, grid = context.image_size, round(self.samples.shape[1] ** 0.5)
        numbers, seeds = self.law.draws(max(size // grid, 1))
        for samples, crops in zip(self.samples.tolist(), self.crops.tolist(), strict=True):
            sources = [context.image(sample) for sample in samples]
            yield combine_crops(sources, numbers, [seeds[crop] for crop in crops], samples, size, grid)


def tiles_per_side(factor: int | None, image_size: int) -> int:
    """Return `factor`, or the papers' value for images of this side if `factor` is None.

    RDED's scripts tile 2 x 2 patches for ImageNet, and keep one patch at 64 and 32 px.
    """
    return factor or (2 if image_size >= LARGE_SIDE else 1)


def crop_visits(
    train_images: int, classes: int, images: int, *, pool: int = RDED_POOL, crops: int = RDED_CROPS
) -> float:
    """Estimate a teacher's visits to every crop of the pools, as `Method.network_visits` counts them.

    Args:
        train_images: number of images in the training set.
        classes: number of its classes.
        images: fewest images that the pools hold in total.
        pool: images that a class's pool holds if the class has as many.
        crops: candidates per image.
    """
    return min(train_images, max(pool * classes, images)) * crops / 3


def random_pools(context: MethodContext, size: int, seed: int) -> list[Indices]:
    """Draw `size` training images of every class, or all if a class has fewer; ascending within a class.

    Args:
        seed: already derived for this purpose; every class draws from its own stream.
    """
    return [np.sort(drawn) for drawn in drawn_of_classes(context.labels, len(context.classes), size, seed)]


def best_of_classes(context: MethodContext, values: Losses, size: int) -> list[Indices]:
    """Return the `size` images of lowest `values` [N] in every class, ascending; ties go to the lower number."""
    classes = members_of(context.labels, len(context.classes))
    return [np.sort(members[np.argsort(values[members], kind="stable")[:size]]) for members in classes]


def check_pools(name: str, context: MethodContext, pools: Sequence[Indices], needed: int, what: str) -> None:
    """Refuse a set with too few images in a class.

    Args:
        name: name of the task, for the message.
        needed: images that each pool must have.
        what: what the images are needed for, for the message.

    Raises:
        MethodError: a pool has fewer than `needed` images; the message names the class.
    """
    for label, pool in enumerate(pools):
        if pool.size < needed:
            raise MethodError(
                f"{name}: class '{context.classes[label]}' has {pool.size} images to choose from, {needed} {what} "
                "are needed; lower --ipc or add images"
            )


def crop_losses(
    context: MethodContext,
    pools: Sequence[Indices],
    law: CropLaw,
    size: int,
    teachers: "Sequence[Teacher]",
    batch_size: int,
    label: str,
) -> Losses:
    """Return the loss of every candidate crop of every pooled image, float64 [n, crops], pool after pool.

    Args:
        size: side of the crops in pixels; they are framed to `context.image_size`.
        label: name of the task, for progress and messages.
    """
    key = ["crops", law.seed, law.crops, law.scale, law.ratio, law.flip, size]
    return scored_once(context, np.concatenate(pools), lambda: law.requests(size), key, teachers, batch_size, label)


def best_crop_patches(
    context: MethodContext,
    pools: Sequence[Indices],
    law: CropLaw,
    teachers: "Sequence[Teacher]",
    *,
    ipc: int,
    factor: int,
    batch_size: int,
    label: str,
    medium: bool = False,
) -> tuple[Patches, Losses]:
    """Choose patches as RDED does: the easiest crop of every pooled image, then the easiest of these crops.

    The easiest crop is the one of lowest loss. Mosaic i of a class holds the patches ranked i, n + i, 2n + i, ...
    (n = ipc), so that mosaics are about equally easy. Ties go to the lower crop, then the lower image number.

    Args:
        pools: candidates of every class, ascending.
        factor: tiles per side.
        label: name of the task, for progress and messages.
        medium: whether to take the ranking from its median outwards instead of from its easy end.

    Returns:
        The patches of ipc * C mosaics, and their losses, float64 [ipc * C, factor**2].

    Raises:
        MethodError: a class has fewer images than patches, or the context has no teacher.
    """
    needed = ipc * factor**2
    check_pools(label, context, pools, needed, "patches")
    size = max(context.image_size // factor, 1)
    losses = crop_losses(context, pools, law, size, teachers, batch_size, label)
    samples, crops, values = [], [], []
    for pool, own in by_pool(pools, losses):
        best = own.argmin(axis=1)
        ranking = np.argsort(own[np.arange(pool.size), best], kind="stable")
        order = outward(pool.size, (pool.size - 1) // 2) if medium else slice(None)
        chosen = ranking[order][:needed].reshape(factor**2, ipc).T  # row i holds the ranks i, n + i, 2n + i, ...
        samples.append(pool[chosen])
        crops.append(best[chosen])
        values.append(own[chosen, best[chosen]])
    return Patches(law, np.concatenate(samples), np.concatenate(crops)), np.concatenate(values)


def lowest_crops(
    context: MethodContext,
    pools: Sequence[Indices],
    law: CropLaw,
    teachers: "Sequence[Teacher]",
    *,
    ipc: int,
    factor: int,
    batch_size: int,
    label: str,
) -> Patches:
    """Choose patches as EDC does: the crops of lowest loss, with any number of crops per image.

    Each mosaic holds consecutive ranks. Crops are scored at the full side S, like whole images, and are shrunk to their
    tiles afterwards.

    Raises:
        MethodError: a class has fewer crops than patches, or the context has no teacher.
    """
    needed = ipc * factor**2
    check_pools(label, context, pools, -(-needed // law.crops), f"images of {law.crops} crops each")
    losses = crop_losses(context, pools, law, context.image_size, teachers, batch_size, label)
    samples, crops = [], []
    for pool, own in by_pool(pools, losses):
        ranking = np.argsort(own.ravel(), kind="stable")[:needed].reshape(ipc, factor**2)
        samples.append(pool[ranking // law.crops])  # flat index = image * crops + crop
        crops.append(ranking % law.crops)
    return Patches(law, np.concatenate(samples), np.concatenate(crops))


def by_pool(pools: Sequence[Indices], losses: Losses) -> Iterator[tuple[Indices, Losses]]:
    """Pair every pool with its part of `losses`, which holds the pools one after the other."""
    ends = np.cumsum([pool.size for pool in pools])
    return zip(pools, np.split(losses, ends[:-1]), strict=True)


def outward(count: int, middle: int) -> Indices:
    """Return the places of a ranking of `count` from m = `middle` outwards: m, m + 1, m - 1, m + 2, ..."""
    # The quarter breaks ties between m + k and m - k in favour of m + k.
    return np.argsort(np.abs(np.arange(count) - middle - 0.25), kind="stable").astype(np.int64)
