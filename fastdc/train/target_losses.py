"""Losses against hard labels or a teacher's logits."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from fastdc.nn.fit_plan import Loss
from fastdc.train.protocols import Protocol


class SoftTargets(NamedTuple):
    """Soft labels of a batch.

    Attributes:
        logits: the teacher's logits, float32 [B, C]; minus infinity for classes that were not stored.
        classes: class shares of the mixed images, float32 [B, C]; None where the loss does not read them.
    """

    logits: torch.Tensor
    classes: torch.Tensor | None = None


def make_loss(protocol: Protocol) -> Loss:
    """Return a protocol's loss: (logits [B, C], targets) -> scalar. A soft protocol's targets are `SoftTargets`."""
    if not protocol.soft:
        return nn.CrossEntropyLoss(label_smoothing=protocol.label_smoothing)
    if protocol.loss == "kl":
        return lambda logits, targets: kl_loss(logits, targets.logits, protocol.temperature)
    return lambda logits, targets: mse_ce_loss(logits, targets, protocol.ce_weight)


def kl_loss(logits: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Compute KL(softmax(teacher / T) || softmax(logits / T)), summed over classes, mean over the batch.

    As in the benchmark's code there is no factor T**2. Gradients therefore shrink with T, which AdamW compensates.
    """
    expected = functional.softmax(teacher / temperature, dim=1)  # 0 for logits that were not stored (minus infinity)
    return functional.kl_div(functional.log_softmax(logits / temperature, dim=1), expected, reduction="batchmean")


def mse_ce_loss(logits: torch.Tensor, targets: SoftTargets, ce_weight: float) -> torch.Tensor:
    """Compute the mean squared difference of logits plus weighted cross-entropy with class shares (G-VBSM, EDC)."""
    assert targets.classes is not None
    return functional.mse_loss(logits, targets.logits) + ce_weight * functional.cross_entropy(logits, targets.classes)
