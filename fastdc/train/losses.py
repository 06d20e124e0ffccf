"""What a network's logits are compared with: the stored class, or what a teacher said."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from fastdc.nn.fit import Loss
from fastdc.train.protocols import Protocol


class SoftTargets(NamedTuple):
    """A batch's soft labels.

    Attributes:
        logits: the teacher's, float32 [B, C]; minus infinity for classes that were not stored.
        classes: class shares by area of the mixed images, float32 [B, C]; None where no loss reads them.
    """

    logits: torch.Tensor
    classes: torch.Tensor | None = None


def make_loss(protocol: Protocol) -> Loss:
    """The protocol's loss: (logits [B, C], targets) -> scalar. Targets are `SoftTargets` if it is soft."""
    if not protocol.soft:
        return nn.CrossEntropyLoss(label_smoothing=protocol.label_smoothing)
    if protocol.loss == "kl":
        return lambda logits, targets: kl_loss(logits, targets.logits, protocol.temperature)
    return lambda logits, targets: mse_ce_loss(logits, targets, protocol.ce_weight)


def kl_loss(logits: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL(softmax(teacher / T) || softmax(logits / T)), summed over classes, mean over the batch.

    There is no factor T**2, as in the benchmark's code: gradients shrink with T, which AdamW evens out.
    """
    expected = functional.softmax(teacher / temperature, dim=1)
    return functional.kl_div(functional.log_softmax(logits / temperature, dim=1), expected, reduction="batchmean")


def mse_ce_loss(logits: torch.Tensor, targets: SoftTargets, ce_weight: float) -> torch.Tensor:
    """Mean squared difference of logits, plus the weighted cross-entropy with the class shares (G-VBSM, EDC)."""
    assert targets.classes is not None
    return functional.mse_loss(logits, targets.logits) + ce_weight * functional.cross_entropy(logits, targets.classes)
