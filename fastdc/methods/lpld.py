"""LPLD: label pruning for large-scale distillation (Xiao & He, NeurIPS 2024). Its recovery; pruning is a protocol."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from fastdc.methods.base import MethodConfig, MethodContext, MethodInfo
from fastdc.methods.recovering import SHARED, RecoverConfig, RecoverMethod
from fastdc.methods.sre2l import ROLLED
from fastdc.recover.recipe import Presets, Recipe
from fastdc.seeding import derive_seed

if TYPE_CHECKING:
    from fastdc.recover.matching import MatchingSpec
    from fastdc.recover.statistics import Statistics


class LPLDConfig(RecoverConfig):
    """Settings of LPLD beside those of the family.

    Attributes:
        statistics: `exact` gives a class the variance E[x^2] - E[x]^2 over all its images. `released` lacks the part
            between images, as the authors' code does: it averages single images' statistics (there over about the last
            10 of a class, here over all).
    """

    statistics: Literal["exact", "released"] = "exact"


class LPLD(RecoverMethod):
    """SRe2L with one class at a time, against that class's own BatchNorm statistics.

    The statistics come from one pass over the training set in eval mode. Batches hold one class's images, so one image
    per class leaves only the statistics over its pixels. Numbers of the paper's scripts at 224 px and at 64 px, where
    images are rolled both ways; those at 32 px are SRe2L's (inferred).
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
    presets = Presets(  # the batch is the class: 200 images are the most that the paper stores of one
        paper224=Recipe(iterations=4000, learning_rate=0.25, matching_weight=0.01, jitter=32, batch_size=200),
        paper64=Recipe(iterations=4000, learning_rate=0.1, matching_weight=0.05, jitter=4, jitter_signed=True),
        paper32=ROLLED,
        inferred={"paper32": SHARED},
    )

    def matching(self, recipe: Recipe, config: MethodConfig) -> "MatchingSpec":
        """The class's statistics in place of the running ones."""
        from fastdc.recover.matching import MatchingSpec

        return MatchingSpec(variance_weight=recipe.variance_weight, statistics="class")

    def network_visits(
        self, config: MethodConfig, images: int, train_images: int, image_size: int, classes: int
    ) -> float:
        """Besides, one pass over the training set."""
        return super().network_visits(config, images, train_images, image_size, classes) + train_images / 3

    def statistics(self, context: MethodContext, config: MethodConfig) -> "Sequence[Statistics | None]":
        """Of every class, from one pass over the training set."""
        from fastdc.recover.statistics import StatisticsSpec, teacher_statistics

        assert isinstance(config, LPLDConfig)
        assert context.teaching is not None
        seed = derive_seed(0, "layer statistics")  # of the training set alone: no other subset seed, no other pass
        spec = StatisticsSpec(context.image_size, class_variance=config.statistics, seed=seed)
        return teacher_statistics(context.teaching, len(context.classes), spec)


METHOD = LPLD()
