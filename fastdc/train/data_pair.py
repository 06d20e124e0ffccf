"""A compressed set with the validation set that its networks are measured on. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastdc.beton import BetonFile, Manifest, describe_beton, one_spelling
from fastdc.beton.classes import check_same_classes
from fastdc.beton.hints import tile_crop
from fastdc.common.errors import BetonError, ConfigError
from fastdc.train.evaluate_settings import EvaluateSettings
from fastdc.train.protocols import Protocol

DEFAULT_IMAGE_SIZE = 224


@dataclass(frozen=True)
class Pair:
    """Compressed set with its validation set, whose classes were checked against each other.

    Attributes:
        subset, val: the betons.
        stored, validation: their manifests.
    """

    subset: Path
    val: Path
    stored: Manifest
    validation: Manifest

    @property
    def val_classes(self) -> tuple[int, ...] | None:
        """Return the subset's number of each validation class, matched by name; None if the class lists are equal."""
        stored, validation = (tuple(map(one_spelling, one.classes)) for one in (self.stored, self.validation))
        if stored == validation:
            return None
        numbers = {name: number for number, name in enumerate(stored)}
        return tuple(numbers[name] for name in validation)

    def views(self, settings: EvaluateSettings) -> int:
        """Return the visits to each stored image per epoch."""
        return tile_crop(settings.augment, self.stored.hints).views

    def side(self, settings: EvaluateSettings) -> int:
        """Return the side of the training crops in pixels."""
        return settings.image_size or training_side(self.subset, self.stored)

    def epochs(self, protocol: Protocol) -> int:
        """Return the number of epochs that the protocol trains on the subset."""
        return protocol.epochs_for(len(self.stored.ids), len(self.stored.classes))


def open_pair(subset: Path, val: Path, allow_missing_classes: bool = False) -> Pair:
    """Read both manifests, and check that classes and labels fit together.

    Args:
        allow_missing_classes: whether to match classes by name; the validation set may lack some.

    Raises:
        ConfigError: the class lists differ.
        BetonError, ManifestError: a file is damaged, or has a label without a class.
    """
    stored, validation = describe_beton(subset), describe_beton(val)
    check_same_classes((subset, stored), (val, validation), allow_missing_classes)
    for path, manifest in ((subset, stored), (val, validation)):
        check_label_range(path, len(manifest.classes))
    return Pair(subset, val, stored, validation)


def check_label_range(path: Path, num_classes: int) -> None:
    """Refuse labels without an output of the network, which on a GPU would fail an assertion that names no file.

    Raises:
        BetonError: a label is out of range. The message names the first such sample.
    """
    with BetonFile(path) as beton:
        outside = np.flatnonzero((beton.labels < 0) | (beton.labels >= num_classes))
        if outside.size:
            found = f"label {beton.labels[outside[0]]}, expected 0..{num_classes - 1}"
            raise BetonError(f"{path}: sample {outside[0]}: {found}; run verify-beton on it")


def training_side(subset: Path, manifest: Manifest) -> int:
    """Return the side of training crops: the subset's hint, else its images' side, or 224 if their sides differ.

    Raises:
        ConfigError: the hint is not a whole number.
    """
    hinted = manifest.hints.get("image_size")
    if hinted is not None:
        if type(hinted) is not int:  # isinstance would accept True
            raise ConfigError(
                f"{subset}: hint image_size={hinted!r}: expected a whole number of pixels; make the set again, or give "
                "--image-size"
            )
        return hinted
    with BetonFile(subset) as beton:
        sides = {int(side) for sides in (beton.heights, beton.widths) for side in (sides.min(), sides.max())}
    return sides.pop() if len(sides) == 1 else DEFAULT_IMAGE_SIZE
