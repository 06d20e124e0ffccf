"""The crops that training takes from a mosaic."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdc.beton import load_manifest, write_beton
from fastdc.beton.hints import TileCrop, check_augment, check_tiles, parse_hints, show_hints, tile_crop
from fastdc.common.errors import ConfigError


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
    st.sampled_from([1, 2, 64]),
)
def test_hints_and_text_round_trip(
    grid: int, whole: float, align: float, scale: tuple[float, float] | None, views: int
) -> None:
    rule = TileCrop(grid, whole, align, scale, views)
    assert tile_crop("method", rule.hints) == rule
    text = f"tile:{grid}+whole={whole}+align={align}" + (f"+scale={scale[0]}-{scale[1]}" if scale else "")
    text += f"+views={views}"
    assert tile_crop(text, {}) == rule
    if (grid > 1 and whole < 1) or (rule == TileCrop(views=views) and views > 1):
        spelling = check_augment(text)
        assert tile_crop(spelling, {}) == rule
        assert check_augment(spelling) == spelling
    else:  # no visit reads a part of it, or all do what the protocol does
        with pytest.raises(ValueError, match=r"changes nothing|as (protocol|tile:1.views=.*) does"):
            check_augment(text)


@pytest.mark.parametrize(
    "hint",
    [
        *({"tile_grid": "two"}, {"tile_grid": None}, {"tile_whole": "a"}, {"tile_align": [1]}),
        *({"tile_grid": 2.7}, {"tile_grid": True}, {"tile_grid": float("inf")}, {"tile_whole": False}),
        *({"tile_views": "two"}, {"tile_views": None}, {"tile_views": 1.5}, {"tile_scale": [True, 1]}),
        *({"tile_scale": "x"}, {"tile_scale": [0.5]}, {"tile_scale": 0.5}, {"tile_scale": [0.1, None]}),
    ],
)
def test_hints_of_another_type_are_a_one_line_error(hint: dict[str, Any]) -> None:
    """Plug-ins and other programs may write any value."""
    with pytest.raises(ConfigError, match=f"hint {next(iter(hint))}=.*expected (a whole number|a share|two shares)"):
        tile_crop("method", hint)
    assert tile_crop("protocol", hint) == TileCrop()


@pytest.mark.parametrize(
    ("hint", "message"),
    [
        *(({"tile_grid": value}, f"tile_grid={value}: expected GRID from 1 to 16") for value in (0, 20, -1)),
        *(({"tile_views": value}, f"tile_views={value}: expected 1 to 64 views") for value in (0, 65, 10**30)),
        ({"tile_whole": 3.0}, "tile_whole=3.0: shares lie between 0 and 1"),
        ({"tile_align": float("nan")}, "tile_align=nan: shares lie between 0 and 1"),
        ({"tile_scale": [0.9, 0.1]}, "tile_scale=0.9-0.1: expected 0 < LOW <= HIGH <= 1"),
    ],
)
def test_hints_out_of_range_are_a_one_line_error(hint: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^hint of the training set: {message}.*; make the set again, or train with"):
        tile_crop("method", hint)
    assert tile_crop("protocol", hint) == TileCrop()


def test_numbers_of_earlier_releases_are_read() -> None:
    assert tile_crop("method", {"tile_grid": 2.0}) == tile_crop("method", {"tile_grid": "2"}) == TileCrop(2)


def test_hints_of_pca_are_unchanged() -> None:
    assert TileCrop(2).hints == {"tile_grid": 2}
    assert TileCrop().hints == {}
    assert TileCrop(views=4).hints == {"tile_views": 4}


def test_a_sets_own_rule_is_one_of_tiles() -> None:
    assert check_tiles("tile:2 + views=02") == "tile:2+views=2"
    for text in ("method", "protocol"):
        with pytest.raises(ValueError, match=f"{text} is what a set without this setting does; expected tile:GRID"):
            check_tiles(text)


def test_spellings_of_one_rule_are_normalised() -> None:
    assert check_augment("tile:2 + whole=0.250") == check_augment("tile:2+whole=00.25") == ("tile:2+whole=0.25")
    assert check_augment("tile:2+whole=0+align=1+views=1") == "tile:2"
    assert check_augment("tile:2+views=04+whole=0.50") == "tile:2+whole=0.5+views=4"
    assert check_augment("tile:1+views=4") == "tile:1+views=4"
    small = check_augment("tile:2+whole=0.00001+scale=0.000001-1")
    assert small == check_augment(small) == "tile:2+whole=0.00001+scale=0.000001-1"
    assert [check_augment(name) for name in ("method", "protocol")] == ["method", "protocol"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tiles:2", "expected method, protocol or tile:GRID"),
        ("tile:", "expected method, protocol or tile:GRID"),
        ("tile:0", "grid=0: expected GRID from 1 to 16"),
        ("tile:17", "grid=17: expected GRID from 1 to 16"),
        ("tile:2+while=0.2", "'while=0.2' is not understood"),
        ("tile:2+whole=0.2+whole=0.3", "whole is given twice"),
        ("tile:2+whole=.25", "'whole=.25' is not understood"),
        ("tile:2+whole=1.5", "shares lie between 0 and 1"),
        ("tile:2+scale=0.5-0.2", "0 < LOW <= HIGH <= 1"),
        ("tile:2+scale=0-1", "0 < LOW <= HIGH <= 1"),
        ("tile:2+views=0", "views=0: expected 1 to 64 views"),
        ("tile:2+views=65", "views=65: expected 1 to 64 views"),
        ("tile:2+views=1.5", "'views=1.5' is not understood"),
        ("tile:2+views=2+views=3", "views is given twice"),
        ("tile:1", "tile:1 crops from the whole image in every visit, as protocol does"),
        ("tile:1+whole=0.3", "whole changes nothing with grid 1, whose only tile is the whole image; leave it out"),
        ("tile:1+align=0.3+views=2", "align changes nothing with grid 1"),
        ("tile:1+scale=0.1-0.5", "scale changes nothing with grid 1"),
        ("tile:2+whole=1", "as protocol does"),
        ("tile:2+whole=1+views=3", "as tile:1.views=3 does"),
        ("tile:2+whole=1+align=0.5", "align changes nothing with whole=1, where no visit crops inside a tile"),
        ("tile:2+whole=1+scale=0.5-1", "scale changes nothing with whole=1"),
        ("", "expected method, protocol or tile:GRID"),
    ],
)
def test_invalid_rules_are_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_augment(text)


def test_hints_of_an_imported_set_are_written_as_a_manifest_holds_them() -> None:
    assert parse_hints([]) == {}
    assert parse_hints(["tile_grid=2"]) == {"tile_grid": 2}
    texts = ["tile_grid=3", "tile_whole=0.25", "tile_scale=0.25-1", "tile_views=4", "tile_align=1"]
    assert show_hints(parse_hints(texts) | {"image_size": 32}).split() == texts[:-1]  # the last is the default
    assert (show_hints({}), show_hints({"tile_grid": 1})) == ("", "")
    assert parse_hints(texts) == {"tile_grid": 3, "tile_whole": 0.25, "tile_scale": [0.25, 1.0], "tile_views": 4}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["tile_grid"], "hint 'tile_grid': expected NAME=VALUE, with NAME one of tile_grid, tile_whole,"),
        (["grid=2"], "hint 'grid=2': expected NAME=VALUE"),
        (["tile_grid=2", "tile_grid=3"], "hint tile_grid is given twice"),
        (["tile_grid=two"], "hint 'tile_grid=two': expected tile_grid=GRID from 1 to 16"),
        (["tile_grid=17"], "GRID from 1 to 16"),
        (["tile_grid=2", "tile_whole=1.5"], "shares lie between 0 and 1"),
        (["tile_grid=2", "tile_scale=1"], "hint 'tile_scale=1': expected tile_scale=LOW-HIGH"),
        (["tile_whole=0.5"], "whole changes nothing with grid 1"),
        (["tile_grid=1"], "hint tile_grid=1 crops from the whole image in every visit, as without hints; leave it out"),
        (["tile_grid=2+whole=1"], "hint 'tile_grid=2.whole=1': expected tile_grid=GRID"),
        (["tile_whole=x"], "hint 'tile_whole=x': expected tile_whole=SHARE from 0 to 1"),
    ],
)
def test_wrong_hints_are_refused(texts: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_hints(texts)


def test_hints_go_into_the_manifest_and_its_hash(folder: Path, tmp_path: Path) -> None:
    made = write_beton(folder, tmp_path / "a.beton", hints=["tile_grid=2"])
    assert load_manifest(tmp_path / "a.beton").hints == made.hints == {"tile_grid": 2}
    plain = write_beton(folder, tmp_path / "b.beton")
    assert (plain.hints, plain.hashes) == ({}, made.hashes)
    assert plain.content_hash != made.content_hash
