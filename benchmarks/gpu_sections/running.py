"""Run sections one after the other, each with a time limit, and rewrite the report after each. Needs only Python."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from gpu_sections.claims import Claim, Verdict, Word, judge
from gpu_sections.findings import Findings, read_findings
from gpu_sections.setup import Setup

LEAST_SECONDS = 5.0
"""With less time left no section is started."""
SLOWER = 3
LOG_LENGTH, REASON_LENGTH = 4000, 300


@dataclass(frozen=True)
class Section:
    """One section of the check.

    Attributes:
        name: in reports. work: "module:function" that takes a `Setup` and yields findings.
        seconds: time limit on a GPU. claims: what it decides.
        stops: whether nothing after it can be measured if one of its claims fails.
        cuda: whether all of it needs CUDA.
    """

    name: str
    work: str
    seconds: float
    claims: tuple[Claim, ...]
    stops: bool = False
    cuda: bool = False

    def limit_on(self, device: str) -> float:
        """Return the time limit in seconds; the CPU, which may be shared, has more."""
        return self.seconds if device == "cuda" else SLOWER * self.seconds


class Ended(NamedTuple):
    """How a section ended.

    Attributes:
        status: `crashed` ended with an error, `hung` outran its own limit, `not run` had too little of the whole time.
        seconds: that it took. reason: empty if done. findings: up to its end. log: end of its output unless done.
    """

    status: Literal["done", "crashed", "hung", "not run"]
    seconds: float
    reason: str
    findings: Findings
    log: str = ""

    @property
    def missing(self) -> tuple[Word, str]:
        """Return verdict and reason of a claim that the section left open."""
        if self.status == "not run":
            return "not run", self.reason
        return "fails", self.reason or "the section ended without a number"


def run_sections(
    sections: Sequence[Section], setup: Setup, environment: Mapping[str, str], minutes: float
) -> Iterator[tuple[Section, Ended]]:
    """Run all sections within a number of minutes; yield each with its end.

    Args:
        environment: variables of their processes.
    """
    end, stopped = time.monotonic() + 60 * minutes, ""
    for section in sections:
        seconds = min(section.limit_on(setup.device), end - time.monotonic())
        reason = stopped or _obstacle(section, setup, seconds, minutes)
        if reason:
            ended = Ended("not run", 0.0, reason, Findings({}, {}, {}))
        else:
            ended = run_section(section, replace(setup, seconds=seconds), environment)
        if section.stops and any(each.verdict == "fails" for each in verdicts_of(section, ended, setup.device)):
            stopped = f"section {section.name} fails"
        yield section, ended


def _obstacle(section: Section, setup: Setup, seconds: float, minutes: float) -> str:
    """Return why a section is not started; empty if it is."""
    if section.cuda and setup.device != "cuda":
        return "needs CUDA"
    return f"the {minutes:g} minutes are used up" if seconds < LEAST_SECONDS else ""


def run_section(section: Section, setup: Setup, environment: Mapping[str, str]) -> Ended:
    """Run a section in a process of its own, and end it with its children at its limit."""
    path, log = (setup.folder / f"{section.name}.{kind}" for kind in ("findings", "log"))
    command = [sys.executable, "-m", "gpu_sections.child", section.work, setup.text(), str(path)]
    start = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
        try:
            code: int | None = process.wait(setup.seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end_group(process)
    return _ended(section, setup, code, time.monotonic() - start, path, log)


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # children that outlive the section too
    process.wait()


def _ended(section: Section, setup: Setup, code: int | None, seconds: float, path: Path, log: Path) -> Ended:
    findings, text = read_findings(path), log.read_text(errors="replace").strip()[-LOG_LENGTH:]
    if code == 0:
        return Ended("done", seconds, "", findings)
    if code is not None:
        last = text.rpartition("\n")[2].strip()[:REASON_LENGTH]
        return Ended("crashed", seconds, f"its process ended with code {code}: {last or 'no output'}", findings, text)
    if setup.seconds < section.limit_on(setup.device):
        left = f"ended after {setup.seconds:.0f} s, which were all that was left"
        return Ended("not run", seconds, left, findings, text)
    return Ended("hung", seconds, f"no end within {setup.seconds:g} s", findings, text)


def verdicts_of(section: Section, ended: Ended, device: str) -> list[Verdict]:
    """Return the verdicts on a section's claims."""
    return [judge(section.name, claim, device, ended.findings, ended.missing) for claim in section.claims]
