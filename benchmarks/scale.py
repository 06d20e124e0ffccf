"""Measure `fastdc write-beton` on a data set of ImageNet's shape: seconds and peak memory of writing and reading back.

    python benchmarks/scale.py [--images 1281167] [--classes 1000] [--work DIR]

The tree's files are hard links to a few tiny JPEGs per class, so the load is the number of files, not their bytes.
Every step runs in its own process, whose peak memory the system reports. The last line is the result as JSON.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

IMAGES, CLASSES = 1_281_167, 1000
_DISTINCT = 4  # different JPEGs per class; ext4 allows 65,000 links to each


def count_class(label: int, images: int, classes: int) -> int:
    """Return how many images a class has."""
    return images // classes + (label < images % classes)


def generate(work: Path, images: int, classes: int) -> dict[str, Any]:
    """Make work/tree/CLASS/CLASS_NUMBER.JPEG, with names as long as ImageNet's and classes of nearly equal size."""
    import numpy as np
    import simplejpeg

    random = np.random.default_rng(0)
    for label in range(classes):
        name = f"n{label:08d}"
        folder = work / "tree" / name
        folder.mkdir(parents=True)
        count = count_class(label, images, classes)
        originals = [str(folder / f"{name}_{number}.JPEG") for number in range(min(_DISTINCT, count))]
        for path in originals:
            pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Path(path).write_bytes(simplejpeg.encode_jpeg(pixels, 75, "RGB", "420"))
        for number in range(len(originals), count):
            os.link(originals[number % _DISTINCT], folder / f"{name}_{number}.JPEG")
    return {}


def list_images(work: Path, images: int, classes: int) -> dict[str, Any]:
    """List classes and images as the writer does, without reading any image."""
    import numpy as np

    from fastdc.beton.sources.open_source import open_source

    with open_source(work / "tree") as source:
        contents = source.contents
        return {"counts": np.bincount(contents.labels, minlength=len(contents.classes)).tolist()}


def open_beton(work: Path, images: int, classes: int) -> dict[str, Any]:
    """Open the beton without its manifest, and count the images of each class."""
    import numpy as np

    from fastdc.beton import BetonFile

    with BetonFile(work / "out.beton") as file:
        return {"counts": np.bincount(file.labels).tolist()}


def load_manifest(work: Path, images: int, classes: int) -> dict[str, Any]:
    """Load the manifest, which checks it against the beton, and compare the first and last id with the tree."""
    from fastdc.beton import load_manifest

    manifest = load_manifest(work / "out.beton")
    for name in (manifest.ids[0], manifest.ids[-1]):
        if not (work / "tree" / name).exists():
            raise SystemExit(f"{name}: is in the manifest, but not in the tree")
    return {"counts": list(manifest.counts)}


STEPS: dict[str, Callable[[Path, int, int], dict[str, Any]]] = {
    "generate": generate,
    "list": list_images,
    "open": open_beton,
    "manifest": load_manifest,
}


def measure(command: list[str]) -> dict[str, Any]:
    """Run a command; return its seconds, CPU seconds, peak memory in MB, and the JSON of its last output line."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)  # unlike Popen.wait, it reports the usage of this child alone
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: failed with exit code {process.returncode}")
    last = (output.strip().splitlines() or [""])[-1]
    facts = json.loads(last) if last.startswith("{") else {}
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": round(usage.ru_maxrss / 1024),
        **facts,
    }


def run(work: Path, images: int, classes: int) -> dict[str, Any]:
    """Run all steps and print each result as it comes."""

    def step(name: str) -> list[str]:
        sizes = ["--images", str(images), "--classes", str(classes)]
        return [sys.executable, __file__, "--step", name, "--work", str(work), *sizes]

    beton = work / "out.beton"
    write = [
        sys.executable,
        "-c",
        "from fastdc.cli.main import main; main()",
        "write-beton",
        str(work / "tree"),
        str(beton),
    ]
    results: dict[str, Any] = {"images": images, "classes": classes}
    for name, command in (
        ("generate", step("generate")),
        ("list", step("list")),
        ("write", write),
        ("open", step("open")),
        ("manifest", step("manifest")),
    ):
        results[name] = measure(command)
        if name == "write":
            results[name] |= {
                "images_per_second": round(images / results[name]["seconds"]),
                "beton_bytes": beton.stat().st_size,
                "manifest_bytes": beton.with_suffix(".json").stat().st_size,
            }
        if name in ("list", "open", "manifest"):
            check_counts(name, results[name], images, classes)
        print(f"{name:9}", ", ".join(f"{key} {value:,}" for key, value in results[name].items()), flush=True)
    # A child inherits the peak of the process that it was forked from, so this is a lower bound of all figures.
    results["own_peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return results


def check_counts(name: str, result: dict[str, Any], images: int, classes: int) -> None:
    """Check a step's images per class against those made; replace its `counts` by the two totals."""
    found, made = result.pop("counts"), [count_class(label, images, classes) for label in range(classes)]
    if len(found) != classes:
        raise SystemExit(f"{name}: found {len(found)} classes, expected {classes}")
    for label, (count, expected) in enumerate(zip(found, made, strict=True)):
        if count != expected:
            raise SystemExit(f"{name}: found {count} images in class {label}, expected {expected}")
    result |= {"images": sum(found), "classes": len(found)}


def main() -> None:
    """Run one step with --step, else all of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--classes", type=int, default=CLASSES)
    parser.add_argument("--work", type=Path, help="folder for the tree; a new one inside it is made and removed")
    parser.add_argument("--step", choices=list(STEPS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not 1 <= arguments.classes <= arguments.images:
        parser.error(f"{arguments.images} images in {arguments.classes} classes, expected at least one in each")
    if arguments.step:
        start = time.perf_counter()
        facts = STEPS[arguments.step](arguments.work, arguments.images, arguments.classes)
        print(json.dumps({"step_seconds": round(time.perf_counter() - start, 2), **facts}))
        return
    work = Path(tempfile.mkdtemp(prefix="fastdc-scale-", dir=arguments.work))
    try:
        print(json.dumps(run(work, arguments.images, arguments.classes)))
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
