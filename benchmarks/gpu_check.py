"""Check the GPU path in one run of at most eight minutes, on a machine with torch, torchvision, numba and triton.

    make gpu-bundle                                                      # on a machine with a network: 1 minute
    python benchmarks/gpu_check.py --out gpu.json                        # on the machine with the GPU
    python benchmarks/gpu_check.py --device cpu --out cpu.json           # the same sections without one

All else that it needs lies in the bundle: wheels for Python 3.12 and the betons of Fashion-MNIST. Each section runs in
a process with a time limit, and FILE is rewritten after each. The run ends with a verdict on every claim. Exit codes: 0
no claim fails (`not run` is no proof of anything), 1 a claim fails, 2 the bundle cannot be used.
"""

import argparse
import datetime
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from gpu_sections.bundle import BUNDLE, BundleFault, child_environment, open_bundle
from gpu_sections.claims import table
from gpu_sections.report import Report
from gpu_sections.running import run_sections
from gpu_sections.sections import SECTIONS
from gpu_sections.setup import SIZES, Setup, SizesName

MINUTES = 8.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check and return its exit code."""
    options = parse(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="gpu-check-") as work:
            return run(options, Path(work))
    except BundleFault as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the report, rewritten after each section")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help="what make gpu-bundle made")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time of the whole run (default: %(default)g)")
    parser.add_argument("--sizes", choices=tuple(SIZES), help="amount of work (default: full on cuda, small on cpu)")
    parser.add_argument("--only", help="names of sections to run, with commas (default: all)")
    options = parser.parse_args(arguments)
    names = [section.name for section in SECTIONS]
    options.only = options.only.split(",") if options.only else names
    for name in options.only:
        if name not in names:
            parser.error(f"no section {name}, expected some of {', '.join(names)}")
    return options


def run(options: argparse.Namespace, work: Path) -> int:
    """Run the sections, print the verdicts and return the exit code.

    Raises:
        BundleFault: the bundle cannot be used.
    """
    start, bundle = time.monotonic(), open_bundle(options.bundle, work)
    sizes: SizesName = options.sizes or ("full" if options.device == "cuda" else "small")
    subset, val, reference = (str(path) for path in (bundle.subset, bundle.val, bundle.reference))
    setup = Setup(options.device, sizes, subset, val, reference, str(work), 0.0)
    sections = [each for each in SECTIONS if each.name in options.only]
    began = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    wheels = "the bundle's" if bundle.site else "none of the bundle fits this Python: what is installed is used"
    head = {
        **{"device": options.device, "sizes": sizes, "minutes": options.minutes, "began": began},
        **{"python": sys.version.split()[0], "wheels": wheels},
    }
    report = Report(options.out, head, options.device, sections)
    environment = child_environment(options.device, bundle.site)
    for section, ended in run_sections(sections, setup, environment, options.minutes):
        report.add(section, ended)
        print(f"{section.name}: {ended.status}, {ended.seconds:.0f} s {ended.reason}".rstrip(), flush=True)
    counts = ", ".join(f"{count} {word}" for word, count in report.counts.items())
    print(f"\n{table(report.verdicts)}\n\n{counts}; {time.monotonic() - start:.0f} s; kept in {options.out}")
    return int(report.counts["fails"] > 0)


if __name__ == "__main__":
    sys.exit(main())
