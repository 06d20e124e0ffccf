"""Source of each training protocol, its inferred settings, and its differences from the source. Imports no torch."""

from dataclasses import dataclass

from fastdc.common.settings import parse_settings

BENCHMARK = "Xiao et al., arXiv 2502.06434; ArmandXiao/Rethinking-Dataset-Compression 91d1ef0"
NO_LOADER_CROP = "crops and flips are DSA's alone; an image or tile is loaded whole"
LAST_EPOCH = "the last epoch is reported; the source reports its best validation"


@dataclass(frozen=True)
class Recipe:
    """Origin of a preset.

    Attributes:
        title: one-line description.
        source: paper, repository and commit.
        inferred: settings that the source does not state.
        notes: differences from the source, or what the source does for other sets.
    """

    title: str
    source: str
    inferred: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


RECIPES = {
    "hard": Recipe("hard labels of the benchmark", f"{BENCHMARK}, standard_hard_config.yaml"),
    "hard-small": Recipe("hard, with batch N/10 for few classes", BENCHMARK, notes=("the batch rule is fastdc's own",)),
    "hard-sgd": Recipe("hard, with the benchmark's SGD setting", f"{BENCHMARK}, --sgd-setting"),
    "soft": Recipe("soft labels of the benchmark", f"{BENCHMARK}, standard_soft_config.yaml"),
    "soft-small": Recipe("soft, with batch N/10 for few classes", BENCHMARK, notes=("the batch rule is fastdc's own",)),
    "cim-hl": Recipe(
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
    "cad-hl": Recipe(
        "hard labels of CAD-Prune at small scale: SGD and DSA",
        "Dey et al., arXiv 2604.18811, table 4, as read by andriotis/ca2d c7ff13c; DSA: VICO-UoE/DatasetCondensation",
        ("momentum", "weight_decay", "schedule's factor"),
        (
            NO_LOADER_CROP,
            "pixels are normalised with ImageNet's mean and std, there with the data set's",
        ),
    ),
    "minimax-hl": Recipe(
        "hard labels of MinimaxDiffusion: SGD, CutMix, colour jitter, epochs by IPC",
        "Gu et al., arXiv 2311.15529; vimar-gu/MinimaxDiffusion 969fc6f, train.py and argument.py",
        notes=(
            "the source makes images of 256 px and trains on them at 224; here the side is --image-size",
            "for more than 100 classes the source takes batch_size=128,lr=0.1,weight_decay=0.0001",
            LAST_EPOCH,
        ),
    ),
}


def inferred_of(protocol: str) -> tuple[str, ...]:
    """Return the settings that a protocol's source does not state.

    Args:
        protocol: full name; settings that it changes are not inferred.
    """
    base, _, changes = protocol.partition("*")
    changed = parse_settings(changes.split(",")) if changes else {}
    inferred = RECIPES[base].inferred if base in RECIPES else ()
    # "schedule's factor" depends on the setting before its apostrophe.
    names = [name for name in inferred if name.partition("'")[0] not in changed]
    return (*names, *(["the side of cutout"] if changed.get("mix") == "cutout" else []))
