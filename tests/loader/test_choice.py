"""The engine that would be used is the one that is used."""

from typing import Any

import pytest

from fastdc.common.errors import LoaderError
from fastdc.loader import TrainView, choose_engine, engine_for_part, open_loader
from fastdc.loader import open as opening
from fastdc.loader.engines.ffcv_support import ffcv_problem
from fastdc.loader.image_cache import CACHE


@pytest.mark.parametrize("engine", ["auto", "ffcv", "resident", "device"])
def test_choice_is_what_opens(betons: Any, engine: Any) -> None:
    view = TrainView(28)
    with open_loader(betons.train, view, batch_size=8, engine=engine) as loader:
        assert choose_engine(betons.train, view, engine) == loader.engine


def test_a_missing_file_is_named(tmp_path: Any) -> None:
    with pytest.raises(LoaderError, match=r"none\.beton"):
        choose_engine(tmp_path / "none.beton", TrainView(28))


def test_a_small_part_of_a_large_set_is_streamed(betons: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    view = TrainView(28)
    CACHE.clear()
    assert engine_for_part(betons.train, view, 60) == "resident", "120 images of 28 px are no large set"
    monkeypatch.setattr(opening, "LARGE_PART_BYTES", 120 * 28 * 28 * 3)
    assert engine_for_part(betons.train, view, 60) == ("resident" if ffcv_problem() else "ffcv")
    assert engine_for_part(betons.train, view, 61) == "resident", "more than half"
    with open_loader(betons.train, view, batch_size=8, engine="resident") as loader:
        next(loader.epoch(0))
    assert engine_for_part(betons.train, view, 60) == "resident", "decoded already"
