"""Pure noise: images without content of the training set, so that a network can learn only from the labels."""

from collections.abc import Iterator
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from fastdc.common.keys import derive_seed
from fastdc.common.normalisation import IMAGENET_MEAN, IMAGENET_STD
from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.method import Compressed, Method, MethodContext
from fastdc.methods.bases.method_config import MethodConfig


class NoiseConfig(MethodConfig):
    """Settings of pure noise.

    Attributes:
        fit: not available; noise has no source images.
    """

    @model_validator(mode="after")
    def _fit_is_read(self) -> Self:
        self.refuse_unread({"fit": "in noise, which has no source images"})
        return self


class Noise(Method[NoiseConfig]):
    r"""Draw every pixel and channel from N(ImageNet's mean, its std^2), clipped to valid levels.

    This is standard normal noise in the space of a network's input, the state of SRe2L's recovery before its first
    step. Every class has the same number of images, so hard labels on them carry no information. With a teacher's soft
    labels networks do learn (the paper's table 20).

    $$x_{uvc} \sim \mathcal{N}(\mu_c, \sigma_c^2), \quad \mu = (.485, .456, .406), \quad \sigma = (.229, .224, .225)$$

    Differences:
        The images are stored as JPEG q75 4:2:0 like every other set, which smooths the noise.
    """

    info = cited("noise", "Pure noise", "reference", "xiao2025rethinking", stochastic=True)

    def images_needed(self, config: NoiseConfig, ipc: int, image_size: int) -> int:
        """Return 0: noise has no sources."""
        return 0

    def compress(self, context: MethodContext, config: NoiseConfig, ipc: int, seed: int) -> Compressed:
        """Make `ipc` noise images of every class; image i depends only on `seed` and i."""
        labels = np.repeat(np.arange(len(context.classes), dtype=np.int64), ipc)
        root, side = derive_seed(seed, "noise images"), context.image_size
        return Compressed(
            labels=labels,
            sources=np.empty((labels.size, 0), np.int64),
            images=lambda: noise_images(labels.size, side, root),
        )


def noise_images(count: int, side: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Yield `count` images of Gaussian noise, uint8 [side, side, 3].

    Args:
        side: pixels.
        seed: already derived for this purpose.
    """
    mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
    for number in range(count):
        generator = np.random.Generator(np.random.PCG64([seed, number]))
        levels = 255 * (mean + std * generator.standard_normal((side, side, 3)))
        yield np.clip(np.rint(levels), 0, 255).astype(np.uint8)


METHOD = Noise()
