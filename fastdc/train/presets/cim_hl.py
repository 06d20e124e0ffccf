"""Hard labels of CIM (Shang et al., arXiv 2607.00916)."""

from fastdc.train.protocols import LAST_EPOCH, NO_LOADER_CROP, Preset, Protocol, Recipe

PROTOCOL = Preset(
    Protocol(
        base="cim-hl",
        batch_size="cim",
        weight_decay=1e-4,
        decay_all=True,
        schedule="idc",
        crop_scale_min=1.0,
        tile_whole="grid",
        flip=False,
        batch_augment="idc",
        validate_every=75,
    ),
    Recipe(
        "hard labels of CIM: DSA in IDC's form, tiles and whole mosaics",
        "Shang et al., arXiv 2607.00916; LINs-lab/CIM ea71377, data/utils/evaluator.py",
        notes=(
            NO_LOADER_CROP,
            "300 epochs are those of ImageNet-1K; other sets train for 1000 in main.py",
            "the source crops every set by 2 x 2; here a set without the hint tile_grid is seen whole, and "
            "--augment tile:2+whole=0.25 crops all alike",
            "the source lowers lr to 1e-4 for Swin and ViT, and raises it to 2e-3 for EfficientNet",
            LAST_EPOCH,
        ),
    ),
)
