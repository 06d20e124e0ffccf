"""What a section reports, one JSON line each, so that nothing is lost if its process ends early."""

import json
from pathlib import Path
from typing import Any, NamedTuple


class Fact(NamedTuple):
    """Value without a bound."""

    name: str
    value: Any


class Found(NamedTuple):
    """Number that decides a claim."""

    claim: str
    number: float


class Absent(NamedTuple):
    """Reason why a claim has no number here."""

    claim: str
    reason: str


Finding = Fact | Found | Absent


class Findings(NamedTuple):
    """All that a section reported, whether or not it reached its end.

    Attributes:
        facts: value by name. found: number by claim. absent: reason by claim without a number.
    """

    facts: dict[str, Any]
    found: dict[str, float]
    absent: dict[str, str]


def to_line(finding: Finding) -> str:
    """Return a finding as one line."""
    return json.dumps([type(finding).__name__, *finding]) + "\n"


def read_findings(path: Path) -> Findings:
    """Return the findings in a file of lines; none if it does not exist. A line that was cut off is dropped."""
    findings = Findings({}, {}, {})
    kinds: dict[str, dict[str, Any]] = {"Fact": findings.facts, "Found": findings.found, "Absent": findings.absent}
    text = path.read_text() if path.exists() else ""
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):
            kind, name, value = json.loads(line)
            kinds[kind][name] = value
    return findings
