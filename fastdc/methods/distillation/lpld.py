"""LPLD: label pruning for large-scale distillation (Xiao & He, NeurIPS 2024).

This file is its recovery. Label pruning is a protocol.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from fastdc.common.keys import derive_seed
from fastdc.methods.bases.method import MethodConfig, MethodContext, MethodInfo
from fastdc.methods.bases.recovery_methods import SHARED, RecoverConfig, RecoverMethod
from fastdc.methods.distillation.sre2l import ROLLED
from fastdc.recover.recovery_recipe import Presets, Recipe

if TYPE_CHECKING:
    from fastdc.recover.layer_statistics import Statistics
    from fastdc.recover.statistics_matching import MatchingSpec


class LPLDConfig(RecoverConfig):
    """Settings of LPLD beside those of the family.

    Attributes:
        statistics: `exact` gives a class the variance E[x^2] - E[x]^2 over all its images. `released` omits the
            variance between images, as the authors' code does: it averages the statistics of single images. The code
            averages over about the last 10 images of a class; here the average is over all.
    """

    statistics: Literal["exact", "released"] = "exact"


class LPLD(RecoverMethod):
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
    info = MethodInfo(
        name="lpld",
        title="LPLD",
        family="distillation",
        paper="Are Large-scale Soft Labels Necessary for Large-scale Dataset Distillation?",
        year=2024,
        bibtex=(
            "@inproceedings{xiao2024large,\n"
            "  title={Are Large-scale Soft Labels Necessary for Large-scale Dataset Distillation?},\n"
            "  author={Xiao, Lingao and He, Yang},\n"
            "  booktitle={Advances in Neural Information Processing Systems},\n"
            "  year={2024}\n"
            "}"
        ),
        needs=("teacher", "bn_statistics"),
        stochastic=True,
    )
    config_class: ClassVar[type[MethodConfig]] = LPLDConfig
    layout = "class"
    presets = Presets(  # a batch is a class, of which the paper stores at most 200 images
        paper224=Recipe(iterations=4000, learning_rate=0.25, matching_weight=0.01, jitter=32, batch_size=200),
        paper64=Recipe(iterations=4000, learning_rate=0.1, matching_weight=0.05, jitter=4, jitter_signed=True),
        paper32=ROLLED,
        inferred={"paper32": SHARED},
    )

    def matching(self, recipe: Recipe, config: MethodConfig) -> "MatchingSpec":
        """Return matching against the class's statistics in place of the running ones."""
        from fastdc.recover.statistics_matching import MatchingSpec

        return MatchingSpec(variance_weight=recipe.variance_weight, statistics="class")

    def network_visits(
        self, config: MethodConfig, images: int, train_images: int, image_size: int, classes: int
    ) -> float:
        """Add one pass over the training set to the family's estimate."""
        return super().network_visits(config, images, train_images, image_size, classes) + train_images / 3

    def statistics(self, context: MethodContext, config: MethodConfig) -> "Sequence[Statistics | None]":
        """Compute the statistics of every class in one pass over the training set."""
        from fastdc.recover.layer_statistics import StatisticsSpec, teacher_statistics

        assert isinstance(config, LPLDConfig)
        assert context.teaching is not None
        # The statistics describe the training set, so they must not depend on the subset seed.
        seed = derive_seed(0, "layer statistics")
        spec = StatisticsSpec(context.image_size, class_variance=config.statistics, seed=seed)
        return teacher_statistics(context.teaching, len(context.classes), spec)


METHOD = LPLD()
