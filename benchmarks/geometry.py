"""Measure seconds and peak memory of every geometry method, each in its own process.

    python benchmarks/geometry.py                                            # 100,000 x 512, 100 classes, 100 per class
    python benchmarks/geometry.py --samples 5200 --classes 4 --outputs 1000  # 4 classes of ImageNet-1K's size: x 250

Features are generated: a Gaussian cloud around each class's centre, non-negative as after a ReLU, stored as float16 in
a mapped file, as an observer's are. D2's starting scores are random, because aggregating a log is another benchmark.
Compilation of the kernels is not counted. Peak memory is the maximum of the process's anonymous memory, sampled every
5 ms, minus its value before the first call. Pages of the mapped files do not count.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from harness.process import describe_end

METHODS = "herding,k_center,moderate,prototypes,ssp,graph_cut,facility_location,d2,craig,gradmatch"


@dataclass(frozen=True)
class MappedPass:
    """Features and outputs in files, behind the interface of an observer's final pass."""

    folder: Path
    samples: int
    width: int
    num_outputs: int

    def features(self) -> np.ndarray:
        return np.memmap(self.folder / "features.f16", np.float16, "r", shape=(self.samples, self.width))

    def outputs(self) -> np.ndarray:
        return np.memmap(self.folder / "outputs.f16", np.float16, "r", shape=(self.samples, self.num_outputs))


@dataclass(frozen=True)
class Mapped:
    """Stand-in for an observation, with the part that a method reads."""

    final: MappedPass


def generate(folder: Path, args: argparse.Namespace) -> None:
    """Write features and outputs, with the classes interleaved."""
    generator = np.random.default_rng(0)
    centers = generator.standard_normal((args.classes, args.width), np.float32)
    with (folder / "features.f16").open("wb") as features, (folder / "outputs.f16").open("wb") as outputs:
        for start in range(0, args.samples, 10_000):
            labels = np.arange(start, min(start + 10_000, args.samples)) % args.classes
            rows = np.maximum(centers[labels] + generator.standard_normal((labels.size, args.width), np.float32), 0)
            features.write(rows.astype(np.float16).tobytes())
            logits = generator.standard_normal((labels.size, args.outputs), np.float32)
            logits[np.arange(labels.size), labels] += np.float32(np.log(args.outputs) + 1)
            powers = np.exp(logits)
            outputs.write((powers / powers.sum(axis=1, keepdims=True)).astype(np.float16).tobytes())


def context_over(final: MappedPass, classes: int) -> Any:
    """Return a method's context over the files."""
    from fastdc.methods import MethodContext

    return MethodContext(
        labels=np.arange(final.samples) % classes,
        classes=tuple(map(str, range(classes))),
        image_size=224,
        image=cast(Any, None),
        observations=(cast(Any, Mapped(final)),),
    )


def own_memory() -> int:
    """Return the anonymous resident memory of this process in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


class Peak:
    """Context manager that samples `own_memory` in a thread."""

    def __enter__(self) -> "Peak":
        self.start = self.highest = own_memory()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self.highest = max(self.highest, own_memory())

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def child(name: str, folder: Path, args: argparse.Namespace) -> None:
    """Run one method and print its numbers as JSON."""
    import fastdc.methods.pruning.d2 as d2
    from fastdc.methods import get_method

    scores = np.random.default_rng(1).random(args.samples)
    # Random scores replace the aggregation of a log, which is not measured here.
    cast(Any, d2).initial_scores = lambda context, name: scores[: context.labels.size]
    method = get_method(name)
    config = method.configure(json.loads(args.set))
    small = context_over(MappedPass(folder, 64, args.width, args.outputs), 2)
    method.compress(small, config, 2, 0)  # compiles the kernels
    whole = context_over(MappedPass(folder, args.samples, args.width, args.outputs), args.classes)
    seconds: list[float] = []
    with Peak() as peak:
        while len(seconds) < args.repeat and (not seconds or sum(seconds) + max(seconds) < args.most_seconds):
            start = time.perf_counter()
            chosen = method.compress(whole, config, args.ipc, 0).sources[:, 0]
            seconds.append(time.perf_counter() - start)
    assert np.unique(chosen).size == args.ipc * args.classes
    print(json.dumps({"method": name, "seconds": seconds, "peak_bytes": peak.highest - peak.start}))


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--outputs", type=int, default=100, help="width of the softmax")
    parser.add_argument("--ipc", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--most-seconds", type=float, default=60, help="repeat no more than fits")
    parser.add_argument("--set", default="{}", help="settings of the method, as JSON")
    parser.add_argument("--folder", type=Path, help="where generated files are kept; else a temporary folder")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def measure(name: str, folder: Path, argv: list[str]) -> dict[str, Any]:
    """Run one method in its own process and return its numbers.

    Raises:
        SystemExit: the process failed; names how it ended.
    """
    command = [sys.executable, __file__, *argv, "--folder", str(folder), "--child", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {describe_end(done.returncode, done.stderr)}")
    return cast(dict[str, Any], json.loads(done.stdout.splitlines()[-1]))


def main(argv: list[str]) -> None:
    """Print the table of all methods, or run one of them as a child."""
    args = parse(argv)
    if args.child:
        child(args.child, args.folder, args)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        generate(folder, args)
        print(f"{args.samples} x {args.width}, {args.classes} classes, {args.outputs} outputs, {args.ipc} per class")
        print(f"{'method':20}{'seconds':>9}{'lowest':>9}{'highest':>9}{'n':>3}{'peak MiB':>10}")
        rows = []
        for name in args.methods.split(","):
            row = measure(name, folder, argv)
            rows.append(row)
            times = row["seconds"]
            print(
                f"{name:20}{statistics.median(times):9.2f}{min(times):9.2f}{max(times):9.2f}{len(times):3}"
                f"{row['peak_bytes'] / 2**20:10.0f}",
                flush=True,
            )
    if args.json:
        args.json.write_text(json.dumps({"shape": vars(args) | {"folder": None, "json": None}, "rows": rows}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
