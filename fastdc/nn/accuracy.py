"""Accuracy over a data set, kept as integer counts on the device."""

from dataclasses import dataclass

import torch
from torch import nn

from fastdc.common.errors import DivergedError
from fastdc.common.transfer import send
from fastdc.loader import Loader
from fastdc.nn.device import Compute

TOP5_CLASSES = 6
"""Fewest classes for which top-5 accuracy is meaningful."""


@dataclass(frozen=True)
class Accuracy:
    """Counts of correct predictions.

    Attributes:
        top1_counts: int64 [C], correct top-1 predictions for each class.
        class_counts: int64 [C], samples of each class.
        top5_count: samples whose class is among the five largest logits; None below 6 classes.
    """

    top1_counts: torch.Tensor
    class_counts: torch.Tensor
    top5_count: int | None

    @property
    def top1(self) -> float:
        """Return top-1 accuracy in percent."""
        return 100.0 * int(self.top1_counts.sum()) / int(self.class_counts.sum())

    @property
    def top5(self) -> float | None:
        """Return top-5 accuracy in percent, or None below 6 classes."""
        return None if self.top5_count is None else 100.0 * self.top5_count / int(self.class_counts.sum())

    @property
    def per_class(self) -> tuple[float | None, ...]:
        """Return each class's top-1 accuracy in percent, or None for a class without samples."""
        pairs = zip(self.top1_counts.tolist(), self.class_counts.tolist(), strict=True)
        return tuple(100.0 * right / count if count else None for right, count in pairs)


@torch.no_grad()
def measure_accuracy(
    model: nn.Module,
    loader: Loader,
    num_classes: int,
    compute: Compute,
    classes: torch.Tensor | None = None,
) -> Accuracy:
    """Measure the accuracy of `model` over one pass of `loader`, and leave the model in eval mode.

    Ties between logits go to the lower class number, for top-1 and top-5 alike.

    Args:
        classes: int64, class number of each of the loader's labels; None where they are equal.

    Raises:
        DivergedError: an output is NaN or infinite.
    """
    model.eval()
    classes = None if classes is None else classes.to(compute.device)
    counts = torch.zeros(2 * num_classes + 2, dtype=torch.int64, device=compute.device)
    right, total, others = counts[:num_classes], counts[num_classes:-2], counts[-2:]
    for batch in loader.epoch(0):
        labels = send(batch.labels, compute.device)
        labels = labels if classes is None else classes[labels]
        logits = compute.logits(model, compute.images(batch.images))
        rank = rank_of_label(logits, labels)
        right.scatter_add_(0, labels, (rank == 0).long())
        total.scatter_add_(0, labels, torch.ones_like(labels))
        others += torch.stack([(rank < 5).sum(), (~torch.isfinite(logits)).sum()])
    counts = counts.cpu()  # the only wait for the device
    top5, bad = counts[-2:].tolist()
    if bad:
        raise DivergedError("the network's outputs on the validation set are not finite; lower lr or use fp32")
    return Accuracy(counts[:num_classes], counts[num_classes:-2], top5 if num_classes >= TOP5_CLASSES else None)


def rank_of_label(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return how many classes rank before each label, int64 [B].

    A class ranks before the label if its logit is larger, or equal and its number lower.
    """
    own = logits.gather(1, labels[:, None])
    lower = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    return ((logits > own) | ((logits == own) & lower)).sum(1)
