"""Judge every claim from the rows, with Holm's correction over all claims of claims.yaml."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from fastdc.report.paired_tests import holm, seeds_for_claims
from studies.results import Compared, Result, contrast
from studies.specs import Claim, Claims

Verdict = Literal["supported", "contradicted", "not decided", "not run"]


class Judged(NamedTuple):
    """Claim with its verdict.

    Attributes:
        p: exact two-sided permutation p; None with fewer pairs than a verdict needs. adjusted: p adjusted by Holm.
        why: why there is no verdict; empty if the claim is decided.
    """

    claim: Claim
    found: Compared
    p: float | None
    adjusted: float | None
    verdict: Verdict
    why: str


def judge(results: Sequence[Result], spec: Claims) -> list[Judged]:
    """Return every claim with its verdict.

    The family is all claims of the file. A claim without a test yet counts with p = 1, so that verdicts do not depend
    on which claims run first.
    """
    found = [contrast(results, spec.column, claim, spec.seeds) for claim in spec.claims]
    p_values = [_p(each, spec.pairs) for each in found]
    adjusted = holm([1.0 if p is None else p for p in p_values])
    return [
        _judged(claim, each, p, None if p is None else by_holm, spec)
        for claim, each, p, by_holm in zip(spec.claims, found, p_values, adjusted, strict=True)
    ]


def _p(found: Compared, needed: int) -> float | None:
    return found.pairs.p if found.pairs is not None and found.pairs.n >= needed else None


def _judged(claim: Claim, found: Compared, p: float | None, adjusted: float | None, spec: Claims) -> Judged:
    pairs = found.pairs
    if pairs is None:
        return Judged(claim, found, p, adjusted, "not run", absent(found))
    if p is None or adjusted is None:
        return Judged(claim, found, p, adjusted, "not decided", f"{pairs.n} of {spec.pairs} paired seeds")
    if adjusted >= spec.level:
        return Judged(claim, found, p, adjusted, "not decided", _undecided(pairs.n, spec))
    right = (pairs.mean > 0) == (claim.direction == ">")
    return Judged(claim, found, p, adjusted, "supported" if right else "contradicted", "")


def _undecided(pairs: int, spec: Claims) -> str:
    enough = seeds_for_claims(len(spec.claims), spec.level)
    few = f"; {pairs} pairs pass only after other claims have passed, {enough} can pass first"
    return f"adjusted p is not below {spec.level:g}{few if pairs < enough else ''}"


def absent(found: Compared) -> str:
    """Return why two sides share no seed."""
    sides = dict(zip("AB", (found.a, found.b), strict=True))
    unasked = [name for name, side in sides.items() if side is None]
    if unasked:
        return f"study.yaml asks for no rows of {' and '.join(unasked)}"
    missing = [name for name, side in sides.items() if side is not None and not side.runs]
    return f"no rows of {' and '.join(missing)}" if missing else "no seed in common"
