"""LPLD: label pruning for large-scale distillation (Xiao & He, NeurIPS 2024).

This file is its recovery. Label pruning is a protocol.
"""

from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.recovery_methods import SHARED, RecoverConfig, RecoverMethod
from fastdc.methods.distillation.sre2l import ROLLED
from fastdc.recover.recovery_recipe import ClassVariance, MatchingSpec, Presets, Recipe, StatisticsSpec


class LPLDConfig(RecoverConfig):
    """Settings of LPLD beside those of the family.

    Attributes:
        statistics: `exact` gives a class the variance E[x^2] - E[x]^2 over all its images. `released` omits the
            variance between images, as the authors' code does: it averages the statistics of single images. The code
            averages over about the last 10 images of a class; here the average is over all.
    """

    statistics: ClassVariance = "exact"


class LPLD(RecoverMethod[LPLDConfig]):
    r"""Recover images as SRe2L does, one class at a time, against that class's own BatchNorm statistics.

    The statistics come from one pass over the training set in eval mode. A batch holds images of one class; with one
    image per class, a batch's statistics are over the pixels of a single image. The numbers at 224 px and 64 px are
    from the paper's scripts, those at 32 px are SRe2L's (inferred).

    $$
    \min_x \; \ell(f(x), y) + \alpha \sum_l w_l \left( \lVert \mu_l(x) - \hat\mu_{l,y} \rVert_2 + \lVert \sigma^2_l(x) -
    \hat\sigma^2_{l,y} \rVert_2 \right)
    $$

    At 64 px images are rolled in both directions.

    Differences:
        * A class's variance includes the part between images, and its statistics are over all images. The authors' code
          averages single images, about the last ten of a class (`statistics=released` leaves the part between images
          out).
        * Label pruning is a protocol here (`label_ratio`), not part of the set.
    """

    version = 2
    info = cited("lpld", "LPLD", "distillation", "xiao2024large", needs=("teacher", "bn_statistics"), stochastic=True)
    layout = "class"
    presets = Presets(  # a batch is a class, of which the paper stores at most 200 images
        paper224=Recipe(iterations=4000, learning_rate=0.25, matching_weight=0.01, jitter=32, batch_size=200),
        paper64=Recipe(iterations=4000, learning_rate=0.1, matching_weight=0.05, jitter=4, jitter_signed=True),
        paper32=ROLLED,
        inferred={"paper32": SHARED},
    )

    def matching(self, recipe: Recipe) -> MatchingSpec:
        """Return matching against the class's statistics in place of the running ones."""
        return MatchingSpec(variance_weight=recipe.variance_weight, statistics="class")

    def statistics(self, config: LPLDConfig, recipe: Recipe, image_size: int) -> StatisticsSpec:
        """Return the statistics of every class, in one pass over the training set."""
        return StatisticsSpec(image_size, class_variance=config.statistics)


METHOD = LPLD()
