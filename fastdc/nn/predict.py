"""Accuracy over a data set, counted in whole numbers."""

from dataclasses import dataclass

import torch
from torch import nn

from fastdc.errors import DivergedError
from fastdc.loader import EpochLoader
from fastdc.nn.device import Compute

TOP5_CLASSES = 6
"""Below this many classes top-5 says nothing."""


@dataclass(frozen=True)
class Accuracy:
    """Counts of right answers.

    Attributes:
        top1_counts: int64 [C], right first guesses of every class.
        class_counts: int64 [C], samples of every class.
        top5_count: samples whose class is among the first five guesses; None below 6 classes.
    """

    top1_counts: torch.Tensor
    class_counts: torch.Tensor
    top5_count: int | None

    @property
    def top1(self) -> float:
        """Top-1 accuracy in percent."""
        return 100.0 * int(self.top1_counts.sum()) / int(self.class_counts.sum())

    @property
    def top5(self) -> float | None:
        """Top-5 accuracy in percent; None below 6 classes."""
        return None if self.top5_count is None else 100.0 * self.top5_count / int(self.class_counts.sum())

    @property
    def per_class(self) -> tuple[float | None, ...]:
        """Top-1 of every class in percent; None for a class without samples."""
        pairs = zip(self.top1_counts.tolist(), self.class_counts.tolist(), strict=True)
        return tuple(100.0 * right / count if count else None for right, count in pairs)


@torch.no_grad()
def measure_accuracy(
    model: nn.Module,
    loader: EpochLoader,
    num_classes: int,
    compute: Compute,
    classes: torch.Tensor | None = None,
) -> Accuracy:
    """Evaluate `model` in eval mode over one pass of `loader`; the model is left in eval mode.

    Ties between logits go to the lower class, for top-1 and top-5 alike.

    Args:
        classes: int64, per label of the loader the class that it stands for; None where labels are classes.

    Raises:
        DivergedError: an output is NaN or infinite.
    """
    model.eval()
    right = torch.zeros(num_classes, dtype=torch.int64)
    total = torch.zeros(num_classes, dtype=torch.int64)
    top5 = 0
    for batch in loader.epoch(0):
        labels = batch.labels.cpu()  # the device engine keeps them beside the images
        labels = labels if classes is None else classes[labels]
        logits = compute.logits(model, compute.images(batch.images)).cpu()
        if not torch.isfinite(logits).all():
            raise DivergedError("the network's outputs on the validation set are not finite; lower lr or use fp32")
        rank = rank_of_label(logits, labels)
        right += torch.bincount(labels[rank == 0], minlength=num_classes)
        total += torch.bincount(labels, minlength=num_classes)
        top5 += int((rank < 5).sum())
    return Accuracy(right, total, top5 if num_classes >= TOP5_CLASSES else None)


def rank_of_label(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Classes that come before the label, int64 [B]: those of a larger logit, or of an equal one and a lower number."""
    own = logits.gather(1, labels[:, None])
    lower = torch.arange(logits.shape[1]) < labels[:, None]
    return ((logits > own) | ((logits == own) & lower)).sum(1)
