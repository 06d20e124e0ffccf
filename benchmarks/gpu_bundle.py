"""Make the bundle that `benchmarks/gpu_check.py` takes to a machine without a network, as `make gpu-bundle` does.

    python benchmarks/gpu_bundle.py [--out build/gpu-bundle] [--source DIR]

It holds wheels for Python 3.12 on Linux x86-64, in the versions that are installed here, of all that fastdc and its
tests need beyond torch, torchvision and numba. And it holds Fashion-MNIST: ten random images per class, the validation
set, and the accuracies that cells of the check reach on this CPU.
"""

import argparse
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import requires, version
from pathlib import Path
from tempfile import TemporaryDirectory

from gpu_sections.bundle import BETONS, BUNDLE, REFERENCE, SUBSET, VAL, WHEELS
from gpu_sections.cells import ARCH, accuracy
from gpu_sections.setup import SIZES, Setup
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fastdc import compress_beton
from fastdc.recipes.fashion_mnist import write_images

PYTHON = "3.12"
THERE = ("torch", "torchvision", "numba", "numpy", "tbb")
"""Packages that the machine has, or that are not needed (tbb); what they need is there with them."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
MOST_BYTES = 60 << 20


def main() -> None:
    """Make the folder anew."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=BUNDLE)
    parser.add_argument("--source", type=Path, help="folder of the idx files (default: Debian's, else fetched)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    fetch_wheels(options.out / WHEELS)
    with TemporaryDirectory() as scratch:
        make_betons(Path(scratch), options.source)
        pack_betons(Path(scratch), options.out)
        (options.out / REFERENCE).write_text(json.dumps(reference(Path(scratch))) + "\n")
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    if size > MOST_BYTES:
        sys.exit(f"{options.out}: {size / 2**20:.0f} MiB, expected at most {MOST_BYTES >> 20}")
    print(f"{options.out}: {len(list((options.out / WHEELS).iterdir()))} wheels and two betons, {size / 2**20:.0f} MiB")


def needed(names: tuple[str, ...]) -> dict[str, str]:
    """Return the distributions that some need, themselves included, with the versions installed here."""
    found: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found and name not in THERE:
            found[name] = version(name)
            waiting += _requirements(name)
    return found


def _requirements(name: str) -> Iterator[str]:
    """Yield what a distribution needs under the bundle's Python, without its extras."""
    environment = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0", "extra": ""}
    for text in requires(name) or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            yield canonicalize_name(requirement.name)


def fetch_wheels(folder: Path) -> None:
    """Download the wheels with pip."""
    shutil.rmtree(folder, ignore_errors=True)
    wanted = needed(("fastdc", "pytest", "pytest-timeout"))
    del wanted["fastdc"]
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    python = ["--python-version", PYTHON, "--implementation", "cp", "--only-binary=:all:", "--no-deps"]
    command = [sys.executable, "-m", "pip", "download", "-q", *python, *platforms, "--dest", str(folder)]
    subprocess.run([*command, *(f"{name}=={number}" for name, number in wanted.items())], check=True)


def make_betons(folder: Path, source: Path | None) -> None:
    """Write the validation set and ten random images per class into a folder."""
    with TemporaryDirectory() as scratch:
        for _ in write_images(Path(scratch), source):
            pass
        for suffix in (".beton", ".json"):
            shutil.copy(Path(scratch, VAL).with_suffix(suffix), folder)
        train, work = Path(scratch, "train.beton"), Path(scratch, "work")
        compress_beton("random", train, folder / SUBSET, ipc=10, seed=0, image_size=28, workdir=work)


def pack_betons(folder: Path, out: Path) -> None:
    """Pack the betons and manifests of a folder into a bundle; they are raw pixels, which deflate to a quarter."""
    with zipfile.ZipFile(out / BETONS, "w", zipfile.ZIP_DEFLATED) as archive:
        for beton in (SUBSET, VAL):
            for path in (folder / beton, (folder / beton).with_suffix(".json")):
                archive.write(path, path.name)


def reference(folder: Path) -> dict[str, object]:
    """Train the cells of the check at full size on this CPU in fp32, and return their accuracies."""
    setup = Setup("cpu", "full", str(folder / SUBSET), str(folder / VAL), "", "", 0.0)
    size = SIZES["full"]
    found = [accuracy(setup, seed, "fp32") for seed in range(size.seeds)]
    return {"arch": ARCH, "epochs": size.epochs, "top1": found}


if __name__ == "__main__":
    main()
