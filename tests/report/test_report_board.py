"""The leaderboard, the charts and the table of classes on the page."""

import re
from pathlib import Path
from typing import Any

import pytest

from fastdc.report.page.document import make_page
from fastdc.report.page.run_details import COLUMNS, POINTS, Course, per_class, reader
from fastdc.report.rows import make_rows
from fastdc.sweep.store.results import Record
from tests.report.test_report_page import Sweep, label, summary


def chart(page: str, caption: str) -> str:
    """Return the chart under a caption, as SVG text."""
    found = re.search(rf"<figcaption>{caption}.*?</svg>", page, re.DOTALL)
    assert found is not None
    return found[0]


def places(svg: str) -> dict[str, float]:
    """Return the horizontal position of each method's point."""
    marks = re.findall(r'class="mark[^"]*" data-note="(\w+), IPC.*?class="touch" cx="([\d.]+)"', svg)
    return {method: float(x) for method, x in marks}


def test_labels_count_among_stored_bytes_and_online_ones_are_outlines(tmp_path: Path) -> None:
    made = Sweep(tmp_path)
    made.add("stored", 0, 40.0, image_bytes=20_000, label_bytes=80_000, labels="stored")
    made.add("online", 0, 41.0, image_bytes=90_000, label_bytes=0, labels="online")
    made.add("full", 0, 85.0, ipc=None)
    svg = chart(make_page(made.store, tmp_path), "Accuracy against stored bytes")
    assert places(svg)["stored"] > places(svg)["online"]
    assert re.findall(r'class="mark( hollow)?" data-note="(\w+),', svg) == [(" hollow", "online"), ("", "stored")]
    assert svg.count('class="reference"') == 1
    assert "dashed: whole set" in svg


def test_spans_contain_the_spread_of_every_row(tmp_path: Path) -> None:
    made = Sweep(tmp_path)
    for seed in range(3):
        made.add("wide", seed, 50.0 + 10 * seed)
        made.add("narrow", seed, 40.0 + seed)
    page = make_page(made.store, tmp_path)
    ends = [float(end) for pair in re.findall(r'<line x1="([\d.]+)" x2="([\d.]+)" y1="6"', page) for end in pair]
    assert (min(ends), max(ends)) == (4.0, 96.0)


@pytest.mark.parametrize(("other", "tied"), [(43.0, True), (10.0, False)])
def test_a_table_without_significant_differences_states_it(tmp_path: Path, other: float, tied: bool) -> None:
    made = Sweep(tmp_path)
    for seed in range(2):
        made.add("one", seed, 44.0 + seed)
        made.add("other", seed, other + seed)
    page = make_page(made.store, tmp_path)
    assert ("No two of these can be distinguished with so few seeds" in page) == tied
    assert page.count("<b>") == 1


def test_a_long_curve_keeps_its_shape_and_end() -> None:
    curve = [{"epoch": k, "loss": 300.0 - k, "top1": 100.0 if k == 299 else 0.0} for k in range(300)]

    class Details:
        def detail(self, key: str) -> dict[str, Any]:
            return {"curve": curve}

    record = Record("k", label("random", 0), "done", None, summary(40.0), 1.0)
    course = reader(Details(), {})([record])  # type: ignore[arg-type]
    assert len(course.loss) <= POINTS + 1
    assert course.top1[-1] == (300.0, 100.0)
    assert all(x + y == pytest.approx(301) for x, y in course.loss)


def test_a_class_without_validation_images_is_no_column() -> None:
    rows = make_rows([Record(name, label(name, 0), "done", None, summary(40.0), 1.0) for name in ("random", "el2n")])
    found = [(row, number, Course([40.0, None, 0.0 + number], [], [])) for number, row in enumerate(rows)]
    heat = per_class(found, ["a", "b", "c"])
    assert heat is not None
    assert (heat.classes, heat.of) == (["a", "c"], 3)
    assert [text for text, _ in heat.lines[1][1]] == ["+0.0", "\u22121.0"]


def test_the_classes_that_differ_most_are_shaded_by_difference() -> None:
    rows = make_rows([Record(name, label(name, 0), "done", None, summary(40.0), 1.0) for name in ("random", "el2n")])
    count = 3 * COLUMNS
    far = {5: 17.0, 7: -17.0, 50: 2.0}
    other = [40.0 + far.get(index, 0.0) for index in range(count)]
    values = {"random": [40.0] * count, "el2n": other}
    found = [(row, number, Course(values[row.method], [], [])) for number, row in enumerate(rows)]
    heat = per_class(found, [f"c{index}" for index in range(count)])
    assert heat is not None
    assert (len(heat.classes), heat.of, heat.baseline) == (COLUMNS, count, "random")
    assert {"c5", "c7", "c50"} <= set(heat.classes)
    shown = dict(zip(heat.classes, heat.lines[1][1], strict=True))
    assert [shown[name] for name in ("c5", "c7", "c50")] == [("+17.0", 5), ("\u221217.0", -5), ("+2.0", 1)]
