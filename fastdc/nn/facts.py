"""What a weights file says of its network, and which of a network's outputs are a data set's classes. No torch."""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open

from fastdc.beton import one_spelling
from fastdc.errors import MethodError
from fastdc.nn.options import IMAGENET_MEAN, IMAGENET_STD

FACTS_KEY = "fastdc"
"""The only metadata key of our files: safetensors writes several keys in an order that changes from run to run."""

SEEN_IMAGENET = "has seen ImageNet's training images, which hold Imagenette's validation images"
IMAGENET_CLASSES = 1000
Kind = Literal["observer", "file", "lite0", "torchvision", "timm"]
"""Where a teacher comes from."""


@dataclass(frozen=True)
class Facts:
    """The metadata of a weights file.

    Attributes:
        arch: network by name (`fastdc.nn.models`).
        classes: names of its outputs, in their order.
        image_size: side of the training crops in pixels.
        mean, std: of the three channels, on a scale from 0 to 1: what its input was normalised with.
    """

    arch: str
    classes: tuple[str, ...]
    image_size: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def to_metadata(self) -> dict[str, str]:
        """As safetensors keeps it: one key, sorted JSON."""
        return {FACTS_KEY: json.dumps(asdict(self), sort_keys=True)}


def read_facts(path: Path) -> Facts | None:
    """The metadata of a safetensors file, None where it has none of ours; its tensors are not read.

    Raises:
        MethodError: it is not a whole safetensors file, or its metadata is damaged.
    """
    try:
        with safe_open(path, framework="np") as file:  # checks that the file is as long as its header says
            metadata = file.metadata() or {}
        if FACTS_KEY not in metadata:
            return None
        return _parse(json.loads(metadata[FACTS_KEY]))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        problem = " ".join(str(error).split())[:200]
        raise MethodError(f"{path}: not a whole weights file ({problem}); copy or make it again") from error


def _parse(content: dict[str, object]) -> Facts:
    arch, classes, side = content["arch"], content["classes"], content["image_size"]
    mean, std = content["mean"], content["std"]
    if not (isinstance(arch, str) and isinstance(classes, list) and isinstance(side, int) and side > 0):
        raise ValueError("its metadata names no network, classes and image size")
    if not (isinstance(mean, list) and isinstance(std, list) and len(mean) == len(std) == 3 and min(std) > 0):
        raise ValueError("its metadata names no normalisation of three channels")
    return Facts(arch, tuple(map(str, classes)), side, tuple(map(float, mean)), tuple(map(float, std)))


def is_archive(path: Path) -> bool:
    """Return whether a file is a zip archive with its end, as `torch.save` writes them."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # of an end that is damaged
        return False


@cache
def imagenet_wnids() -> tuple[str, ...]:
    """The 1000 classes of ImageNet-1K, in the order in which every pretrained network has them."""
    return tuple(files("fastdc.nn").joinpath("imagenet_wnids.txt").read_text().split())


def lacks_wnids(classes: Sequence[str]) -> bool:
    """Return whether these are as many classes as ImageNet's, and none goes by its WordNet id."""
    return len(classes) == IMAGENET_CLASSES and not set(classes) & set(imagenet_wnids())


def find_columns(who: str, known: Sequence[str], classes: Sequence[str]) -> tuple[int, ...] | None:
    """Which outputs of a network are a data set's classes; None where they are all of them in its order.

    Names are compared in one spelling (`one_spelling`).

    Args:
        who: the network, for the message.
        known: names of its outputs, in their order.
        classes: of the data set.

    Raises:
        MethodError: it does not know one of the classes.
    """
    outputs, wanted = (tuple(map(one_spelling, names)) for names in (known, classes))
    if outputs == wanted:
        return None
    place = {name: column for column, name in enumerate(outputs)}
    missing = [name for name in wanted if name not in place]
    if missing:
        hint = ", or, where they are ImageNet's under other names, say in which --teacher-order"
        raise MethodError(
            f"{who}: was trained on other classes: it does not know '{missing[0]}' ({len(missing)} of {len(classes)} "
            f"are missing; its first is '{known[0]}'); take a teacher that was trained on this data set's classes"
            + (hint if known == imagenet_wnids() and lacks_wnids(classes) else "")
        )
    return tuple(place[name] for name in wanted)
