"""CDA: SRe2L with a curriculum on the crops (Yin & Shen, TMLR 2024)."""

from pydantic import Field

from fastdc.methods.base import MethodInfo
from fastdc.methods.recovering import SHARED, RecoverConfig, RecoverMethod
from fastdc.recover.recipe import Presets, Recipe


class CDAConfig(RecoverConfig):
    """Settings of CDA.

    Attributes:
        milestone: share of the iterations over which the lowest crop area falls, by a cosine, from the whole image to
            `crop_min`; 1 in the paper.
    """

    milestone: float | None = Field(None, ge=0, le=1)


class CDA(RecoverMethod):
    """From whole images to small crops: global structure first, detail later.

    Numbers of the paper's scripts: ImageNet-1K at 224 px, Tiny-ImageNet at 64 px. None is for 32 px: the numbers there
    are inferred, SRe2L's with the curriculum of crops and mirroring.
    """

    info = MethodInfo(
        name="cda",
        title="CDA",
        family="distillation",
        paper="Dataset Distillation via Curriculum Data Synthesis in Large Data Era",
        year=2024,
        bibtex=(
            "@article{yin2024dataset,\n"
            "  title={Dataset Distillation via Curriculum Data Synthesis in Large Data Era},\n"
            "  author={Yin, Zeyuan and Shen, Zhiqiang},\n"
            "  journal={Transactions on Machine Learning Research},\n"
            "  year={2024}\n"
            "}"
        ),
        needs=("teacher", "bn_statistics"),
        stochastic=True,
        published={
            "imagenet1k/resnet18/hard/ipc10": 1.6,
            "imagenet1k/resnet18/hard/ipc50": 5.8,
            "imagenet1k/resnet18/hard/ipc100": 8.0,
            "imagenet1k/resnet18/soft/ipc10": 33.5,
        },
    )
    config_class = CDAConfig
    presets = Presets(
        paper224=Recipe(milestone=1.0),
        paper64=Recipe(learning_rate=0.4, matching_weight=0.05, jitter=4, milestone=1.0),
        paper32=Recipe(iterations=1000, jitter=4, milestone=1.0),
        inferred={"paper32": (*SHARED, "milestone")},
    )


METHOD = CDA()
