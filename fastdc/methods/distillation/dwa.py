"""DWA: start from real images, and adjust the teachers' weights for every batch (Du et al., NeurIPS 2024)."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.method import MethodContext
from fastdc.methods.bases.method_config import Fit
from fastdc.methods.bases.recovery_methods import RecoverConfig, RecoverMethod
from fastdc.methods.bases.recovery_starts import Start, random_images
from fastdc.recover.recovery_recipe import Presets, Recipe

if TYPE_CHECKING:
    from torch import nn

    from fastdc.recover.recovery_job import BatchStart


@dataclass(frozen=True)
class DWARecipe(Recipe):
    """SRe2L's recipe with the numbers of the weight adjustment; see `DWAConfig`."""

    iterations: int = 2000
    variance_weight: float = 2.0
    steps: int = 15
    radius: float = 0.015


class DWAConfig(RecoverConfig):
    """Settings of DWA.

    Attributes:
        fit: how a start image becomes S x S; the authors' code squashes it.
        steps: K, steps of gradient ascent in a teacher's weights, anew for every batch; 0 leaves the weights unchanged.
        radius: rho, total length of these steps in weight space.
    """

    reads_fit: ClassVar[bool] = True

    fit: Fit = "squash"
    steps: int | None = Field(None, ge=0)
    radius: float | None = Field(None, gt=0)


class DWA(RecoverMethod[DWAConfig, DWARecipe]):
    r"""Optimise random real images against teachers whose weights are pushed away from them.

    Before each batch, a few steps of gradient ascent move the teachers' weights to where the batch's loss is higher.
    The images become more diverse, in half of SRe2L's iterations. The numbers are from the paper's scripts for
    ImageNet-1K at 224 px, Tiny-ImageNet at 64 px and CIFAR-100 at 32 px (rolls only: no crop, no mirroring).

    $$
    \theta \leftarrow \theta + \frac{\rho}{K} \frac{g}{\lVert g \rVert_2},
    \quad g = \nabla_\theta \, \ell(f_\theta(x), y),
    \quad K \text{ times}
    $$

    Differences:
        * The adjustment is undone after every batch, as the paper states. The authors' code lets adjustments add up.
        * The teachers are frozen during the recovery. In the authors' code their gradients of one batch enter the first
          ascent of the next, and those of the ascent enter the first step of the images.
    """

    version = 2
    info = cited("dwa", "DWA", "distillation", "du2024diversity", needs=("teacher", "bn_statistics"), stochastic=True)
    reducible = MappingProxyType({**RecoverMethod.reducible, "steps": "steps of weight adjustment"})
    presets = Presets(
        paper224=DWARecipe(),
        paper64=DWARecipe(learning_rate=0.1, variance_weight=11.0, jitter=4, batch_size=200, steps=12),
        paper32=DWARecipe(iterations=1000, variance_weight=11.0, crop_min=1.0, flip=False, jitter=4, steps=12),
    )

    def images_needed(self, config: DWAConfig, ipc: int, image_size: int) -> int:
        """Return `ipc`: one start image for each stored image."""
        return ipc

    def start(self, context: MethodContext, config: DWAConfig, ipc: int, seed: int) -> Start:
        """Draw whole images of each class at random."""
        return random_images(context, ipc, seed, fit=config.fit)

    def networks(
        self, teachers: "Sequence[nn.Module]", batch: "BatchStart", recipe: DWARecipe
    ) -> "Sequence[nn.Module]":
        """Return the teachers, adjusted to the batch."""
        from fastdc.recover.weight_adjustment import adjusted

        return adjusted(teachers, batch, recipe.steps, recipe.radius) if recipe.steps else teachers


METHOD = DWA()
