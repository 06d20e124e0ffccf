"""DELT: starts of medium difficulty, optimised in groups that join one after another (Shen et al., CVPR 2025)."""

from typing import ClassVar

from pydantic import Field

from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.method import MethodContext
from fastdc.methods.bases.recovery_methods import SHARED, RecoverConfig, RecoverMethod
from fastdc.methods.bases.recovery_starts import Start, medium_images
from fastdc.methods.bases.teacher_losses import teaching_of
from fastdc.recover.recovery_recipe import Presets, Recipe

INFERRED = (*SHARED, "milestone", "rounds")
"""Numbers that are inferred at 64 and 32 px."""


class DELTConfig(RecoverConfig):
    """Settings of DELT.

    Attributes:
        fit: how a start image becomes S x S. `crop` resizes its shorter side to S // 7 * 8 pixels (256 for 224) and
            takes the centre, as the authors' code does.
        rounds: number of groups into which a class's images are split. The first group is optimised for all iterations,
            the last for 1 / rounds of them.
        milestone: share of the iterations over which the smallest crop area falls to `crop_min`, as in CDA.
    """

    reads_fit: ClassVar[bool] = True

    rounds: int | None = Field(None, ge=1)
    milestone: float | None = Field(None, ge=0, le=1)


class DELT(RecoverMethod[DELTConfig]):
    r"""Optimise real images of medium difficulty, in groups that join one after another.

    Early images are optimised for long, late ones stay nearly real, which makes the set more diverse. A start lies near
    the middle of its class's ranking by the first teacher's confidence. The numbers at 224 px are from the paper's
    script for ImageNet-1K; those at 64 and 32 px are inferred: CDA's, without rolls.

    $$\text{iterations}(g) = T \left( 1 - \frac{g}{R} \right), \quad g = 0, \ldots, R - 1$$

    Differences:
        A group's Adam starts when the group joins. The authors' code has one Adam for the batch, whose bias correction
        has faded by then, so that the first steps of a late group are several times too long there.
    """

    version = 2
    info = cited("delt", "DELT", "distillation", "shen2025delt", needs=("teacher", "bn_statistics"), stochastic=True)
    layout = "class_major"
    presets = Presets(
        paper224=Recipe(jitter=0, milestone=1.0, rounds=8),
        paper64=Recipe(learning_rate=0.4, matching_weight=0.05, jitter=0, milestone=1.0, rounds=8),
        paper32=Recipe(iterations=1000, jitter=0, milestone=1.0, rounds=8),
        inferred={"paper64": INFERRED, "paper32": INFERRED},
    )

    def images_needed(self, config: DELTConfig, ipc: int, image_size: int) -> int:
        """Return `ipc`: one start image for each stored image."""
        return ipc

    def start_visits(self, config: DELTConfig, images: int, train_images: int, image_size: int, classes: int) -> float:
        """Count one forward pass of every training image through the first teacher."""
        return train_images / 3

    def start(self, context: MethodContext, config: DELTConfig, ipc: int, seed: int) -> Start:
        """Return images around the class's median of the first teacher's confidence, the nearest first."""
        return medium_images(context, teaching_of(context, self.info.name).teachers[0], ipc, fit=config.fit)


METHOD = DELT()
