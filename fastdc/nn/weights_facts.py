"""Metadata of weights files, and the match of a network's outputs to a data set's classes. Imports no torch."""

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
from fastdc.common.errors import MethodError
from fastdc.common.normalisation import IMAGENET_MEAN, IMAGENET_STD
from fastdc.common.text import one_line

FACTS_KEY = "fastdc"
"""The only metadata key in fastdc's files. safetensors writes several keys in an order that varies between runs."""

SEEN_IMAGENET = "has seen ImageNet's training images, which hold Imagenette's validation images"
IMAGENET_CLASSES = 1000
Kind = Literal["observer", "file", "lite0", "torchvision", "timm"]
"""Source of a teacher's network."""


@dataclass(frozen=True)
class Facts:
    """Metadata of a weights file.

    Attributes:
        arch: architecture name (`fastdc.nn.arch_names`).
        classes: class name of each output, in order.
        image_size: side of the training crops in pixels.
        mean, std: normalisation of the three input channels, on a scale from 0 to 1.
    """

    arch: str
    classes: tuple[str, ...]
    image_size: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def to_metadata(self) -> dict[str, str]:
        """Return safetensors metadata: one key that holds sorted JSON."""
        return {FACTS_KEY: json.dumps(asdict(self), sort_keys=True)}


def read_facts(path: Path) -> Facts | None:
    """Read fastdc's metadata from a safetensors file without reading its tensors; None if it has none.

    Raises:
        MethodError: it is not a whole safetensors file, or its metadata is damaged.
    """
    try:
        # framework="np" keeps torch out.
        with safe_open(path, framework="np") as file:  # also checks the length of the file
            metadata = file.metadata() or {}
        if FACTS_KEY not in metadata:
            return None
        return _parse(json.loads(metadata[FACTS_KEY]))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        problem = one_line(error)[:200]
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
    """Return whether a file is a zip archive with an intact end record, as `torch.save` writes."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # `is_zipfile` itself fails on some damaged end records
        return False


@cache
def imagenet_wnids() -> tuple[str, ...]:
    """Return the WordNet ids of ImageNet-1K's 1000 classes, in the output order of all pretrained networks."""
    return tuple(files("fastdc.nn").joinpath("imagenet_wnids.txt").read_text().split())


def lacks_wnids(classes: Sequence[str]) -> bool:
    """Return whether there are 1000 classes, as in ImageNet-1K, but none is named by a WordNet id."""
    return len(classes) == IMAGENET_CLASSES and not set(classes) & set(imagenet_wnids())


def find_columns(who: str, known: Sequence[str], classes: Sequence[str]) -> tuple[int, ...] | None:
    """Find the output of each of a data set's classes by name.

    Names are compared after `one_spelling`.

    Args:
        who: the network's name in the error message.
        known: class names of the network's outputs, in order.
        classes: class names of the data set.

    Returns:
        One output number per class, or None if the outputs are exactly these classes in this order.

    Raises:
        MethodError: the network lacks one of the classes.
    """
    outputs, wanted = (tuple(map(one_spelling, names)) for names in (known, classes))
    if outputs == wanted:
        return None
    place = {name: column for column, name in enumerate(outputs)}
    missing = [name for name in wanted if name not in place]
    if missing:
        hint = ", or, where they are ImageNet's under other names, name their order with --teacher-order"
        raise MethodError(
            f"{who}: was trained on other classes: it has no class '{missing[0]}' ({len(missing)} of {len(classes)} "
            f"are missing; its first is '{known[0]}'); take a teacher that was trained on this data set's classes"
            + (hint if known == imagenet_wnids() and lacks_wnids(classes) else "")
        )
    return tuple(place[name] for name in wanted)
