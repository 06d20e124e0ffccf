"""Which engine a loader would use, without opening one."""

from pathlib import Path

import torch

from fastdc.loader.batches import Engine
from fastdc.loader.opening import EngineChoice, _choose_engine, _delivery
from fastdc.loader.plan import ViewPlan
from fastdc.loader.stored import StoredFile
from fastdc.loader.views import View, ViewRequest


def choose_engine(
    path: Path, view: View, engine: EngineChoice = "auto", device: torch.device | str | None = None
) -> Engine:
    """The engine that `open_loader` would use now; only the file's tables are read.

    Raises:
        LoaderError, BetonError, ConfigError: as `open_loader`.
    """
    file = StoredFile(Path(path))
    try:
        return _choose_engine(file, ViewPlan([ViewRequest(view, 0)], _delivery("uint8", device)), engine, False)
    finally:
        file.close()
