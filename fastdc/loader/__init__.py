"""Load batches of images from a `.beton`: three engines, the same batches."""

from fastdc.loader.batches import Batch, EpochLoader, SharedLoader
from fastdc.loader.choose_engine import choose_engine, engine_for_part, open_loader, open_shared
from fastdc.loader.view_settings import EvalView, TrainView, ViewRequest

__all__ = [
    "Batch",
    "EpochLoader",
    "EvalView",
    "SharedLoader",
    "TrainView",
    "ViewRequest",
    "choose_engine",
    "engine_for_part",
    "open_loader",
    "open_shared",
]
