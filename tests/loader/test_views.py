"""Views refuse invalid settings by name."""

import pytest

from fastdc.common.errors import ConfigError
from fastdc.loader import EvalView, TrainView


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size=0"),
        ({"size": 70_000}, "size=70000"),
        ({"size": 8, "scale": (0.0, 1.0)}, "scale="),
        ({"size": 8, "scale": (0.9, 0.8)}, "scale="),
        ({"size": 8, "scale": (0.1, 1.1)}, "scale="),
        ({"size": 8, "scale": (float("nan"), 1.0)}, "scale="),
        ({"size": 8, "ratio": (0.0, 1.0)}, "ratio="),
        ({"size": 8, "ratio": (2.0, 1.0)}, "ratio="),
        ({"size": 8, "ratio": (1.0, float("inf"))}, "ratio="),
        ({"size": 8, "tile_grid": 0}, "tile_grid=0"),
        ({"size": 8, "tile_grid": 2, "tile_whole": 1.1}, "tile_whole=1.1: expected a share"),
        ({"size": 8, "tile_grid": 2, "tile_align": -0.1}, "tile_align=-0.1: expected a share"),
        ({"size": 8, "tile_grid": 2, "tile_scale": (0.0, 1.0)}, "tile_scale="),
    ],
)
def test_a_training_view_out_of_range_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainView(**settings)


@pytest.mark.parametrize("settings", [{"size": 0}, {"size": 8, "resize": 7}, {"size": 8, "resize": -1}])
def test_a_validation_view_out_of_range_is_refused(settings: dict) -> None:
    with pytest.raises(ConfigError, match="expected"):
        EvalView(**settings)


@pytest.mark.parametrize(("size", "resize"), [(224, 256), (28, 32), (160, 183), (64, 73), (1, 1)])
def test_validation_resizes_to_eight_sevenths_by_default(size: int, resize: int) -> None:
    assert EvalView(size).resize == resize


def test_later_settings_keep_old_keys() -> None:
    """Stored labels of release 0.1.0 are found under a key of these five alone."""
    old = {"size": 8, "scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3), "flip": True, "tile_grid": 2}
    assert TrainView(8, tile_grid=2).identity() == old
    assert TrainView(8, tile_grid=2, tile_whole=0.25).identity() == {**old, "tile_whole": 0.25}
