"""What the engine is asked to recover, as one object."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fastdc.hashing import content_key
from fastdc.nn.device import Compute
from fastdc.recover.matching import MatchingSpec
from fastdc.recover.recipe import Layout, Recipe
from fastdc.recover.statistics import Statistics
from fastdc.recover.views import SharedView


@dataclass(frozen=True)
class BatchStart:
    """A batch before its first iteration.

    Attributes:
        images: float32 [B, 3, S, S], normalised.
        labels: int64 [B].
        view: the view of iteration 0.
        compute: device and precision.
    """

    images: torch.Tensor
    labels: torch.Tensor
    view: SharedView
    compute: Compute


Networks = Callable[[Sequence[nn.Module], BatchStart], Sequence[nn.Module]]
"""The networks that one batch is optimised against, given the teachers'."""
ExtraLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor | None]
"""A further term of the loss, of the view [B, 3, S, S] and the labels [B]; or None."""


@dataclass(frozen=True)
class RecoverJob:
    """A recovery.

    Attributes:
        method: its name, for messages.
        classes: number of classes.
        ipc: images of every class.
        image_size: side S of the stored images, pixels.
        seed: in [0, 2**63); starts and views depend on it.
        recipe, layout: its numbers, and which images share a batch.
        matching: the statistics loss.
        settings: what else the pixels depend on, JSON-able: the method's settings.
        statistics: for every teacher what `matching` needs beside its running statistics, or None.
        start: makes the images to start from, RGB uint8 [S, S, 3], class-major; None starts from N(0, 1) noise.
        networks: puts other networks in the teachers' place, for one batch (DWA); None takes the teachers.
        extra_loss: a further term of the loss (G-VBSM); None for none.
    """

    method: str
    classes: int
    ipc: int
    image_size: int
    seed: int
    recipe: Recipe
    layout: Layout
    matching: MatchingSpec
    settings: Mapping[str, Any] = field(default_factory=dict)
    statistics: tuple[Statistics | None, ...] = ()
    start: Callable[[], Iterator[NDArray[np.uint8]]] | None = None
    networks: Networks | None = None
    extra_loss: ExtraLoss | None = None

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class of every image, int64 [classes x ipc], class-major."""
        return np.repeat(np.arange(self.classes, dtype=np.int64), self.ipc)

    def key(self, teachers: Sequence[str], precision: str) -> str:
        """Names what the pixels depend on, so that batches of another recovery are never taken for this one's."""
        told: dict[str, Any] = {
            "method": self.method,
            "size": [self.classes, self.ipc, self.image_size],
            "seed": self.seed,
            "recipe": asdict(self.recipe),
            "layout": self.layout,
            "matching": asdict(self.matching),
            "settings": dict(self.settings),
            "teachers": list(teachers),
            "precision": precision,
        }
        return content_key(told, 16)
