"""Compare fastdc's training with rethinkdc, the paper's released evaluator: an exact replay, and separate runs.

    python benchmarks/replay.py exact SUBSET.beton VAL.beton [--labels soft] [--arch NAME] [--epochs N]
    python benchmarks/replay.py seeds SUBSET.beton VAL.beton [--seeds N] [--arch NAME] [--epochs N]

`exact` gives the released code fastdc's batches and first weights. It prints loss, learning rate and top-1 of both for
each epoch. It ends with code 1 if loss or learning rate differ in any bit, or top-1 by more than the released code's
rounding; that code averages percentages in float32. Soft labels come from an untrained network, because equality is
measured and not accuracy. `seeds` exports both sets and trains on them with the released code's own loaders and random
numbers. It prints top-1 of both for each seed, and ends with code 1 if the 95 % interval of their mean difference
excludes 0. All runs are fp32 on one CPU thread. Needs `pip install --no-deps rethinkdc==0.3.2`.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from contenders.released_code import Epoch, is_installed
from contenders.replays import replay, run_separately, train_ours, untrained_teacher

from fastdc.common.errors import ConfigError, FastDCError
from fastdc.report.paired_tests import Paired, paired
from fastdc.subsets.export_beton import export_beton
from fastdc.train import EvaluateSettings, get_protocol

ROUNDING = 1e-4
"""Percentage points between the released code's top-1 and the exact one; an image counts 0.002 of them in ImageNet."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        if not is_installed():
            raise ConfigError("rethinkdc is missing: pip install --no-deps rethinkdc==0.3.2")
        with tempfile.TemporaryDirectory() as name:
            act = exact if options.action == "exact" else seeds
            return 0 if act(options, Path(name)) else 1
    except FastDCError as error:
        print(f"replay: {error}", file=sys.stderr)
        return error.exit_code


def exact(options: argparse.Namespace, folder: Path) -> bool:
    """Print both trainings epoch by epoch, and return whether they are equal."""
    settings, (subset, val) = _settings(options, options.labels, 0), options.betons
    teacher = untrained_teacher(subset) if settings.protocol.soft else None
    export_beton(subset, folder / "set", "rethinkdc")
    ours = train_ours(subset, val, settings, teacher)
    theirs = replay(subset, val, folder / "set" / "train", settings, teacher)
    print("epoch  loss, learning rate, top-1 % of fastdc; what rethinkdc gives instead")
    equal = [_equal(*pair) for pair in zip(ours, theirs, strict=True)]
    for number, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        print(f"{number:5}  {_shown(our)}; {'equal' if equal[number] else _shown(their)}")
    return all(equal)


def _equal(our: Epoch, their: Epoch) -> bool:
    if our.top1 is None or their.top1 is None:
        return our == their
    return (our.loss, our.lr) == (their.loss, their.lr) and abs(our.top1 - their.top1) < ROUNDING


def seeds(options: argparse.Namespace, folder: Path) -> bool:
    """Print the last top-1 of both codes for each seed, and return whether their mean difference may be 0."""
    subset, val = options.betons
    export_beton(subset, folder / "set", "rethinkdc")
    export_beton(val, folder / "val", "folder")
    folders = folder / "set" / "train", folder / "val"
    ours, theirs = [], []
    print("seed  top-1 % of fastdc, of rethinkdc")
    for seed in range(options.seeds):
        settings = _settings(options, "hard", seed)
        ours.append(_last(train_ours(subset, val, settings)))
        theirs.append(_last(run_separately(subset, val, folders, settings)))
        print(f"{seed:4}  {ours[-1]:.2f}  {theirs[-1]:.2f}", flush=True)
    found = paired(ours, theirs)
    print(_difference(found))
    return found.low is None or found.high is None or found.low <= 0 <= found.high


def _settings(options: argparse.Namespace, labels: str, seed: int) -> EvaluateSettings:
    protocol = get_protocol(f"{labels}-small", {"epochs": options.epochs})
    return EvaluateSettings(protocol=protocol, arch=options.arch, seed=seed, precision="fp32", threads=1)


def _shown(epoch: Epoch) -> str:
    return f"{epoch.loss!r}, {epoch.lr!r}, {epoch.top1}"


def _last(epochs: Sequence[Epoch]) -> float:
    top1 = epochs[-1].top1
    assert top1 is not None  # both codes validate after the last epoch
    return top1


def _difference(found: Paired) -> str:
    text = f"fastdc - rethinkdc: {found.mean:+.2f} points, n = {found.n}"
    if found.low is None:
        return text
    return f"{text}, 95 % interval {found.low:+.2f} to {found.high:+.2f}, p {found.p:.3g}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    for name in ("exact", "seeds"):
        options = actions.add_parser(name)
        options.add_argument("betons", type=Path, nargs=2, metavar=("SUBSET.beton", "VAL.beton"))
        options.add_argument("--arch", default="resnet10")
        options.add_argument("--epochs", type=int, default=30)
        if name == "exact":
            options.add_argument("--labels", choices=("hard", "soft"), default="hard")
        else:
            options.add_argument("--seeds", type=int, default=8, help="number of seeds, from 0")
    return parser


if __name__ == "__main__":
    sys.exit(main())
