"""The bundle that `make gpu-bundle` makes: wheels and betons. Needs only Python itself."""

import os
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parents[2]
BUNDLE = CHECKOUT / "build" / "gpu-bundle"
BETONS, SUBSET, VAL = "betons.zip", "random10.beton", "val.beton"
REFERENCE, WHEELS = "reference.json", "wheels"


class BundleFault(Exception):  # noqa: N818  # "error" is what a user reads before its text
    """The bundle cannot be used."""


class Bundle(NamedTuple):
    """Files of a bundle.

    Attributes:
        subset, val: Fashion-MNIST at ten images per class, and its validation set.
        reference: accuracies of the CPU; the file may be missing.
        site: folder of unpacked wheels, or None where they do not fit this Python.
    """

    subset: Path
    val: Path
    reference: Path
    site: Path | None


def open_bundle(folder: Path, work: Path) -> Bundle:
    """Unpack a bundle's betons under `work`, and its wheels if they are for this Python.

    Raises:
        BundleFault: the betons are missing, or an archive is damaged.
    """
    archive = folder / BETONS
    if not archive.is_file():
        raise BundleFault(f"{archive}: no such file; make the bundle with a network (make gpu-bundle), or --bundle DIR")
    betons = unpack([archive], work / "betons")
    wheels = sorted((folder / WHEELS).glob("*.whl"))
    site = unpack(wheels, work / "site") if wheels and all(map(fits, wheels)) else None
    return Bundle(betons / SUBSET, betons / VAL, folder / REFERENCE, site)


def fits(wheel: Path) -> bool:
    """Return whether a wheel is for this Python, by the end of its name: -PYTHON-ABI-PLATFORM."""
    _, python, abi, _ = wheel.stem.rsplit("-", 3)
    here = f"cp{sys.version_info.major}{sys.version_info.minor}"
    return abi == "abi3" or bool({here, "py3"} & set(python.split(".")))


def unpack(archives: list[Path], into: Path) -> Path:
    """Unpack archives, such as wheels, into a folder and return it.

    Raises:
        BundleFault: an archive is damaged.
    """
    for path in archives:
        try:
            with zipfile.ZipFile(path) as archive:
                archive.extractall(into)
        except zipfile.BadZipFile as error:
            raise BundleFault(f"{path}: not a whole archive ({error}); make the bundle again") from error
    return into


def child_environment(device: str, site: Path | None) -> dict[str, str]:
    """Return the variables of a section's process: its path, and no GPU in a run on the CPU."""
    path = [CHECKOUT, CHECKOUT / "benchmarks", *([site] if site else [])]
    own = os.environ.get("PYTHONPATH")
    joined = os.pathsep.join([*map(str, path), *([own] if own else [])])
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    return {**os.environ, "PYTHONPATH": joined, **hidden}
