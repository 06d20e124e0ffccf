"""Make the figures of the study: accuracies of each question, accuracy against epochs, entropy against crops."""

import re
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import NamedTuple

from studies import svg
from studies.cells import heading
from studies.entropies import Entropy
from studies.results import Result, tables_of
from studies.specs import Question, Table


class Figure(NamedTuple):
    """File of `figures/`: its name, the id of its question, a description, and its text."""

    name: str
    question: str
    alt: str
    text: str


def figures(questions: Sequence[Question], results: Sequence[Result], entropies: Sequence[Entropy]) -> list[Figure]:
    """Return every figure for which there are rows or entropies."""
    found = []
    for question in questions:
        found += [*_accuracies(question, results), *_curves(question, results)]
        found += list(_entropies(question, entropies)) if question.entropy else []
    return found


def _accuracies(question: Question, results: Sequence[Result]) -> Iterator[Figure]:
    lines: list[svg.Dot] = []
    for spec in question.tables:
        for shared, table in tables_of(results, spec):
            dots = [_dot(spec, line) for line in table if line.runs]
            lines += [svg.Dot(heading(shared)), *dots] if dots else []
    if lines:
        title = f"{question.id}. {question.title}"
        text = svg.dots(title, "top-1 % after the last epoch; mean and 95 % interval over seeds", lines)
        yield Figure(f"{question.id}-accuracy.svg", question.id, "Accuracy of each row, with its interval", text)


def _dot(spec: Table, line: Result) -> svg.Dot:
    mean = line.mean()
    assert mean is not None
    return svg.Dot(f"{_name(spec, line)} (n = {mean.n})", mean.mean, mean.half)


def _name(spec: Table, line: Result) -> str:
    return heading({axis: line.axes[axis] for axis in spec.lines}).replace("`", "")


def _curves(question: Question, results: Sequence[Result]) -> Iterator[Figure]:
    tables = [(spec, found) for spec in question.tables if spec.curves for found in tables_of(results, spec)]
    for spec, (shared, table) in tables:
        series = [svg.Line(f"{_name(spec, line)} (n = {len(line.runs)})", _curve(line)) for line in table if line.runs]
        if any(len(one.points) > 1 for one in series):
            title = f"Accuracy against epochs: {heading(shared)}"
            text = svg.lines(title, ("epochs", "top-1 %, mean over seeds"), series)
            yield Figure(f"{question.id}-epochs-{_slug(heading(shared))}.svg", question.id, title, text)


def _curve(line: Result) -> list[tuple[float, float]]:
    """Return epochs trained and mean accuracy, for epochs at which every seed was validated; rows count from 0."""
    curves = [{point["epoch"]: point["top1"] for point in row["detail"]["curve"]} for row in line.runs.values()]
    common = sorted(set.intersection(*map(set, curves)))
    return [(epoch + 1, fmean(curve[epoch] for curve in curves)) for epoch in common]


def _entropies(question: Question, entropies: Sequence[Entropy]) -> Iterator[Figure]:
    for network in sorted({each.network for each in entropies}):
        series: dict[str, list[tuple[float, float]]] = {}
        for each in sorted(entropies, key=lambda each: 1 - each.area):
            if each.network == network:
                crops = "" if each.crops == "image" else f", crops: {each.crops}"
                name = f"{each.method}, IPC {each.ipc}{crops}"
                series.setdefault(name, []).append((100 * (1 - each.area), each.entropy))
        drawn = [svg.Line(name, points) for name, points in sorted(series.items())]
        title = f"Entropy under {network}"
        text = svg.lines(title, ("share of the area that a crop cuts away, %", "mean entropy, nats"), drawn)
        yield Figure(f"{question.id}-entropy-{_slug(network)}.svg", question.id, title, text)


def _slug(text: str) -> str:
    """Return a text as part of a file name; it depends on the text alone, so names are stable."""
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")
