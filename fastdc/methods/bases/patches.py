"""Patches of real images, chosen by the loss of teachers. Torch and numba are imported only where they run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastdc.common.errors import MethodError
from fastdc.common.files import atomic_file
from fastdc.common.keys import content_key, derive_seed
from fastdc.methods.bases.method import MethodContext
from fastdc.teachers.resources import Teaching

if TYPE_CHECKING:
    from fastdc.loader import ViewRequest
    from fastdc.teachers.network import Teacher

Losses = NDArray[np.float64]
Indices = NDArray[np.int64]
SMALLEST_TILED = 128
"""Smallest side, in pixels, at which the papers tile 2 x 2 patches; RDED's scripts keep one patch at 64 and 32 px."""


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
    """Return `factor`, or the papers' value for images of this side if `factor` is None."""
    return factor or (2 if image_size >= SMALLEST_TILED else 1)


def teaching_of(context: MethodContext, name: str) -> Teaching:
    """Return the networks of a method that needs some.

    Raises:
        MethodError: the context has no teacher.
    """
    if context.teaching is None or not context.teaching.teachers:
        raise MethodError(f"method {name}: needs a teacher, the context has none; name one in the setting 'teachers'")
    return context.teaching


def random_pools(context: MethodContext, size: int, seed: int) -> list[Indices]:
    """Draw `size` training images of every class, or all if a class has fewer; ascending within a class.

    Args:
        seed: already derived for this purpose; every class draws from its own stream.
    """
    pools = []
    for label in range(len(context.classes)):
        members = np.flatnonzero(context.labels == label)
        generator = np.random.Generator(np.random.PCG64([seed, label]))
        pools.append(np.sort(generator.permutation(members)[:size]).astype(np.int64))
    return pools


def best_of_classes(context: MethodContext, values: Losses, size: int) -> list[Indices]:
    """Return the `size` images of lowest `values` [N] in every class, ascending; ties go to the lower number."""
    pools = []
    for label in range(len(context.classes)):
        members = np.flatnonzero(context.labels == label)
        order = np.argsort(values[members], kind="stable")
        pools.append(np.sort(members[order[:size]]).astype(np.int64))
    return pools


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
                "are needed; lower --ipc or the tiles per side (factor), or add images"
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


def image_losses(
    context: MethodContext,
    teachers: "Sequence[Teacher]",
    batch_size: int,
    label: str,
    *,
    resize: int = 0,
    samples: Indices | None = None,
) -> Losses:
    """Return the loss of whole training images, resized and cut to the central S x S pixels, float64 [n].

    Args:
        label: name of the task, for progress and messages.
        resize: shorter side after resizing, in pixels, at least S; 0 takes validation's, round(S * 256 / 224).
        samples: int64 [n], the images; None for all.
    """
    from fastdc.loader import EvalView, ViewRequest

    view = EvalView(context.image_size, resize)
    chosen = np.arange(context.labels.size) if samples is None else samples
    key: list[object] = ["whole", view.resize]
    found = scored_once(context, chosen, lambda: [ViewRequest(view)], key, teachers, batch_size, label)
    return found[:, 0]


def scored_once(
    context: MethodContext,
    samples: Indices,
    requests: "Callable[[], list[ViewRequest]]",
    key: list[object],
    teachers: "Sequence[Teacher]",
    batch_size: int,
    label: str,
) -> Losses:
    """Return `view_losses`, cached in the subset's scratch folder for a run that is killed and resumed.

    Args:
        samples: int64 [n], the images.
        requests: makes the views of every image; called only if the cache has no losses.
        key: plain data that identifies the requests.
        label: name of the task, for progress and messages.

    Returns:
        float64 [n, views], in the order of `samples`.
    """
    from fastdc.teachers.view_losses import view_losses

    teaching = teaching_of(context, label)
    # The batch size is part of the identity because rounding depends on it.
    identity = [key, context.image_size, batch_size, samples.tolist(), [teacher.identity for teacher in teachers]]
    path = teaching.scratch / f"losses-{content_key(identity)[:16]}.npy"
    with suppress(OSError, ValueError, EOFError):  # the file is missing or damaged: compute the losses again
        kept = np.load(path, allow_pickle=False)
        if isinstance(kept, np.ndarray) and kept.ndim == 2 and kept.dtype == np.float64 and len(kept) == len(samples):
            return kept
    order = np.argsort(samples, kind="stable")  # so that the beton is read from front to back
    found = view_losses(
        teaching.train,
        samples[order],
        requests(),
        context.image_size,
        teachers,
        teaching.compute,
        batch_size=batch_size,
        label=label,
        show_progress=teaching.show_progress,
    )
    losses = np.empty_like(found)
    losses[order] = found
    teaching.scratch.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as handle:
        np.save(handle, losses)
    return losses


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
