"""Accuracy against training epochs on the page: rows that differ only in epochs are one line."""

import random
import re
from pathlib import Path
from typing import Any

import pytest

from fastdc.report.page.document import make_page
from fastdc.report.paired_tests import mean_interval
from fastdc.report.read_results import Committed
from fastdc.sweep.store.results import Record
from tests.report.test_report_board import chart
from tests.report.test_report_page import label, summary

LAST, BEST = "Accuracy against training epochs, last epoch", "Best epoch of each run"


def runs(method: str, protocol: str, epochs: int, top1: float, seeds: int = 3, **changes: Any) -> list[Record]:
    """Return finished runs; the best epoch is 5 above the last."""
    return [
        Record(
            f"{method}{protocol}{changes}{seed}",
            label(method, seed, protocol=protocol, **changes),
            "done",
            None,
            summary(top1 + seed, top1_best=top1 + seed + 5, epochs=epochs),
            0.0,
        )
        for seed in range(seeds)
    ]


def grid() -> list[Record]:
    records = [*runs("random", "soft-small", 300, 50.0), *runs("full", "hard-small", 300, 90.0, 1, ipc=None)]
    for method, more in (("random", 0.0), ("pca", 6.0)):
        for protocol, epochs in (("hard-small*epochs=50", 50), ("hard-small*epochs=1000", 1000), ("hard-small", 300)):
            records += runs(method, protocol, epochs, 30.0 + more + epochs / 100)
    return records


def page_of(records: list[Record]) -> str:
    return make_page(Committed(records), Path("nowhere"))


def notes(svg: str) -> list[str]:
    return re.findall(r'class="mark" data-note="([^"]*)"', svg)


def test_one_line_for_each_method_with_its_interval() -> None:
    page = page_of(grid())
    svg = chart(page, LAST)
    assert svg.count('class="series') == svg.count("<polyline") == 2
    assert 'aria-label="top-1, % against epochs"' in svg
    low, high = mean_interval([36.5, 37.5, 38.5])
    assert notes(svg)[0] == f"pca, IPC 10, 50 epochs: 37.50 % (95 % interval {low:.2f} to {high:.2f}, n = 3)"
    lengths = [re.search(r"(\d+) epochs", note)[1] for note in notes(svg)]  # type: ignore[index]
    assert lengths == ["50", "300", "1000"] * 2
    across = [float(x) for x in re.findall(r'class="touch" cx="([\d.]+)"', svg)]
    assert across[0] < across[1] < across[2]
    assert across[:3] == across[3:]
    assert svg.count('y1="') - svg.count('class="grid"') == 6  # a bar for each point


def test_the_best_epoch_is_shown_separately_and_never_ranked() -> None:
    page = page_of(grid())
    assert "overstated, never ranked" in chart(page, BEST)
    assert [text.partition("%")[0][-6:-1] for text in notes(chart(page, BEST))][:2] == ["42.50", "45.00"]
    assert page.index(LAST) < page.index(BEST)
    assert "42.50" not in page[: page.index(LAST)]  # nor in the leaderboard


def test_protocols_have_separate_charts_that_filters_select() -> None:
    page = page_of(grid())
    assert page.count("<h2>Accuracy against training epochs: tiny: hard-small, convnet_w32") == 1
    section = page[: page.index("<h2>Accuracy against")].rpartition("<section")[2]
    assert re.search(r'data-protocol="1 0 2"', section)
    assert page.count('<table class="board">') == 4 + 1  # four protocols at IPC 10, and the whole set


@pytest.mark.parametrize(
    "records",
    [
        [*runs("random", "hard-small", 300, 50.0), *runs("pca", "hard-small*epochs=50", 50, 50.0)],
        [*runs("random", "hard-small", 300, 50.0), *runs("random", "hard-small*epochs=50", 50, 50.0, ipc=50)],
        [*runs("random", "hard-small", 300, 50.0), *runs("random", "hard*epochs=50", 50, 50.0)],
        [],
    ],
    ids=["other method", "other ipc", "other protocol", "empty"],
)
def test_no_chart_without_rows_that_differ_only_in_epochs(records: list[Record]) -> None:
    assert "Accuracy against training epochs" not in page_of(records)


def test_one_seed_has_no_interval_and_wide_ones_end_at_the_axis() -> None:
    alone = [*runs("random", "hard-small", 300, 99.0, 1), *runs("random", "hard-small*epochs=50", 50, 60.0, 2)]
    svg = chart(page_of(alone), LAST)
    assert "300 epochs: 99.00 % (one seed)" in svg
    bars = re.findall(r'<g class="mark"[^>]*><line x1="[\d.]+" x2="[\d.]+" y1="([-\d.]+)" y2="([-\d.]+)"', svg)
    assert len(bars) == 1
    assert all(0 <= float(end) <= 280 for end in bars[0])


def test_the_order_of_the_runs_does_not_matter() -> None:
    records, pages = grid(), set()
    for seed in range(3):
        random.Random(seed).shuffle(records)
        pages.add(page_of(records))
    assert len(pages) == 1
