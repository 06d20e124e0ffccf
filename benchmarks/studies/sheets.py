"""Write the study's tables, effects and claims as CSV."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from fastdc.report.escape import csv_text
from studies.cells import Study, heading, side_name
from studies.results import Result, baseline_of, compare, contrast, tables_of
from studies.rows import split_method
from studies.specs import Table

DIGITS = 6
"""Decimals of numbers, because the last bits of an interval depend on the machine's mathematical library."""


def tables_csv(study: Study) -> str:
    """Return every line of every table, with its question."""
    return csv_of(
        {"question": question.id, **_values(study, spec, line)}
        for question in study.questions.questions
        for spec in question.tables
        for _, lines in tables_of(study.results, spec)
        for line in lines
    )


def _values(study: Study, spec: Table, line: Result) -> dict[str, Any]:
    method, settings = split_method(str(line.axes["method"]))
    mean, best, shown = line.mean(), line.mean("top1_best"), line.shown
    compared = compare(line, baseline_of(study.results, line, spec.baseline)).pairs
    return {
        **{axis: value for axis, value in line.axes.items() if axis not in ("method", "observer")},
        "method": csv_text(method),
        "settings": csv_text(settings),
        "n": len(line.runs),
        "asked": len(line.seeds),
        "top1_mean": number(mean and mean.mean),
        "top1_half": number(mean and mean.half),
        "top1_best_mean": number(best and best.mean),
        "baseline": spec.baseline["method"],
        **_paired_values(compared),
        "image_bytes": shown and shown.image_bytes,
        "label_bytes": shown and shown.label_bytes,
        "observer": line.axes["observer"],
        "reduced": "; ".join(shown.reduced) if shown else "",
    }


def _paired_values(pairs: Any) -> dict[str, Any]:
    names = {"difference": "mean", "low": "low", "high": "high"}
    return {
        "pairs": pairs.n if pairs else 0,
        **{name: number(getattr(pairs, field)) if pairs else None for name, field in names.items()},
    }


def claims_csv(study: Study) -> str:
    """Return every claim with its numbers and verdict."""
    return csv_of(
        {
            "claim": each.claim.name,
            "statement": each.claim.statement,
            "column": heading(study.claims.column | each.claim.column),
            "a": side_name(each.claim.a).replace("`", ""),
            "direction": each.claim.direction,
            "b": side_name(each.claim.b).replace("`", ""),
            **_paired_values(each.found.pairs),
            "p": number(each.p),
            "p_holm": number(each.adjusted),
            "verdict": each.verdict,
            "why": each.why,
        }
        for each in study.judged
    )


def effects_csv(study: Study) -> str:
    """Return every contrast of the questions with its numbers."""
    return csv_of(
        {
            "question": question.id,
            "effect": each.name,
            "column": heading(study.questions.column | each.column),
            "a": side_name(each.a).replace("`", ""),
            "b": side_name(each.b).replace("`", ""),
            **_paired_values(contrast(study.results, study.questions.column, each).pairs),
        }
        for question in study.questions.questions
        for each in question.contrasts
    )


def csv_of(lines: Iterable[Mapping[str, Any]]) -> str:
    lines, text = list(lines), io.StringIO()
    if not lines:
        return ""
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def number(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
