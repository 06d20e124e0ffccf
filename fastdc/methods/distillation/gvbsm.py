"""G-VBSM: generalized various backbone and statistical matching (Shao, Yin, Zhou, Zhang & Shen, CVPR 2024)."""

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from pydantic import Field

from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.recovery_methods import RecoverConfig, RecoverMethod
from fastdc.recover.recovery_recipe import MatchingSpec, Presets, Recipe, StatisticsKind, StatisticsSpec

if TYPE_CHECKING:
    from torch import Tensor

DENSIFICATION_TEMPERATURE = 4.0
CPU_LEARNING_RATE = 0.25
"""Learning rate of the preset `cpu`. With the paper's 0.05, images stay close to noise after 100 steps."""
CPU_JITTER = 1 / 8
"""Jitter of the preset `cpu`, as a share of the side. Rolling by the whole side would need many more than 100 steps."""


@dataclass(frozen=True)
class ConvolutionRecipe(Recipe):
    """Recipe of the methods that match convolutions.

    Attributes:
        patch: side of a patch of a layer's input, in pixels of that feature map.
        ema: weight of the past in the moving average of the batch's statistics.
        drop: share of the convolutions that an iteration leaves out, each at random.
        densification: weight of data densification.
    """

    patch: int = 16
    ema: float = 0.4
    drop: float = 0.0
    densification: float = 0.0

    def matching(self, statistics: StatisticsKind) -> MatchingSpec:
        """Return the statistics loss of BatchNorms and convolutions, by a moving average."""
        return MatchingSpec(
            variance_weight=self.variance_weight,
            convolutions=True,
            patch=self.patch,
            ema=self.ema,
            drop=self.drop,
            statistics=statistics,
        )


class ConvolutionConfig(RecoverConfig):
    """Settings of the methods that match convolutions. A setting that is not given takes its preset's value.

    Attributes:
        ema: weight of the past in the moving average that replaces a batch's statistics; 0 for the batch alone.
        patch: side of a patch of a layer's input, in pixels of that feature map.
    """

    ema: float | None = Field(None, ge=0, lt=1)
    patch: int | None = Field(None, ge=1)


class GVBSMConfig(ConvolutionConfig):
    """Settings of G-VBSM.

    Attributes:
        densification: weight of data densification, which keeps the images of a class different from each other.
    """

    densification: float | None = Field(None, ge=0)


def small_recipe(margin: int) -> ConvolutionRecipe:
    """Return G-VBSM's numbers for images of 32 and 64 px, which are shifted within a margin instead of cropped.

    Args:
        margin: width in pixels; the margin has the mean colour.
    """
    return ConvolutionRecipe(
        iterations=4000,
        learning_rate=0.05,
        matching_weight=0.01,
        margin=margin,
        jitter=32,
        batch_size=100,
        patch=4,
        ema=0.8,
        drop=0.4,
        densification=1.0,
    )


class GVBSM(RecoverMethod[GVBSMConfig, ConvolutionRecipe]):
    r"""Match the inputs of BatchNorms and convolutions, with several teachers in turn and densified classes.

    Channels and patches of every convolution's input are matched too, by a moving average over the iterations. A term
    on the spectrum of a class's images keeps them different from each other. The paper's teachers at 224 px are
    resnet18, mobilenet_v2, efficientnet_b0 and shufflenet_v2_x0_5: name those that are available
    (`teachers=observer+observer:mobilenet_v2`).

    $$
    \min_x \; \ell(f_k(x), y) + \alpha \sum_l w_l \left( \lVert \bar\mu_l - \hat\mu_l \rVert_2 + \lVert \bar\sigma^2_l -
    \hat\sigma^2_l \rVert_2 \right) + \beta \, \mathrm{KL}(e / \tau \,\Vert\, e),
    \quad k = t \bmod K
    $$

    Here e are the eigenvalues of the class's Gram matrix, as softmax distributions. A teacher without BatchNorm is
    matched by its convolutions alone. Batches hold consecutive images, class after class. The numbers are from the
    scripts for ImageNet-1K at 224 px, Tiny-ImageNet at 64 px and CIFAR-100 at 32 px.

    Differences:
        * Moving averages start at the first batch. In the authors' code they start at 0, by a type test that is never
          true.
        * The scripts split a batch between 2 GPUs, each with its own statistics. Here the batch is not split.
        * Below 128 px, statistics come from RandomResizedCrop's views; in the scripts they come from shifts within a
          margin.
        * A batch holds a class's images in a row; at 64 px the scripts take a tenth of them at a time.
    """

    version = 2
    info = cited("gvbsm", "G-VBSM", "distillation", "shao2024generalized", needs=("teacher",), stochastic=True)
    layout = "class_major"
    batch_norm = False  # convolutions are matched too, so a teacher may lack BatchNorm
    paper_teachers = MappingProxyType({"paper224": 4, "paper64": 5, "paper32": 5})
    presets = Presets(
        paper224=ConvolutionRecipe(
            iterations=4000, learning_rate=0.1, matching_weight=0.01, jitter=32, batch_size=80, densification=1.0
        ),
        paper64=small_recipe(margin=8),
        paper32=small_recipe(margin=4),
    )

    def preset(self, config: GVBSMConfig, image_size: int) -> ConvolutionRecipe:
        """Return the family's preset; `cpu` also takes larger steps and rolls less."""
        recipe = super().preset(config, image_size)
        if config.preset != "cpu":
            return recipe
        jitter = min(recipe.jitter, int(image_size * CPU_JITTER))
        return replace(recipe, learning_rate=CPU_LEARNING_RATE, jitter=jitter)

    def reductions(self, config: GVBSMConfig, image_size: int) -> tuple[str, ...]:
        """Return the family's reductions, a smaller learning rate or jitter, and the larger learning rate of `cpu`."""
        found, paper = self.recipe(config, image_size), self.presets.at(image_size)
        parts = super().reductions(config, image_size)
        larger = config.preset == "cpu" and found.learning_rate != paper.learning_rate
        if larger or found.learning_rate < paper.learning_rate:
            parts += (f"learning rate {found.learning_rate:g} instead of {paper.learning_rate:g}",)
        return parts + ((f"jitter {found.jitter} instead of {paper.jitter}",) if found.jitter < paper.jitter else ())

    def matching(self, recipe: ConvolutionRecipe) -> MatchingSpec:
        """Return matching of convolutions too, by a moving average."""
        return recipe.matching("running")

    def statistics(self, config: GVBSMConfig, recipe: ConvolutionRecipe, image_size: int) -> StatisticsSpec:
        """Return the statistics of the convolutions' inputs, in one pass of every teacher over the training set."""
        return StatisticsSpec(image_size, by_class=False, norms=False, convolutions=True, patch=recipe.patch)

    def extra_loss(self, images: "Tensor", labels: "Tensor", recipe: ConvolutionRecipe) -> "Tensor | None":
        """Return the weighted loss of data densification, or None if its weight is 0."""
        from fastdc.recover.image_losses import densification

        if recipe.densification == 0:
            return None
        return recipe.densification * densification(images, labels, DENSIFICATION_TEMPERATURE)


METHOD = GVBSM()
