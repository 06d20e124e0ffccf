"""Claims of the GPU check, each with its bound, and the verdict that a measurement gives. Needs only Python itself."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gpu_sections.findings import Findings

Word = Literal["holds", "fails", "not run"]


@dataclass(frozen=True)
class Claim:
    """Statement that one number decides.

    Attributes:
        key: name in findings and reports.
        text: what the number is.
        bound: largest number for which the claim holds, or the smallest if `least`.
        unit: of number and bound.
        least: whether the bound is the smallest number.
        cpu: bound of a run on the CPU; None for a claim that needs CUDA.
    """

    key: str
    text: str
    bound: float
    unit: str
    least: bool = False
    cpu: float | None = None

    def bound_on(self, device: str) -> float | None:
        """Return the bound on a device, or None if the claim needs another device."""
        return self.bound if device == "cuda" else self.cpu

    def holds(self, found: float, device: str) -> bool:
        """Return whether a number is inside the bound; NaN never is."""
        bound = self.bound_on(device)
        assert bound is not None
        return not math.isnan(found) and (found >= bound if self.least else found <= bound)

    def shown(self, device: str) -> str:
        """Return the bound as text; a claim that needs CUDA shows that of CUDA everywhere."""
        bound = self.bound_on(device)
        return f"{'>=' if self.least else '<='} {self.bound if bound is None else bound:g} {self.unit}".strip()


class Verdict(NamedTuple):
    """Outcome of a claim.

    Attributes:
        section, claim: where it was measured, and its key. text, bound: the claim in words.
        found: the number; None if there is none.
        verdict: `not run` never counts as holding.
        reason: why it was not run, or fails without a number.
    """

    section: str
    claim: str
    text: str
    bound: str
    found: float | None
    verdict: Word
    reason: str = ""


def judge(section: str, claim: Claim, device: str, findings: Findings, ended: tuple[Word, str]) -> Verdict:
    """Return the verdict on a claim.

    Args:
        findings: of its section.
        ended: verdict and reason for a claim without a finding, by the way in which the section ended.
    """
    stated = section, claim.key, claim.text, claim.shown(device)
    if claim.bound_on(device) is None:
        return Verdict(*stated, None, "not run", "needs CUDA")
    if claim.key in findings.found:
        found = findings.found[claim.key]
        return Verdict(*stated, found, "holds" if claim.holds(found, device) else "fails")
    if claim.key in findings.absent:
        return Verdict(*stated, None, "not run", findings.absent[claim.key])
    return Verdict(*stated, None, *ended)


def table(verdicts: list[Verdict]) -> str:
    """Return the verdicts as a Markdown table."""
    lines = ["| section | claim | bound | found | verdict |", "|---|---|---|---|---|"]
    for each in verdicts:
        found = "-" if each.found is None else f"{each.found:.4g}"
        word = f"{each.verdict}: {each.reason}" if each.reason else each.verdict
        lines.append(f"| {each.section} | {each.text} | {each.bound} | {found} | {word} |")
    return "\n".join(lines)
