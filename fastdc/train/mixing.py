"""CutMix: a box of another image pasted into every image of a batch (Yun et al., ICCV 2019).

Its draws are counter-based: they depend on (seed, epoch, step) and the batch's size alone, so that labels made once
fit the images that a later training mixes anew.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fastdc.seeding import derive_seed


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


def draw_cutmix(seed: int, epoch: int, step: int, batch: int, side: int, alpha: float) -> CutMix:
    """The mixing of a batch of `batch` images of side x side pixels.

    The box has sqrt(1 - Beta(alpha, alpha)) of the image's side, its centre is uniform, and what of it lies outside is
    cut off; `share` is counted after that.
    """
    generator = np.random.Generator(np.random.PCG64(derive_seed(seed, "cutmix", epoch=epoch, step=step)))
    edge = int(side * math.sqrt(1.0 - generator.beta(alpha, alpha)))
    row, column = (int(centre) for centre in generator.integers(side, size=2))
    top, bottom = max(row - edge // 2, 0), min(row + edge // 2, side)
    left, right = max(column - edge // 2, 0), min(column + edge // 2, side)
    share = 1.0 - (bottom - top) * (right - left) / side**2
    return CutMix(generator.permutation(batch), top, bottom, left, right, share)


def mix_images(images: torch.Tensor, cut: CutMix) -> torch.Tensor:
    """New images [B, 3, S, S], in the memory format of the old; the old ones stay as they are."""
    mixed = images.clone()
    box = (..., slice(cut.top, cut.bottom), slice(cut.left, cut.right))
    mixed[box] = images[box][torch.from_numpy(cut.partners).to(images.device)]
    return mixed


def mix_classes(labels: torch.Tensor, classes: int, cut: CutMix | None) -> torch.Tensor:
    """Class shares of mixed images by area, float32 [B, C]; one-hot where nothing was mixed."""
    own = functional.one_hot(labels, classes).float()
    if cut is None:
        return own
    return own * cut.share + own[torch.from_numpy(cut.partners).to(labels.device)] * (1.0 - cut.share)
