"""Hard labels of CAD-Prune at small scale (Dey et al., arXiv 2604.18811, table 4)."""

from fastdc.train.protocols import NO_LOADER_CROP, Preset, Protocol, Recipe

PROTOCOL = Preset(
    Protocol(
        base="cad-hl",
        batch_size=256,
        optimizer="sgd",
        lr=0.01,
        weight_decay=5e-4,
        schedule="dc",
        crop_scale_min=1.0,
        flip=False,
        batch_augment="dsa",
        validate_resize=1.0,
    ),
    Recipe(
        "hard labels of CAD-Prune at small scale: SGD and DSA",
        "Dey et al., arXiv 2604.18811, table 4, as read by andriotis/ca2d c7ff13c; DSA: VICO-UoE/DatasetCondensation",
        ("momentum", "weight_decay", "schedule's factor"),
        (
            NO_LOADER_CROP,
            "pixels are normalised with ImageNet's mean and std, there with the data set's",
        ),
    ),
)
