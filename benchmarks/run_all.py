"""Run all benchmarks one after the other, as `make bench` does; use an idle machine.

    python benchmarks/run_all.py [--quick] [--device cuda] [--imagenette TAR] [--only TEXT]

Results are benchmarks/out/summary.json, ratios.png, machine.json and one CSV per script. `benchmarks/scale.py` (a
million files) is not included.
"""

import sys
import time

import cell
import kernels
import loader
import patches
import resident
import writer
from harness.script import finish, parse_options, run_script

SCRIPTS = {
    "writer": writer,
    "loader": loader,
    "resident": resident,
    "kernels": kernels,
    "patches": patches,
    "cell": cell,
}


def main() -> None:
    """Run every script; exit with 1 if a contender of fastdc failed to run."""
    start = time.perf_counter()
    options = parse_options(__doc__ or "")
    rows = []
    for name, script in SCRIPTS.items():
        rows += run_script(name, options, script.races)
    code = finish(options, rows)
    print(f"all benchmarks took {(time.perf_counter() - start) / 60:.1f} minutes")
    sys.exit(code)


if __name__ == "__main__":
    main()
