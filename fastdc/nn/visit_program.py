"""Program of an epoch on the device: the numbers that describe its visits, from which every step draws its own batch.

Order, crop boxes and flips are computed on the host and uploaded for many steps at once. A step finds its part by a
counter of rows on the device. It is therefore the same sequence of operations at the same addresses in every epoch,
which a CUDA graph can repeat.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fastdc.common.transfer import send
from fastdc.kernels.views.view_batches import PLACE_NUMBERS
from fastdc.loader import Loader
from fastdc.loader.batches import VisitDrawer
from fastdc.nn.step_sizes import step_sizes

_CHUNK_VISITS = 1 << 14
"""Visits whose numbers are computed (16 ms) and uploaded together."""


class VisitProgram:
    """Batches of a loader that its device draws by itself.

    Args:
        work: returns the context in which numbers are uploaded; its stream is that of the steps.

    Attributes:
        row: int64 scalar on the device, the row of the next visit.
    """

    def __init__(
        self, loader: Loader, drawer: VisitDrawer, work: Callable[[], AbstractContextManager[Any]] = nullcontext
    ) -> None:
        device = drawer.labels.device
        self._loader, self._drawer, self._work = loader, drawer, work
        self._steps = max(_CHUNK_VISITS // loader.batch_size, 1)
        rows = min(self._steps * loader.batch_size, loader.num_samples) + 1  # a lone sample may join the last batch
        self._samples = torch.zeros(rows, dtype=torch.int64, device=device)
        self._places = torch.zeros((rows, PLACE_NUMBERS), dtype=torch.int32, device=device)
        self._numbers = torch.arange(min(loader.batch_size + 1, rows), device=device)
        self.row = torch.zeros((), dtype=torch.int64, device=device)

    def epoch(self, epoch: int, start: int = 0) -> Iterator["Visits"]:
        """Yield the steps of `epoch` from step `start` on; each must be drawn before the next is taken.

        Raises:
            LoaderError: see `Loader.epoch`.
        """
        visits = self._loader.visits(epoch, start)
        sizes = step_sizes(len(visits), self._loader.batch_size)
        for first in range(0, len(sizes), self._steps):
            chunk = sizes[first : first + self._steps]
            skipped = first * self._loader.batch_size
            self._upload(epoch, visits[skipped : skipped + sum(chunk)])
            yield from (Visits(self, size) for size in chunk)

    def _upload(self, epoch: int, visits: NDArray[np.int64]) -> None:
        # In the order of the stream: steps that still wait to run read what is there before.
        samples, places = self._drawer.visits(epoch, visits)
        with self._work():
            self._samples[: len(visits)].copy_(send(samples, self.row.device))
            self._places[: len(visits)].copy_(send(places, self.row.device))
            self.row.zero_()

    def draw(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images and labels of the next `size` visits, as a loader's `Batch` has them."""
        rows = self._numbers[:size] + self.row
        self.row += size
        samples = self._samples[rows]
        return self._drawer.draw(samples, self._places[rows]), self._drawer.labels[samples]


class Visits(NamedTuple):
    """Input of a step from a program: its next `size` visits; a `StepInput`."""

    program: VisitProgram
    size: int

    @property
    def kind(self) -> int:
        """Return the size; see `StepInput`."""
        return self.size

    @property
    def changed(self) -> list[torch.Tensor]:
        """See `StepInput`."""
        return [self.program.row]

    def read(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See `StepInput`."""
        return self.program.draw(self.size)

    def kept(self, _device: torch.device) -> "Visits":
        """See `StepInput`; a program stays at its addresses."""
        return self

    def fill(self, new: "Visits") -> None:
        """See `StepInput`."""
