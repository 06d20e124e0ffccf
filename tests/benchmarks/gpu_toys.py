"""Sections that measure nothing, each ending in its own way. Run in processes of the GPU check."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from gpu_sections.findings import Absent, Fact, Finding, Found
from gpu_sections.setup import Setup


def good(setup: Setup) -> Iterator[Finding]:
    """A number below 5 and a reason."""
    yield Fact("device", setup.device)
    yield Found("small", 3.0)
    yield Absent("rare", "no such machine")


def large(_setup: Setup) -> Iterator[Finding]:
    """A number above 5."""
    yield Found("small", 7.0)


def crash(_setup: Setup) -> Iterator[Finding]:
    """Half of the findings."""
    yield Found("small", 1.0)
    raise ValueError("broken on purpose")


def silent(_setup: Setup) -> Iterator[Finding]:
    """An end without a number."""
    yield Fact("nothing", None)


def hang(setup: Setup) -> Iterator[Finding]:
    """A child that would outlive the section."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(setup.work, "child").write_text(str(child.pid))
    yield Found("small", 2.0)
    time.sleep(600)
