"""Typed settings and their one-line errors."""

from typing import Any

import pytest
from pydantic import Field

from fastdc.common.errors import ConfigError
from fastdc.common.settings import Settings, expand_numbers, parse_settings, split_names


class Example(Settings):
    """Two fields."""

    epochs: int = Field(3, ge=1)
    rate: float = 0.1


def test_values_are_converted_and_frozen() -> None:
    made = Example.make({"epochs": "7", "rate": "1e-3"}, "example")
    assert (made.epochs, made.rate) == (7, 1e-3)
    with pytest.raises(ValueError, match="frozen"):
        made.epochs = 1  # type: ignore[misc]


def test_yes_or_no_is_no_number_however_settings_are_made() -> None:
    class Other(Settings):
        limit: int | None = None
        flip: bool | None = None
        anything: Any = None

    with pytest.raises(ValueError, match="found yes or no, expected a value"):
        Other(limit=True)
    assert Other(flip=True, anything=False).anything is False


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"epoch": 3}, r"example: unknown setting 'epoch'; did you mean 'epochs'\? known: epochs, rate"),
        ({"epochs": True}, r"example: epochs=true: found yes or no"),
        ({"epochs": 0}, r"example: epochs=0: input should be greater than or equal to 1"),
        ({"rate": float("nan")}, r"example: rate=nan"),
        ({"epochs": "many"}, r"example: epochs='many'"),
    ],
)
def test_errors_name_field_value_and_expectation(values: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        Example.make(values, "example")
    assert "\n" not in str(caught.value)


def test_pairs_are_yaml_scalars() -> None:
    text = ["epochs=60", "flip=false", "keep=hard", "rate=0.5", "window=[1, 2]", "name=a=b"]
    assert parse_settings(text) == {
        "epochs": 60,
        "flip": False,
        "keep": "hard",
        "rate": 0.5,
        "window": [1, 2],
        "name": "a=b",
    }


def test_values_follow_the_rules_of_a_file() -> None:
    """YAML 1.1 would read 8, False, 750 and a date."""
    text = ["epochs=010", "x=no", "y=12:30", "day=2024-01-02", "lr=1e-3", "none=~", "empty="]
    assert parse_settings(text) == {
        "epochs": 10,
        "x": "no",
        "y": "12:30",
        "day": "2024-01-02",
        "lr": 0.001,
        "none": None,
        "empty": None,
    }


@pytest.mark.parametrize(
    "pairs",
    [
        ["a=&x 1"],
        ["a=.inf"],
        ["a=[{b: 1, b: 2}]"],
        ["epochs"],
        ["=3"],
        ["a=1", "a=2"],
        ["a={b: 1}"],
        ["a=[1"],
        ["a=!!python/name:os"],
    ],
)
def test_bad_pairs_are_refused(pairs: list[str]) -> None:
    with pytest.raises(ConfigError, match="setting '"):
        parse_settings(pairs)


def test_lists_of_names_and_numbers() -> None:
    assert split_names("random, el2n[keep=hard,balanced=false],pca") == [
        "random",
        "el2n[keep=hard,balanced=false]",
        "pca",
    ]
    assert expand_numbers("0,3,5-7") == [0, 3, 5, 6, 7]
    with pytest.raises(ValueError, match="at most"):
        expand_numbers("0-999999999")
