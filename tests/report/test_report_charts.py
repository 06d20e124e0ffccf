"""Axes and marks of the charts."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdc.report.page.charts import (
    COLOURS,
    HEIGHT,
    LEFT,
    RIGHT,
    WIDTH,
    Point,
    Series,
    curves,
    key,
    linear_axis,
    log_axis,
    scatter,
)

FINITE = st.floats(-1e6, 1e6)
POSITIVE = st.floats(1e-3, 1e13)


@given(st.lists(FINITE, min_size=1, max_size=9))
def test_a_linear_axis_covers_all_values_with_few_ticks(values: list[float]) -> None:
    axis = linear_axis("x", values)
    assert all(-1e-6 <= axis.place(value) <= 1 + 1e-6 for value in values)
    assert 2 <= len(axis.ticks) <= 9
    assert len({text for _, text in axis.ticks}) == len(axis.ticks) or max(values) - min(values) < 1e-3


@given(st.lists(POSITIVE, min_size=1, max_size=9))
def test_a_log_axis_covers_all_values_with_few_ticks(values: list[float]) -> None:
    axis = log_axis("x", values, "{:g}".format)
    assert all(0 < axis.place(value) < 1 for value in values)
    assert 1 <= len(axis.ticks) <= 9
    assert all(0 <= axis.place(tick) <= 1 for tick, _ in axis.ticks)


def test_equal_steps_of_a_log_axis_are_equal_factors() -> None:
    axis = log_axis("IPC", [10, 50, 100], str, [10, 50, 100])
    assert axis.place(100) - axis.place(50) == pytest.approx(axis.place(20) - axis.place(10))


def test_marks_are_at_their_values() -> None:
    x, y = linear_axis("x", [0, 10]), linear_axis("y", [0, 100])
    svg = str(scatter(x, y, [Series(3, [Point(10, 100, 5, "<b>", 2, hollow=True), Point(0, 0)])], [Point(0, 50)]))
    right, left = re.findall(r'class="touch" cx="([\d.]+)" cy="([\d.]+)"', svg)
    assert (float(right[0]), float(left[0])) == (WIDTH - RIGHT, LEFT)
    assert float(right[1]) < float(left[1]) < HEIGHT
    assert 'class="mark hollow" data-note="&lt;b&gt;" data-ipc="2"' in svg
    assert svg.count('class="reference"') == 1
    assert "<b>" not in svg


def test_methods_of_one_colour_have_different_marks() -> None:
    signs = {str(key(number)) for number in range(4 * COLOURS)}
    assert len(signs) == 4 * COLOURS


def test_a_line_shows_its_note() -> None:
    axis = linear_axis("epoch", [1, 3])
    svg = str(curves(axis, axis, [Series(11, [Point(1, 1), Point(3, 3)], 'a"b')]))
    assert 'data-note="a&#34;b"' in svg
    assert svg.count("polyline") == 1
