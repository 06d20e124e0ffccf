"""DELT: medium starts, and images that join one group after the other (Shen et al., CVPR 2025)."""

from pydantic import Field

from fastdc.methods.base import MethodConfig, MethodContext, MethodInfo
from fastdc.methods.patches import teaching_of
from fastdc.methods.recovering import SHARED, RecoverConfig, RecoverMethod
from fastdc.methods.starts import Start, medium_images
from fastdc.recover.recipe import Presets, Recipe

INFERRED = (*SHARED, "milestone", "rounds")


class DELTConfig(RecoverConfig):
    """Settings of DELT.

    Attributes:
        fit: how an image to start from becomes S x S; `crop` resizes it to a shorter side of S // 7 * 8 pixels (256 for
            224) and takes the centre, as the authors' code does.
        rounds: groups into which a class's images are split; the first is optimised for all iterations, the last for
            1 / rounds of them.
        milestone: share of the iterations over which the lowest crop area falls to `crop_min`, as CDA does it.
    """

    rounds: int | None = Field(None, ge=1)
    milestone: float | None = Field(None, ge=0, le=1)


class DELT(RecoverMethod):
    """From real images of medium difficulty; early ones become optimised, late ones stay nearly real: more diversity.

    A group's Adam starts when the group joins. (The paper's code has one Adam for the batch, whose bias correction is
    over by then: the first steps of a late group are several times too long.) The numbers at 224 px are the paper's
    script for ImageNet-1K. None is for 64 and 32 px: the numbers there are inferred, CDA's without rolls.
    """

    version = 2
    info = MethodInfo(
        name="delt",
        title="DELT",
        family="distillation",
        paper="DELT: A Simple Diversity-driven EarlyLate Training for Dataset Distillation",
        year=2025,
        bibtex=(
            "@inproceedings{shen2025delt,\n"
            "  title={{DELT}: A Simple Diversity-driven EarlyLate Training for Dataset Distillation},\n"
            "  author={Shen, Zhiqiang and Sherif, Ammar and Yin, Zeyuan and Shao, Shitong},\n"
            "  booktitle={Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},\n"
            "  year={2025}\n"
            "}"
        ),
        needs=("teacher", "bn_statistics"),
        stochastic=True,
    )
    config_class = DELTConfig
    layout = "class_major"
    presets = Presets(
        paper224=Recipe(jitter=0, milestone=1.0, rounds=8),
        paper64=Recipe(learning_rate=0.4, matching_weight=0.05, jitter=0, milestone=1.0, rounds=8),
        paper32=Recipe(iterations=1000, jitter=0, milestone=1.0, rounds=8),
        inferred={"paper64": INFERRED, "paper32": INFERRED},
    )

    def images_needed(self, config: MethodConfig, ipc: int) -> int:
        """One image to start from for each."""
        return ipc

    def start(self, context: MethodContext, config: MethodConfig, ipc: int, seed: int) -> Start:
        """Images about the class's median in the first teacher's confidence, the nearest first."""
        return medium_images(context, teaching_of(context, self.info.name).teachers[0], ipc, fit=config.fit)


METHOD = DELT()
