"""Hard labels of MinimaxDiffusion (Gu et al., arXiv 2311.15529)."""

from fastdc.train.protocols import LAST_EPOCH, Preset, Protocol, Recipe

PROTOCOL = Preset(
    Protocol(
        base="minimax-hl",
        epochs="ipc",
        batch_size=64,
        optimizer="sgd",
        lr=0.01,
        weight_decay=5e-4,
        schedule="idc",
        crop_scale_min=0.5,
        batch_augment="jitter",
        mix="cutmix",
        validate_resize=1.0,
    ),
    Recipe(
        "hard labels of MinimaxDiffusion: SGD, CutMix, colour jitter, epochs by IPC",
        "Gu et al., arXiv 2311.15529; vimar-gu/MinimaxDiffusion 969fc6f, train.py and argument.py",
        notes=(
            "the source makes images of 256 px and trains on them at 224; here the side is --image-size",
            "for more than 100 classes the source takes batch_size=128,lr=0.1,weight_decay=0.0001",
            LAST_EPOCH,
        ),
    ),
)
