"""The engine that would be used is the one that is used."""

from typing import Any

import pytest

from fastdc.errors import LoaderError
from fastdc.loader import TrainView, choose_engine, open_loader


@pytest.mark.parametrize("engine", ["auto", "ffcv", "resident", "device"])
def test_choice_is_what_opens(betons: Any, engine: Any) -> None:
    view = TrainView(28)
    with open_loader(betons.train, view, batch_size=8, engine=engine) as loader:
        assert choose_engine(betons.train, view, engine) == loader.engine


def test_a_missing_file_is_named(tmp_path: Any) -> None:
    with pytest.raises(LoaderError, match=r"none\.beton"):
        choose_engine(tmp_path / "none.beton", TrainView(28))
