"""Opening a loader: checks, the choice of the engine, files that change."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastdc.common.choices import EngineChoice
from fastdc.common.errors import BetonError, ConfigError, LoaderError
from fastdc.loader import EvalView, TrainView, open_loader
from fastdc.loader import open as opening
from fastdc.loader.image_cache import CACHE
from tests.loader.conftest import Shelf

ENGINES: tuple[EngineChoice, ...] = ("resident", "ffcv")


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"batch_size": 0}, "batch_size=0"), ({"workers": 0}, "workers=0"), ({"engine": "ffvc"}, "engine 'ffvc'")],
)
def test_settings_out_of_range_are_refused(shelf: Shelf, settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_loader(shelf.jpeg, TrainView(8), **{"batch_size": 4, **settings})


@pytest.mark.parametrize("engine", ENGINES)
def test_unsound_indices_are_refused(shelf: Shelf, engine: EngineChoice) -> None:
    with pytest.raises(LoaderError, match=r"index 23 does not exist, expected 0\.\.22"):
        open_loader(shelf.jpeg, TrainView(8), batch_size=4, engine=engine, indices=np.array([4, 23]))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_missing_file_is_named(tmp_path: Path, engine: EngineChoice) -> None:
    with pytest.raises(LoaderError, match=r"nowhere\.beton: cannot be opened"):
        open_loader(tmp_path / "nowhere.beton", TrainView(8), batch_size=4, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("content", [b"", b"not a beton", bytes(5000)], ids=["empty", "text", "zeros"])
def test_another_file_is_refused(tmp_path: Path, engine: EngineChoice, content: bytes) -> None:
    path = tmp_path / "bad.beton"
    path.write_bytes(content)
    with pytest.raises(BetonError, match=r"bad\.beton"):
        open_loader(path, TrainView(8), batch_size=4, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("share", [0.99, 0.5, 0.01])
def test_a_truncated_file_is_refused(shelf: Shelf, tmp_path: Path, engine: EngineChoice, share: float) -> None:
    data = shelf.jpeg.read_bytes()
    path = tmp_path / "short.beton"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BetonError, match=r"short\.beton"):
        open_loader(path, TrainView(8), batch_size=4, engine=engine)


@pytest.mark.parametrize(
    ("free_images", "engine"),
    [(40.0, "resident"), (4.1, "resident"), (3.9, "ffcv"), (0.1, "ffcv")],
)
def test_auto_keeps_images_that_fit_in_a_quarter_of_memory(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, free_images: float, engine: str
) -> None:
    CACHE.clear()
    images = 23 * 48 * 64 * 3
    monkeypatch.setattr(opening, "available_memory", lambda: int(free_images * images))
    with open_loader(shelf.jpeg, TrainView(8), batch_size=4) as loader:
        assert loader.engine == engine


def test_auto_counts_finished_views_for_validation(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    CACHE.clear()
    monkeypatch.setattr(opening, "available_memory", lambda: 5 * 23 * 16 * 16 * 3)
    with open_loader(shelf.jpeg, EvalView(16), batch_size=4) as loader:
        assert loader.engine == "resident"
    with open_loader(shelf.jpeg, EvalView(17), batch_size=4) as loader:
        assert loader.engine == "resident"
    with open_loader(shelf.jpeg, EvalView(24), batch_size=4) as loader:
        assert loader.engine == "ffcv"


def test_auto_uses_images_that_are_decoded_already(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    CACHE.clear()
    open_loader(shelf.jpeg, TrainView(8), batch_size=4, engine="resident").close()
    monkeypatch.setattr(opening, "available_memory", lambda: 1)
    with open_loader(shelf.jpeg, TrainView(9), batch_size=4) as loader:
        assert loader.engine == "resident"


def test_resident_images_that_do_not_fit_are_refused(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    CACHE.clear()
    monkeypatch.setattr(opening, "available_memory", lambda: 23 * 48 * 64 * 3 - 1)
    with pytest.raises(LoaderError, match="of memory are free; use images of lower resolution, or the ffcv engine"):
        open_loader(shelf.jpeg, TrainView(8), batch_size=4, engine="resident")


def test_without_ffcv_the_resident_engine_works_and_the_other_is_refused(shelf: Shelf) -> None:
    program = f"""
import sys
sys.modules["ffcv"] = None  # what Python does for a package that must not be imported
from pathlib import Path
from fastdc.common.errors import LoaderError
from fastdc.loader import TrainView, open_loader
path = Path({str(shelf.jpeg)!r})
with open_loader(path, TrainView(8), batch_size=50) as loader:
    print(loader.engine, len(next(loader.epoch(0)).images))
try:
    open_loader(path, TrainView(8), batch_size=50, engine="ffcv")
except LoaderError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=True)
    first, second = done.stdout.splitlines()
    assert first == "resident 23"
    assert "the ffcv engine cannot be used: ffcv is not installed; in a clone of fastdc: pip install" in second


@pytest.mark.parametrize("engine", ENGINES)
def test_a_closed_loader_and_negative_epochs_are_refused(shelf: Shelf, engine: EngineChoice) -> None:
    loader = open_loader(shelf.jpeg, TrainView(8), batch_size=4, engine=engine)
    with pytest.raises(LoaderError, match="epoch -1 does not exist"):
        loader.epoch(-1)
    loader.close()
    loader.close()
    with pytest.raises(LoaderError, match="was closed"):
        loader.epoch(0)
