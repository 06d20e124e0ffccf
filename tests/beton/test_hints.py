"""Which crops a training takes of a mosaic."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdc.beton.hints import TileCrop, check_augment, tile_crop
from fastdc.errors import ConfigError


def test_method_follows_the_hints_and_protocol_ignores_them() -> None:
    hints = {"tile_grid": 3, "tile_whole": 0.25, "tile_scale": [0.3, 1.0], "other": "x"}
    assert tile_crop("method", hints) == TileCrop(3, 0.25, 1.0, (0.3, 1.0))
    assert tile_crop("protocol", hints) == TileCrop()
    assert tile_crop("method", {}) == TileCrop()
    assert tile_crop("tile:2", hints) == tile_crop("tile:2", {}) == TileCrop(2)


@given(
    st.integers(1, 16),
    st.sampled_from([0.0, 0.25, 1.0]),
    st.sampled_from([0.0, 0.6, 1.0]),
    st.sampled_from([None, (0.08, 1.0), (0.5, 0.5)]),
)
def test_hints_and_text_give_the_rule_back(
    grid: int, whole: float, align: float, scale: tuple[float, float] | None
) -> None:
    rule = TileCrop(grid, whole, align, scale)
    assert tile_crop("method", rule.hints) == rule
    text = f"tile:{grid}+whole={whole}+align={align}" + (f"+scale={scale[0]}-{scale[1]}" if scale else "")
    assert tile_crop(text, {}) == rule
    assert tile_crop(check_augment(text), {}) == rule


@pytest.mark.parametrize(
    "hint",
    [
        *({"tile_grid": "two"}, {"tile_grid": None}, {"tile_whole": "a"}, {"tile_align": [1]}),
        *({"tile_scale": "x"}, {"tile_scale": [0.5]}, {"tile_scale": 0.5}, {"tile_scale": [0.1, None]}),
    ],
)
def test_hints_of_another_type_are_one_line(hint: dict[str, Any]) -> None:
    """A plug-in, or another program, writes what it likes."""
    with pytest.raises(ConfigError, match=f"hint {next(iter(hint))}=.*expected (a whole number|a share|two shares)"):
        tile_crop("method", hint)
    assert tile_crop("protocol", hint) == TileCrop()


def test_numbers_are_read_as_before() -> None:
    assert tile_crop("method", {"tile_grid": 2.0}) == tile_crop("method", {"tile_grid": "2"}) == TileCrop(2)


def test_hints_of_pca_are_what_they_were() -> None:
    assert TileCrop(2).hints == {"tile_grid": 2}
    assert TileCrop().hints == {}


def test_one_rule_has_one_spelling() -> None:
    assert (
        check_augment("tile:2 + whole=0.250")
        == check_augment("tile:2+whole=.25".replace("=.", "=0."))
        == ("tile:2+whole=0.25")
    )
    assert check_augment("tile:2+whole=0+align=1") == "tile:2"
    small = check_augment("tile:2+whole=0.00001+scale=0.000001-1")
    assert small == check_augment(small) == "tile:2+whole=0.00001+scale=0.000001-1"
    assert [check_augment(name) for name in ("method", "protocol")] == ["method", "protocol"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tiles:2", "expected method, protocol or tile:GRID"),
        ("tile:", "expected method, protocol or tile:GRID"),
        ("tile:0", "with GRID from 1 to 16"),
        ("tile:17", "with GRID from 1 to 16"),
        ("tile:2+while=0.2", "'while=0.2' is not understood"),
        ("tile:2+whole=0.2+whole=0.3", "whole is given twice"),
        ("tile:2+whole=1.5", "shares lie between 0 and 1"),
        ("tile:2+scale=0.5-0.2", "0 < LOW <= HIGH <= 1"),
        ("tile:2+scale=0-1", "0 < LOW <= HIGH <= 1"),
        ("", "expected method, protocol or tile:GRID"),
    ],
)
def test_other_texts_are_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_augment(text)
