"""Numbers of the study in README and docs: each interval and each spread follows from the committed rows."""

import csv
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "benchmarks/results/imagenette64"
TEXTS = (
    ("README.md", "## What the study shows", "## Documentation"),
    ("docs/results.md", "## The study: PCA taken apart", "## The demo"),
)
NUMBER = r"[+-]?\d+\.\d+"
INTERVAL = re.compile(rf"({NUMBER}) to ({NUMBER})")
SPREAD = re.compile(rf"({NUMBER}) ± ({NUMBER})")


def section(file: str, start: str, end: str) -> str:
    text = (ROOT / file).read_text()
    return text[text.index(start) : text.index(end)].replace("\n", " ")


def lines_of(name: str) -> Iterator[dict[str, str]]:
    with (STUDY / name).open() as file:
        yield from csv.DictReader(file)


def rounded(values: tuple[float, float], decimals: int) -> tuple[str, ...]:
    """Return the values as text without signs, so that a text may state a difference either way round."""
    return tuple(f"{abs(value):.{decimals}f}" for value in values)


def as_written(pair: tuple[str, str]) -> tuple[int, tuple[str, ...]]:
    return len(pair[0].partition(".")[2]), tuple(value.lstrip("+-") for value in pair)


@pytest.fixture(scope="module")
def intervals() -> set[tuple[str, ...]]:
    """Return the ends of every interval of the tables, effects and claims, at one and two decimals."""
    found = set()
    for name in ("tables.csv", "effects.csv", "claims.csv"):
        for line in lines_of(name):
            if line["low"]:
                ends = float(line["low"]), float(line["high"])
                found |= {rounded(pair, decimals) for pair in (ends, ends[::-1]) for decimals in (1, 2)}
    return found


@pytest.fixture(scope="module")
def spreads() -> set[tuple[str, ...]]:
    """Return mean and sample standard deviation of every row's seeds, at one and two decimals."""
    groups: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for line in lines_of("rows.csv"):
        groups[tuple(line[axis] for axis in ("method", "ipc", "protocol", "arch"))].append(float(line["top1"]))
    several = [values for values in groups.values() if len(values) > 1]
    return {
        rounded((statistics.fmean(values), statistics.stdev(values)), decimals)
        for values in several
        for decimals in (1, 2)
    }


@pytest.mark.parametrize(("file", "start", "end"), TEXTS)
def test_every_interval_is_one_of_the_study(file: str, start: str, end: str, intervals: set[tuple[str, ...]]) -> None:
    """An interval stands in parentheses; its signs are not compared."""
    stated = [
        pair for inside in re.findall(r"\(([^()]*)\)", section(file, start, end)) for pair in INTERVAL.findall(inside)
    ]
    assert len(stated) > 8
    assert [pair for pair in stated if as_written(pair)[1] not in intervals] == []


def test_every_spread_is_one_of_the_study(spreads: set[tuple[str, ...]]) -> None:
    stated = [pair for text in TEXTS for pair in SPREAD.findall(section(*text))]
    assert len(stated) > 8
    assert [pair for pair in stated if as_written(pair)[1] not in spreads] == []
