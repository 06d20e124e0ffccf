"""Run the study's blocks, keep every finished row as text, and draw tables, claims and figures from these rows.

    python benchmarks/study.py run [--study DIR] [--blocks 1,2] [--hours 2]
    python benchmarks/study.py draw|export [--study DIR]
    python benchmarks/study.py verify N [--study DIR] [--seed 0] [--workdir DIR]
    python benchmarks/study.py entropy [--study DIR] [--teacher NAME] [--seeds 0-2]

DIR/study.yaml lists the runs. `run` resumes where it stopped, and writes finished rows to DIR/rows.jsonl and
DIR/rows.csv after every seed. A new machine needs only the data and rows.jsonl, because rows in it are not trained
again. `draw` reads the text files of DIR and no beton. `export` writes the rows of a store that a killed run left.
`verify` trains N rows again from scratch. `entropy` measures how certain a trained network is about each method's
images.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from studies.drawing import draw

from fastdc.common.errors import ConfigError, FastDCError
from fastdc.common.settings import expand_numbers

STUDY = Path(__file__).resolve().parent / "results" / "imagenette64"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; bad input gives one line on stderr and code 2."""
    options = _parser().parse_args(arguments)
    try:
        return _act(options)
    except FastDCError as error:
        print(f"study: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"study: {error.filename}: {error.strerror}; check path and permissions", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _act(options: argparse.Namespace) -> int:
    if options.action == "draw":
        print(f"{options.study}: {', '.join(draw(options.study))}")
        return 0
    if options.action == "verify":
        from studies.verifying import verify

        return verify(options.study, options.count, options.seed, options.workdir)
    if options.action == "entropy":
        from studies.measuring import measure

        return measure(options.study, options.teacher, _numbers("--seeds", options.seeds))
    from studies.running import export_all, run

    if options.action == "export":
        return export_all(options.study)
    return run(options.study, set(_numbers("--blocks", options.blocks)), options.hours)


def _numbers(option: str, text: str) -> list[int]:
    try:
        return expand_numbers(text) if text else []
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    options = {name: actions.add_parser(name) for name in ("run", "export", "draw", "verify", "entropy")}
    for each in options.values():
        each.add_argument("--study", type=Path, default=STUDY, metavar="DIR")
    options["run"].add_argument("--blocks", default="", help="numbers of blocks, all by default")
    options["run"].add_argument("--hours", type=float, default=1000.0, help="begin no further seed after so many hours")
    options["verify"].add_argument("count", type=int, metavar="N", help="rows that are trained again")
    options["verify"].add_argument("--seed", type=int, default=0, help="of the choice of rows")
    options["verify"].add_argument("--workdir", type=Path, help="a new folder that is kept; else one that is removed")
    options["entropy"].add_argument("--teacher", default="efficientnet_lite0", help="as of `fastdc evaluate`")
    options["entropy"].add_argument("--seeds", default="0-2", help="of the sets whose images are measured")
    return parser


if __name__ == "__main__":
    sys.exit(main())
