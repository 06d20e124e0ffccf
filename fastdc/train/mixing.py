"""Mixing of a batch's images: CutMix (Yun et al., ICCV 2019), mixup (Zhang et al., ICLR 2018) and cutout.

Draws are counter-based: they depend on (seed, epoch, step) and the batch's size alone, so that labels made once
fit the images that a later training mixes anew.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fastdc.seeding import derive_seed
from fastdc.train.protocols import Mix

CUTOUT_SHARE = 0.5
"""Side of a blanked square as a share of the image's; a comment of the benchmark's code, which sets no value."""


class CutMix(NamedTuple):
    """The mixing of one batch.

    Attributes:
        partners: int64 [B], the image that each image's box comes from.
        top, bottom, left, right: the box, in pixels; the same for all images.
        share: part of an image's area that stays its own.
    """

    partners: NDArray[np.int64]
    top: int
    bottom: int
    left: int
    right: int
    share: float


class Mixup(NamedTuple):
    """The averaging of one batch.

    Attributes:
        partners: int64 [B], the image that each image is averaged with.
        share: weight of the image itself.
    """

    partners: NDArray[np.int64]
    share: float


Mixed = CutMix | Mixup


def mix_batch(
    mix: Mix, images: torch.Tensor, seed: int, epoch: int, step: int, alpha: float
) -> tuple[torch.Tensor, Mixed | None]:
    """Return the mixed images [B, 3, S, S], and how they share classes; None where each keeps its own."""
    batch, side = len(images), images.shape[-1]
    if mix == "cutmix":
        cut = draw_cutmix(seed, epoch, step, batch, side, alpha)
        return mix_images(images, cut), cut
    if mix == "mixup":
        blend = draw_mixup(seed, epoch, step, batch, alpha)
        return average_images(images, blend), blend
    if mix == "cutout":
        return blank_square(images, *draw_cutout(seed, epoch, step, side)), None
    return images, None


def draw_cutmix(seed: int, epoch: int, step: int, batch: int, side: int, alpha: float) -> CutMix:
    """The mixing of a batch of `batch` images of side x side pixels.

    The box has sqrt(1 - Beta(alpha, alpha)) of the image's side, its centre is uniform, and what of it lies outside is
    cut off; `share` is counted after that.
    """
    generator = _generator(seed, "cutmix", epoch, step)
    edge = int(side * math.sqrt(1.0 - generator.beta(alpha, alpha)))
    row, column = (int(centre) for centre in generator.integers(side, size=2))
    top, bottom = max(row - edge // 2, 0), min(row + edge // 2, side)
    left, right = max(column - edge // 2, 0), min(column + edge // 2, side)
    share = 1.0 - (bottom - top) * (right - left) / side**2
    return CutMix(generator.permutation(batch), top, bottom, left, right, share)


def draw_mixup(seed: int, epoch: int, step: int, batch: int, alpha: float) -> Mixup:
    """Return the averaging of a batch: one weight from Beta(alpha, alpha), and partners by a shuffle."""
    generator = _generator(seed, "mixup", epoch, step)
    share = float(generator.beta(alpha, alpha))
    return Mixup(generator.permutation(batch), share)


def draw_cutout(seed: int, epoch: int, step: int, side: int) -> tuple[int, int, int]:
    """Return top, left and edge of the square that a batch loses, in pixels; it lies in the image, uniformly."""
    edge = int(side * CUTOUT_SHARE)
    top, left = _generator(seed, "cutout", epoch, step).integers(side - edge + 1, size=2)
    return int(top), int(left), edge


def _generator(seed: int, purpose: str, epoch: int, step: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(derive_seed(seed, purpose, epoch=epoch, step=step)))


def mix_images(images: torch.Tensor, cut: CutMix) -> torch.Tensor:
    """New images [B, 3, S, S], in the memory format of the old; the old ones stay as they are."""
    mixed = images.clone()
    box = (..., slice(cut.top, cut.bottom), slice(cut.left, cut.right))
    mixed[box] = images[box][_partners(cut, images)]
    return mixed


def average_images(images: torch.Tensor, blend: Mixup) -> torch.Tensor:
    """Return share * image + (1 - share) * partner for each image, in the memory format of `images`."""
    return images * blend.share + images[_partners(blend, images)] * (1.0 - blend.share)


def blank_square(images: torch.Tensor, top: int, left: int, edge: int) -> torch.Tensor:
    """Return new images that are 0, the mean colour of normalised images, in one square; the same for all of them."""
    blanked = images.clone()
    blanked[..., top : top + edge, left : left + edge] = 0
    return blanked


def mix_classes(labels: torch.Tensor, classes: int, mixed: Mixed | None) -> torch.Tensor:
    """Class shares of mixed images, float32 [B, C]; one-hot where nothing was mixed."""
    own = functional.one_hot(labels, classes).float()
    if mixed is None:
        return own
    return own * mixed.share + own[_partners(mixed, labels)] * (1.0 - mixed.share)


def _partners(mixed: Mixed, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(mixed.partners).to(like.device)
