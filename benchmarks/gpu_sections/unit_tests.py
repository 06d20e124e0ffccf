"""The tests of `tests/gpu`, by pytest: on CUDA those that need it, on the CPU the others."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from gpu_sections.findings import Absent, Fact, Finding, Found
from gpu_sections.setup import Setup

CHECKOUT = Path(__file__).resolve().parents[2]


def check(setup: Setup) -> Iterator[Finding]:
    """Run them and count."""
    if not (CHECKOUT / "tests" / "gpu").is_dir():
        for claim in ("tests-failed", "tests-run"):
            yield Absent(claim, "tests/gpu is not here")
        return
    report = setup.folder / "tests.xml"
    # Plug-ins of the machine's own pytest could change what runs.
    variables = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "tests/gpu", "-q", "-p", "pytest_timeout", "-p", "no:cacheprovider"]
    command += ["-m", "gpu" if setup.on_cuda else "not gpu", f"--junitxml={report}"]
    # By a signal, which fails one test; the project's own method would end pytest before its report.
    command += ["--timeout-method=signal", f"--timeout={setup.seconds / 2:.0f}"]
    code = subprocess.run(command, cwd=CHECKOUT, env=variables, check=False).returncode
    if not report.exists():
        raise RuntimeError(f"pytest ended with code {code} and wrote no report")
    failed, run, skipped = outcomes(report)
    yield Fact("failed", failed)
    yield Fact("skipped", skipped)
    yield Found("tests-failed", len(failed))
    yield Found("tests-run", run)


def outcomes(report: Path) -> tuple[dict[str, str], int, int]:
    """Return the failed tests of a JUnit report with their messages, the number that ran, and the number skipped."""
    cases = list(ElementTree.parse(report).iter("testcase"))
    failed = {}
    for case in cases:
        for problem in (*case.iter("failure"), *case.iter("error")):
            failed[f"{case.get('classname')}.{case.get('name')}"] = problem.get("message", "")[:300]
    skipped = sum(case.find("skipped") is not None for case in cases)
    return failed, len(cases) - skipped, skipped
