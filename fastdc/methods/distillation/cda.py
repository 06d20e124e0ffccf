"""CDA: SRe2L with a curriculum on the crops (Yin & Shen, TMLR 2024)."""

from pydantic import Field

from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.recovery_methods import SHARED, RecoverConfig, RecoverMethod
from fastdc.recover.recovery_recipe import Presets, Recipe


class CDAConfig(RecoverConfig):
    """Settings of CDA.

    Attributes:
        milestone: share of the iterations over which the smallest crop area falls from the whole image to `crop_min`
            along a cosine; 1 in the paper.
    """

    milestone: float | None = Field(None, ge=0, le=1)


class CDA(RecoverMethod[CDAConfig]):
    r"""Recover images as SRe2L does, with crops that shrink during the run.

    The smallest crop begins as the whole image and falls along a cosine, so that global structure comes first and
    detail later. The numbers are from the paper's scripts for ImageNet-1K at 224 px and Tiny-ImageNet at 64 px. The
    paper has no script for 32 px: SRe2L's numbers, with the curriculum and with mirroring, are inferred there.

    $$a_{\min}(t) = a + (1 - a) \, \tfrac{1}{2} \left( 1 + \cos \frac{\pi t}{T} \right), \quad a = 0.08$$
    """

    info = cited("cda", "CDA", "distillation", "yin2024dataset", needs=("teacher", "bn_statistics"), stochastic=True)
    presets = Presets(
        paper224=Recipe(milestone=1.0),
        paper64=Recipe(learning_rate=0.4, matching_weight=0.05, jitter=4, milestone=1.0),
        paper32=Recipe(iterations=1000, jitter=4, milestone=1.0),
        inferred={"paper32": (*SHARED, "milestone")},
    )


METHOD = CDA()
