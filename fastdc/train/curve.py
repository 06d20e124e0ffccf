"""The validations of a training."""

import time
from typing import Any

import torch
from torch import nn

from fastdc.loader import Loader
from fastdc.nn.accuracy import Accuracy, measure_accuracy
from fastdc.nn.device import Compute
from fastdc.nn.fit_plan import Recorder
from fastdc.track import emit
from fastdc.train.data_pair import Pair
from fastdc.train.labels.targets import Labelling
from fastdc.train.protocols import Protocol


class Curve(Recorder):
    """Recorder that validates at the protocol's epochs, and keeps and publishes an entry per epoch (`fastdc.track`)."""

    def __init__(
        self,
        model: nn.Module,
        loader: Loader,
        pair: Pair,
        protocol: Protocol,
        compute: Compute,
        labelling: Labelling | None = None,
        name: str = "",
    ) -> None:
        self.model, self.loader, self.protocol, self.compute = model, loader, protocol, compute
        self.labelling, self.name = labelling, name
        self.num_classes, self.epochs = len(pair.stored.classes), pair.epochs(protocol)
        self.val_classes = None if pair.val_classes is None else torch.tensor(pair.val_classes)
        self._images, self._clock = 0, time.monotonic()
        self.entries: list[dict[str, Any]] = []
        self._last: Accuracy | None = None

    @property
    def last(self) -> Accuracy:
        """Return the accuracy of the last epoch; after resuming a finished run it is measured again."""
        if self._last is None:
            self._last = self._measure()
        return self._last

    def _measure(self) -> Accuracy:
        return measure_accuracy(self.model, self.loader, self.num_classes, self.compute, self.val_classes)

    @property
    def best(self) -> float:
        """Return the best top-1 over all validations in percent; shown, but never used for ranking."""
        return max(float(entry["top1"]) for entry in self.entries if entry["top1"] is not None)

    def step(self, samples: int) -> None:
        """Count the step's images, for the rate."""
        self._images += samples

    def epoch_end(self, epoch: int, loss: float, lr: float) -> None:
        """Validate if the protocol does so at this epoch, then add an entry and publish it."""
        rate = self._images / max(time.monotonic() - self._clock, 1e-9)
        entry: dict[str, Any] = {"epoch": epoch, "lr": lr, "loss": loss, "top1": None}
        if self.protocol.validated(epoch, self.epochs):
            self._last = self._measure()
            entry["top1"] = self._last.top1
        self.entries.append(entry)
        shown = {**entry, "epoch": epoch + 1, "epochs": self.epochs}  # events count epochs from 1, entries from 0
        emit("epoch", cell=self.name, **shown, images_per_second=round(rate, 1))
        self._images, self._clock = 0, time.monotonic()

    def state(self) -> dict[str, Any]:
        """Return the curve so far and, with a labelling, the seconds of the teacher's forward passes."""
        state: dict[str, Any] = {"entries": self.entries}
        return state if self.labelling is None else {**state, "relabel_seconds": self.labelling.seconds}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the curve and the teacher's seconds from a checkpoint."""
        self.entries = list(state["entries"])
        if self.labelling is not None:
            self.labelling.restore(state["relabel_seconds"])
