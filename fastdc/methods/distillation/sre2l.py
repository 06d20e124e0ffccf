"""SRe2L: squeeze, recover, relabel (Yin, Xing & Shen, NeurIPS 2023).

This file is the recover stage. Relabelling is a protocol.
"""

from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.recovery_methods import RecoverMethod
from fastdc.recover.recovery_recipe import Presets, Recipe

ROLLED = Recipe(iterations=1000, crop_min=1.0, flip=False, jitter=4)
"""SRe2L's recipe for images of 32 px: rolls only, which the README beside its script confirms."""


class SRe2L(RecoverMethod):
    r"""Optimise noise against cross entropy and BatchNorm's running statistics, one image of each class at a time.

    A batch holds one image each of 100 classes, of which every step sees one random crop, mirrored and rolled. The
    images become what a frozen teacher recognises as their class, with layer inputs whose mean and variance are those
    of real images. The numbers are from the paper's scripts for ImageNet-1K at 224 px, Tiny-ImageNet at 64 px and
    CIFAR-100 at 32 px.

    $$
    \min_x \; \ell(f(x), y) + \alpha \sum_l w_l \left( \lVert \mu_l(x) - \hat\mu_l \rVert_2 + \lVert \sigma^2_l(x) -
    \hat\sigma^2_l \rVert_2 \right)
    $$

    The first layer has weight 10, the others 1. At 64 px images are rolled in both directions. At 32 px they are only
    rolled: no crop, no mirroring.

    Differences:
        The numbers are those of the scripts, not the defaults of the code's arguments, which no script uses. Labels are
        not part of the set: relabelling is a protocol.
    """

    version = 2
    info = cited(
        "sre2l", "SRe2L", "distillation", "yin2023squeeze", needs=("teacher", "bn_statistics"), stochastic=True
    )
    presets = Presets(
        paper224=Recipe(iterations=4000, learning_rate=0.25, matching_weight=0.01, jitter=32),
        paper64=Recipe(iterations=4000, learning_rate=0.1, matching_weight=1.0, jitter=4, jitter_signed=True),
        paper32=ROLLED,
    )


METHOD = SRe2L()
