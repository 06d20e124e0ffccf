"""FADRM: start from medium mosaics, alternate resolutions, mix the start in again (Cui et al., NeurIPS 2025)."""

from dataclasses import replace

from pydantic import Field

from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.method import MethodContext
from fastdc.methods.bases.patches import crop_visits, tiles_per_side
from fastdc.methods.bases.recovery_methods import RecoverConfig, RecoverMethod
from fastdc.methods.bases.recovery_starts import Start, medium_mosaics
from fastdc.recover.recovery_recipe import Presets, Recipe

SMALL = 200 / 224
"""Side of every other stage, as a share of the stored side."""
FOUR_STAGES = Recipe(iterations=2000, jitter=4, stages=(1.0, 1.0, 1.0, 1.0), residual=0.5)
"""Recipe at 32 px, and FADRM+'s at 64 px; all stages have the stored side."""


class FADRMConfig(RecoverConfig):
    """Settings of FADRM.

    Attributes:
        residual: weight of the start when it is mixed in between two stages; 0.5 in the paper.
    """

    residual: float | None = Field(None, ge=0, lt=1)


class FADRM(RecoverMethod[FADRMConfig]):
    r"""Optimise mosaics of medium patches in stages of 200 and 224 px, with the start mixed in between stages.

    The start is mixed in again between two stages, so that the images stay close to real ones. Half of the stages are
    smaller than the stored image, which saves time. With several teachers the method is FADRM+:
    `fadrm[teachers=A+B+C+D]`; they take turns, and the paper's are ResNet-18, DenseNet-121, ShuffleNetV2 and
    MobileNetV2.

    $$x \leftarrow \lambda \, x_0 + (1 - \lambda) \, x \quad \text{between two stages}, \quad \lambda = 0.5$$

    FADRM+'s script for 64 px has its own numbers. Images are stored as PNG, as in the paper. All numbers are from
    the paper's scripts.

    Differences:
        The authors offer their starting patches as a download, without the code that made them. Here they are RDED's,
        from the median of the ranking outwards (inferred).
    """

    version = 2
    info = cited("fadrm", "FADRM", "distillation", "cui2025fadrm", needs=("teacher", "bn_statistics"), stochastic=True)
    encoding = "png"
    presets = Presets(
        paper224=Recipe(iterations=2000, stages=(SMALL, 1.0, SMALL, 1.0), residual=0.5),
        paper64=Recipe(iterations=1000, learning_rate=0.01, jitter=4, stages=(1.0, 1.0), residual=0.5),
        paper32=FOUR_STAGES,
    )

    def presets_for(self, config: FADRMConfig) -> Presets:
        """Return FADRM+'s presets if several teachers take turns, else FADRM's."""
        return SEVERAL if len(self.teachers(config)) > 1 else self.presets

    def images_needed(self, config: FADRMConfig, ipc: int, image_size: int) -> int:
        """Return one image for each patch of the starts."""
        return ipc * tiles_per_side(None, image_size) ** 2

    def start_visits(self, config: FADRMConfig, images: int, train_images: int, image_size: int, classes: int) -> float:
        """Count RDED's passes over its pool."""
        patches = images * tiles_per_side(None, image_size) ** 2
        return crop_visits(train_images, classes, patches) * len(self.teachers(config))

    def start(self, context: MethodContext, config: FADRMConfig, ipc: int, seed: int) -> Start:
        """Return 2 x 2 mosaics of medium patches; below 128 px, single patches."""
        return medium_mosaics(context, ipc, seed)


SEVERAL = replace(FADRM.presets, paper64=FOUR_STAGES)
"""Presets of FADRM+."""
METHOD = FADRM()
