"""Mixing of a batch's images: CutMix (Yun et al., ICCV 2019), mixup (Zhang et al., ICLR 2018) and cutout.

Draws depend only on (seed, epoch, step) and the size of the batch and its images. Labels made once therefore fit the
images that a later training mixes again.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fastdc.common.keys import derive_seed
from fastdc.common.transfer import send
from fastdc.train.protocols import Mix

CUTOUT_SHARE = 0.5
"""Side of the blanked square as a share of the image's; taken from a comment, as the benchmark's code sets no value."""


class CutMix(NamedTuple):
    """CutMix of one batch.

    Attributes:
        partners: int64 [B], the image from which each image's box is pasted.
        top, bottom, left, right: the box in pixels, the same for all images.
        share: share of each image's area that is kept.
    """

    partners: NDArray[np.int64]
    top: int
    bottom: int
    left: int
    right: int
    share: float


class Mixup(NamedTuple):
    """Mixup of one batch.

    Attributes:
        partners: int64 [B], the image with which each image is averaged.
        share: weight of the image itself.
    """

    partners: NDArray[np.int64]
    share: float


Mixed = CutMix | Mixup


def mix_batch(
    mix: Mix, images: torch.Tensor, seed: int, epoch: int, step: int, alpha: float
) -> tuple[torch.Tensor, Mixed | None]:
    """Mix images [B, 3, S, S], and also return how they share classes; None where each keeps its own class."""
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
    """Draw the CutMix of a batch of `batch` images of side x side pixels.

    The box has sqrt(1 - Beta(alpha, alpha)) of the image's side and a uniformly drawn centre. It is clipped at the
    image's edge, and `share` is computed after clipping.
    """
    # The order of draws must not change: stored labels fit these boxes and partners.
    generator = _generator(seed, "cutmix", epoch, step)
    edge = int(side * math.sqrt(1.0 - generator.beta(alpha, alpha)))  # halved below, so an odd edge loses a pixel
    row, column = (int(centre) for centre in generator.integers(side, size=2))
    top, bottom = max(row - edge // 2, 0), min(row + edge // 2, side)
    left, right = max(column - edge // 2, 0), min(column + edge // 2, side)
    share = 1.0 - (bottom - top) * (right - left) / side**2
    return CutMix(generator.permutation(batch), top, bottom, left, right, share)


def draw_mixup(seed: int, epoch: int, step: int, batch: int, alpha: float) -> Mixup:
    """Draw the mixup of a batch: one weight from Beta(alpha, alpha), and partners by a permutation."""
    generator = _generator(seed, "mixup", epoch, step)
    share = float(generator.beta(alpha, alpha))
    return Mixup(generator.permutation(batch), share)


def draw_cutout(seed: int, epoch: int, step: int, side: int) -> tuple[int, int, int]:
    """Draw top, left and edge, in pixels, of the square that a batch loses; it lies entirely inside the image."""
    edge = int(side * CUTOUT_SHARE)
    top, left = _generator(seed, "cutout", epoch, step).integers(side - edge + 1, size=2)
    return int(top), int(left), edge


def _generator(seed: int, purpose: str, epoch: int, step: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(derive_seed(seed, purpose, epoch=epoch, step=step)))


def mix_images(images: torch.Tensor, cut: CutMix) -> torch.Tensor:
    """Return new images [B, 3, S, S] with the box pasted, in the memory format of `images`, which stay unchanged."""
    mixed = images.clone()
    box = (..., slice(cut.top, cut.bottom), slice(cut.left, cut.right))
    mixed[box] = images[box][_partners(cut, images)]
    return mixed


def average_images(images: torch.Tensor, blend: Mixup) -> torch.Tensor:
    """Return share * image + (1 - share) * partner for each image, in the memory format of `images`."""
    return images * blend.share + images[_partners(blend, images)] * (1.0 - blend.share)


def blank_square(images: torch.Tensor, top: int, left: int, edge: int) -> torch.Tensor:
    """Return new images with one square, the same in all, set to 0, the mean colour of normalised images."""
    blanked = images.clone()
    blanked[..., top : top + edge, left : left + edge] = 0
    return blanked


def mix_classes(labels: torch.Tensor, classes: int, mixed: Mixed | None) -> torch.Tensor:
    """Return class shares of mixed images, float32 [B, C]; one-hot where nothing was mixed."""
    own = functional.one_hot(labels, classes).float()
    if mixed is None:
        return own
    return own * mixed.share + own[_partners(mixed, labels)] * (1.0 - mixed.share)


def _partners(mixed: Mixed, like: torch.Tensor) -> torch.Tensor:
    return send(torch.from_numpy(mixed.partners), like.device)
