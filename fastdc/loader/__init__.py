"""From a `.beton` to batches of images: two engines, the same batches."""

from fastdc.loader.batches import Batch, EpochLoader
from fastdc.loader.opening import open_loader
from fastdc.loader.views import EvalView, TrainView

__all__ = ["Batch", "EpochLoader", "EvalView", "TrainView", "open_loader"]
