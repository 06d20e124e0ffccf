"""Specification of a recovery, as one object."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fastdc.common.keys import content_key
from fastdc.nn.device import Compute
from fastdc.recover.layer_statistics import Statistics
from fastdc.recover.recovery_recipe import Layout, MatchingSpec, Recipe
from fastdc.recover.shared_view import SharedView


@dataclass(frozen=True)
class BatchStart:
    """State of a batch before its first iteration.

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
"""Function that returns the networks that one batch is optimised against, from the teachers."""
ExtraLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor | None]
"""Function that returns a further loss term, or None, from the view [B, 3, S, S] and the labels [B]."""


@dataclass(frozen=True)
class RecoverJob:
    """Specification of a recovery.

    Attributes:
        method: its name, for messages.
        classes: number of classes.
        ipc: images per class.
        image_size: side S of the stored images, pixels.
        seed: in [0, 2**63); starts and views depend on it.
        recipe: its numbers.
        layout: how images are grouped into batches, see `finished_batches.batch_positions`.
        matching: the statistics loss.
        settings: further inputs that the pixels depend on, JSON-able: the method's settings.
        statistics: for every teacher the statistics that `matching` needs beside the running ones, or None.
        start: makes the images to start from, RGB uint8 [S, S, 3], class-major; None starts from N(0, 1) noise.
        networks: replaces the teachers by other networks, for one batch (DWA); None keeps the teachers.
        extra_loss: a further term of the loss (G-VBSM); None adds no term.
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
        """Return the class of every image, int64 [classes x ipc], class-major."""
        return np.repeat(np.arange(self.classes, dtype=np.int64), self.ipc)

    def key(self, teachers: Sequence[str], precision: str) -> str:
        """Return a key of everything that the pixels depend on.

        It keeps a recovery from reusing the batches of another one.
        """
        # The functions and `statistics` follow from these entries and the training set, which the scratch folder's name
        # covers.
        inputs: dict[str, Any] = {
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
        return content_key(inputs, 16)
