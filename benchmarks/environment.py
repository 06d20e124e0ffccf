"""Measure the cost of a CPU cell's environment: how OpenMP threads wait, and how malloc returns memory.

    python benchmarks/environment.py [--repeat 5] [--epochs 60] [--beside 0,1] [--only spinning|memory]
    python benchmarks/environment.py --data data/imagenette --arch resnet18 --image-size 64 --epochs 3

Each variant trains one cell in its own process, and the variants take turns. The default cell is a ConvNet of 32
channels on 10 random images per class of Fashion-MNIST, 28 px, all CPUs; it needs the data of `make demo`.
`--beside 1` runs an equal training next to each cell, as on a shared host. The tables show the median (min to max) of
wall and CPU seconds. All variants must give the same accuracy.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from harness.machine import describe_machine
from harness.process import describe_end

DATA = Path(__file__).resolve().parent.parent / "data" / "fashion_mnist"
SPINNING = {
    "spin 300,000 (libgomp's default)": {"GOMP_SPINCOUNT": "300000"},
    "spin 10,000": {"GOMP_SPINCOUNT": "10000"},
    "spin 1,000": {"GOMP_SPINCOUNT": "1000"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
}
MEMORY = {
    "malloc's default": {"FASTDC_MALLOC": "default"},
    "keep freed memory (fastdc)": {},
}


class Figure(NamedTuple):
    """Measurements of one run: wall and CPU seconds of training, and its accuracy in percent."""

    wall: float
    cpu: float
    top1: float


def train(subset: Path, val: Path, epochs: int, arch: str, image_size: int) -> Figure:
    """Train one cell in this process; a short training first keeps imports and compilation out of the figures."""
    from fastdc.train import EvaluateSettings, get_protocol
    from fastdc.train.evaluation import evaluate

    def once(length: int) -> Figure:
        wall, cpu = time.perf_counter(), time.process_time()
        protocol = get_protocol("hard-small", {"epochs": length, "validate_every": length})
        result = evaluate(subset, val, EvaluateSettings(protocol=protocol, arch=arch, seed=0, image_size=image_size))
        return Figure(time.perf_counter() - wall, time.process_time() - cpu, result.top1)

    once(1)
    return once(epochs)


def start(arguments: list[str], variables: dict[str, str]) -> "subprocess.Popen[str]":
    """Start a training in its own process."""
    chosen = {name for variant in (*SPINNING.values(), *MEMORY.values()) for name in variant}
    environment = {name: value for name, value in os.environ.items() if name not in chosen} | variables
    command = [sys.executable, __file__, "--child", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def measure(arguments: list[str], variables: dict[str, str], beside: int) -> Figure:
    """Run one training, and `beside` equal ones next to it until it ends.

    Raises:
        SystemExit: the training failed; names how it ended. Its own messages are on stderr.
    """
    with ExitStack() as stack:
        for _ in range(beside):
            other = stack.enter_context(start([*arguments, "--forever"], variables))
            stack.callback(other.kill)
        child = stack.enter_context(start(arguments, variables))
        text, _ = child.communicate(timeout=900)
    if child.returncode:
        raise SystemExit(f"training with variables {variables}: {describe_end(child.returncode, '')}")
    return Figure(*json.loads(text.splitlines()[-1]))


def show(name: str, figures: list[Figure]) -> None:
    """Print one line of the table."""
    columns = []
    for values in ([figure.wall for figure in figures], [figure.cpu for figure in figures]):
        columns.append(f"{median(values):6.1f} ({min(values):.1f} to {max(values):.1f})")
    print(f"{name:<34} {columns[0]:>24} {columns[1]:>24}   {figures[0].top1:.2f}", flush=True)


def compare(arguments: list[str], variants: dict[str, dict[str, str]], beside: int, repeat: int) -> None:
    """Print a table of all variants, run in turns.

    Raises:
        SystemExit: two variants give different accuracies.
    """
    print(f"\n{beside} trainings beside it, n = {repeat}\n{'':<34} {'wall s':>24} {'CPU s':>24}   top-1 %")
    figures: dict[str, list[Figure]] = {name: [] for name in variants}
    for _ in range(repeat):
        for name, variables in variants.items():
            figures[name].append(measure(arguments, variables, beside))
    for name, found in figures.items():
        show(name, found)
    accuracies = {figure.top1 for found in figures.values() for figure in found}
    if len(accuracies) > 1:
        raise SystemExit(f"the environment changes results: {sorted(accuracies)}")


def main() -> None:
    """Print the tables, or run one training as a child."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--beside", default="0,1")
    parser.add_argument("--only", choices=("spinning", "memory"))
    parser.add_argument("--data", type=Path, default=DATA, help="folder of train.beton and val.beton")
    parser.add_argument("--arch", default="convnet_w32")
    parser.add_argument("--image-size", type=int, default=28)
    parser.add_argument("--child", nargs=2, metavar=("SUBSET", "VAL"), help=argparse.SUPPRESS)
    parser.add_argument("--forever", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_child(Path(options.child[0]), Path(options.child[1]), options)
        return
    print(json.dumps(describe_machine()))
    with tempfile.TemporaryDirectory() as folder:
        from fastdc import compress_beton

        subset = Path(folder) / "random.beton"
        side, source = options.image_size, options.data / "train.beton"
        compress_beton("random", source, subset, ipc=10, seed=0, image_size=side, workdir=Path(folder))
        arguments = [str(subset), str(options.data / "val.beton"), "--epochs", str(options.epochs)]
        arguments += ["--arch", options.arch, "--image-size", str(side)]
        tables = {"spinning": SPINNING, "memory": MEMORY}
        for beside in map(int, options.beside.split(",")):
            for name in [options.only] if options.only else tables:
                compare(arguments, tables[name], beside, options.repeat)


def run_child(subset: Path, val: Path, options: Any) -> None:
    """Train once and print the figure, or train until the process is killed."""
    work = partial(train, subset, val, options.epochs, options.arch, options.image_size)
    while options.forever:
        work()
    print(json.dumps(work()))


if __name__ == "__main__":
    main()
