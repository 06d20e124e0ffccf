"""Time every score method's aggregation of a generated dynamics log of ImageNet's size, against reading its bytes.

    python benchmarks/scores.py --folder /tmp/scores            # 2.8 GB of disk, deleted afterwards
    python benchmarks/scores.py --samples 50000 --repeats 3     # a quick look

Every row times the method's `run_scores` for one observer run: from the files to float64 [N]. "read" reads the bytes
that this method needs from the same files into one reused buffer. "cold" first drops the files from the system's
cache. Figures are medians of `--repeats` runs, warm and cold. A first run, which compiles, is not counted.
"""

import argparse
import os
import resource
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastdc.common.threads import usable_cpus
from fastdc.kernels.scores.fields import FIELDS
from fastdc.kernels.scores.windows import tdds_scores
from fastdc.methods import get_method
from fastdc.methods.bases.score_methods import ScoreMethod
from fastdc.observe.dynamics_log import LOG_NAME, Observation, append_epoch, commit

TDDS_FILE = "steps.f32"
READS: dict[str, tuple[str, ...]] = {
    "el2n": ("el2n",),
    "forgetting": ("margin",),
    "aum": ("margin",),
    "aum[softmax]": ("p_y", "p_other"),
    "ccs": ("margin",),
    "dyn_unc": ("p_y",),
    "dual": ("p_y",),
    "cad_prune": ("p_y",),
    "tdds": (),
}
EPOCHS_READ = {"el2n": (0, 10), "cad_prune": (1, 8)}


def generate(folder: Path, samples: int, epochs: int) -> Observation:
    """Write a log of plausible values, and TDDS steps, in the observer's format."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    difficulty = generator.random(samples, np.float32)
    with (folder / TDDS_FILE).open("wb") as steps:
        for epoch in range(epochs):
            values = np.empty((len(FIELDS), samples), np.float32)
            noise = generator.random((2, samples), np.float32)
            values[0] = np.clip((1 - difficulty) * (epoch + 1) / epochs + 0.2 * noise[0] - 0.1, 0, 1)
            values[1] = (1 - values[0]) * noise[1]
            values[2] = 8 * (values[0] - values[1])
            values[3], values[4] = 3 * (1 - values[0]), 1.4 * (1 - values[0])
            append_epoch(folder, epoch, values)
            if epoch:  # TDDS needs two epochs for a step
                steps.write((values[3] * noise[0]).tobytes())
    observation = Observation(folder, samples, tuple(float(e) for e in range(1, epochs + 1)), {}, 1, 0.0, {})
    commit(observation)
    return observation


def scorers(observation: Observation) -> dict[str, Callable[[], NDArray[np.float64]]]:
    """Return one call for each row of the table."""

    def method_call(name: str, **settings: object) -> Callable[[], NDArray[np.float64]]:
        method = get_method(name)
        assert isinstance(method, ScoreMethod)
        config = method.configure(settings)
        return lambda: method.run_scores(observation, config)

    def tdds() -> NDArray[np.float64]:
        shape = (observation.epochs - 1, observation.num_samples)
        return tdds_scores(np.memmap(observation.folder / TDDS_FILE, "<f4", "r", shape=shape))

    calls = {name: method_call(name) for name in READS if name not in ("tdds", "aum[softmax]")}
    return {**calls, "aum[softmax]": method_call("aum", softmax=True), "tdds": tdds}


def read_bytes(observation: Observation, name: str) -> int:
    """Read the bytes that row `name` needs, epoch by epoch; return their number."""
    samples, total = observation.num_samples, 0
    buffer = memoryview(bytearray(4 * samples))
    first, last = EPOCHS_READ.get(name, (0, observation.epochs))
    with (observation.folder / LOG_NAME).open("rb", buffering=0) as log:
        for field in READS[name]:
            for epoch in range(first, last):
                log.seek(4 * samples * (epoch * len(FIELDS) + FIELDS.index(field)))
                total += log.readinto(buffer) or 0
    if name == "tdds":
        with (observation.folder / TDDS_FILE).open("rb", buffering=0) as steps:
            while count := steps.readinto(buffer):
                total += count
    return total


def seconds(work: Callable[[], object], repeats: int, before: Callable[[], None]) -> list[float]:
    """Return the wall time of each of `repeats` runs; `before` runs untimed before each."""
    taken = []
    for _ in range(repeats):
        before()
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return taken


def forget(observation: Observation) -> None:
    """Ask the system to drop the files from its cache, which requires that they are on disk."""
    for name in (LOG_NAME, TDDS_FILE):
        with (observation.folder / name).open("rb") as handle:
            os.fsync(handle.fileno())
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def peak_mib() -> float:
    """Return the process's largest resident memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(observation: Observation, repeats: int, before: Callable[[], None], title: str) -> None:
    """Print one table."""
    print(f"\n{title}\n{'score':14s} {'seconds':>8s} {'spread':>15s} {'MB read':>8s} {'read s':>8s} {'ratio':>6s}")
    sums = np.zeros(3)
    for name, call in scorers(observation).items():
        taken = seconds(call, repeats, before)
        reading = statistics.median(seconds(lambda name=name: read_bytes(observation, name), repeats, before))  # type: ignore[misc]
        size, median = read_bytes(observation, name) / 1e6, statistics.median(taken)
        sums += median, size, reading
        spread = f"{min(taken):.3f}..{max(taken):.3f}"
        print(f"{name:14s} {median:8.3f} {spread:>15s} {size:8.0f} {reading:8.3f} {median / reading:6.2f}")
    print(f"{'all':14s} {sums[0]:8.3f} {'':>15s} {sums[1]:8.0f} {sums[2]:8.3f} {sums[0] / sums[2]:6.2f}")


def main() -> None:
    """Generate, measure, print, delete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/benchmark_scores"), help="made, and deleted afterwards"
    )
    parser.add_argument("--samples", type=int, default=1_281_167)
    parser.add_argument("--epochs", type=int, default=90)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cold", action="store_true", help="also measure with files that are not in memory")
    options = parser.parse_args()
    observation = generate(options.folder, options.samples, options.epochs)
    try:
        print(f"{options.samples:,} samples x {options.epochs} epochs, n = {options.repeats}, {usable_cpus()} CPUs")
        for call in scorers(generate(options.folder / "small", 1000, options.epochs)).values():
            call()
        start = peak_mib()
        for call in scorers(observation).values():
            call()
        print(f"peak memory: {start:.0f} MiB once compiled, {peak_mib():.0f} MiB after all scores")
        report(observation, options.repeats, lambda: None, "files in the system's cache")
        if options.cold:
            report(observation, options.repeats, lambda: forget(observation), "cold files")
    finally:
        shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
