"""EDC: elucidating the design space of dataset condensation (Shao, Zhou, Chen & Shen, NeurIPS 2024)."""

from types import MappingProxyType
from typing import ClassVar, Literal

from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.method import MethodContext
from fastdc.methods.bases.method_config import Fit
from fastdc.methods.bases.patches import crop_visits, tiles_per_side
from fastdc.methods.bases.recovery_methods import RecoverMethod
from fastdc.methods.bases.recovery_starts import (
    EASY_CROPS,
    EASY_POOL,
    Start,
    easy_mosaics,
    images_again,
    mirrored,
)
from fastdc.methods.distillation.gvbsm import ConvolutionConfig, ConvolutionRecipe
from fastdc.recover.recovery_recipe import ClassVariance, MatchingSpec, Presets, StatisticsSpec


class EDCConfig(ConvolutionConfig):
    """Settings of EDC.

    Attributes:
        fit: how a start image below 128 px becomes S x S; the authors' code squashes it.
        shuffle: whether the tiles of a mosaic are shuffled before the first step. `paper` shuffles them. `released`
            leaves them in place, as the authors' code does: it draws an order but does not use it.
        statistics: `exact` gives a class the variance E[x^2] - E[x]^2 over all its images. `released` omits the
            variance between images, as the authors' code does.
    """

    reads_fit: ClassVar[bool] = True

    fit: Fit = "squash"
    shuffle: Literal["released", "paper"] = "released"
    statistics: ClassVariance = "exact"


def small_recipe() -> ConvolutionRecipe:
    """Return EDC's numbers for Tiny-ImageNet and CIFAR-100."""
    return ConvolutionRecipe(
        iterations=2000, learning_rate=0.05, matching_weight=0.01, crop_min=0.5, jitter=0, patch=4, ema=0.8
    )


class EDC(RecoverMethod[EDCConfig, ConvolutionRecipe]):
    r"""Optimise mosaics of easy real patches with G-VBSM's matching, half of it against per-class statistics.

    The starts of a class are drawn with replacement and mirrored with probability 1/2. From 128 px on they are drawn
    from `ipc` mosaics of the class (inferred), below that from its training images. The paper's teachers at 224 px are
    resnet18, mobilenet_v2, efficientnet_b0, shufflenet_v2_x0_5 and alexnet, in turn.

    $$
    \min_x \; \ell(f_k(x), y) + \alpha \sum_l w_l \left( \tfrac{1}{2} \, d(\bar\mu_l, \bar\sigma^2_l; \text{set}) +
    \tfrac{1}{2} \, d(\bar\mu_l, \bar\sigma^2_l; \text{classes}) \right)
    $$

    Here d is the sum of the L2 distances of mean and variance. A teacher without BatchNorm, such as alexnet, is matched
    by its convolutions alone.

    Differences:
        * Moving averages start at the first batch; in the authors' code they start at 0.
        * A class's variance includes the part between images (`statistics=released` leaves it out, as the code does).
        * The paper shuffles the tiles of a start. The authors' code draws an order but does not use it, which is the
          default here too; `shuffle=paper` shuffles.
        * The paper's flatness term has weight 0 in the authors' code and is left out.
        * The scripts split a batch among 4 GPUs, each with its own statistics. Here the batch is not split.
        * Below 128 px, statistics come from RandomResizedCrop's views; in the scripts they come from shifts within a
          margin.
    """

    version = 2
    info = cited("edc", "EDC", "distillation", "shao2024elucidating", needs=("teacher",), stochastic=True)
    layout = "class_major"
    batch_norm = False  # alexnet, one of the paper's teachers, has none
    paper_teachers = MappingProxyType({"paper224": 5, "paper64": 5, "paper32": 8})
    presets = Presets(
        paper224=ConvolutionRecipe(
            iterations=1000, learning_rate=0.05, matching_weight=0.1, crop_min=0.5, jitter=0, batch_size=80, ema=0.8
        ),
        paper64=small_recipe(),
        paper32=small_recipe(),
    )

    def images_needed(self, config: EDCConfig, ipc: int, image_size: int) -> int:
        """Return `ipc`: an image gives 4 crops, as many as a mosaic has tiles. Below 128 px one image would do."""
        return ipc

    def start_visits(self, config: EDCConfig, images: int, train_images: int, image_size: int, classes: int) -> float:
        """Count, from 128 px on, every training image and then the crops of the easiest."""
        if tiles_per_side(None, image_size) == 1:
            return 0.0
        crops = crop_visits(train_images, classes, images, pool=EASY_POOL, crops=EASY_CROPS)
        return (train_images / 3 + crops) * len(self.teachers(config))

    def start(self, context: MethodContext, config: EDCConfig, ipc: int, seed: int) -> Start:
        """Return mosaics of the easiest crops of a class's 300 easiest images; below 128 px, random training images."""
        tiles = tiles_per_side(None, context.image_size)
        if tiles == 1:
            return mirrored(images_again(context, ipc, seed, fit=config.fit), seed)
        mosaics = easy_mosaics(context, ipc, seed, pool=max(EASY_POOL, ipc), again=True)
        return mirrored(mosaics, seed, shuffled=tiles if config.shuffle == "paper" else 1)

    def matching(self, recipe: ConvolutionRecipe) -> MatchingSpec:
        """Return matching of convolutions too, half against the set, half against the classes, by moving average."""
        return recipe.matching("mixed")

    def statistics(self, config: EDCConfig, recipe: ConvolutionRecipe, image_size: int) -> StatisticsSpec:
        """Return the statistics of every class and of the set, in one pass of every teacher over the training set."""
        return StatisticsSpec(image_size, convolutions=True, patch=recipe.patch, class_variance=config.statistics)


METHOD = EDC()
