"""Load batches of images from a `.beton` with one of three engines; see `open_loader` for their pixels."""

from fastdc.loader.batches import Batch, Loader
from fastdc.loader.open import choose_engine, engine_for_part, open_loader, open_stream
from fastdc.loader.request import LoaderRequest
from fastdc.loader.view_settings import EvalView, TrainView, ViewRequest

__all__ = [
    "Batch",
    "EvalView",
    "Loader",
    "LoaderRequest",
    "TrainView",
    "ViewRequest",
    "choose_engine",
    "engine_for_part",
    "open_loader",
    "open_stream",
]
