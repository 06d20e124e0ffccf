"""What an epoch delivered: counted on every side alike, so that no side may skip or repeat images unseen."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch


@dataclass
class Delivered:
    """Counts batches as they come. Reads one value of each, so that a batch that is made lazily is made.

    Attributes:
        images: images so far. batches: batches so far.
    """

    images: int = 0
    batches: int = 0
    _labels: list[torch.Tensor] = field(default_factory=list)
    _indices: list[torch.Tensor] = field(default_factory=list)
    _shape: list[int] = field(default_factory=list)
    _dtype: str = ""
    _touched: float = 0.0

    def take(self, images: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor | None = None) -> None:
        """Count a batch; labels and indices are copied, for some peers write to them again."""
        self.images += len(images)
        self.batches += 1
        self._touched += float(images[-1, -1, -1, -1])
        self._labels.append(labels.reshape(-1).clone())
        if indices is not None:
            self._indices.append(indices)
        if not self._shape:
            self._shape, self._dtype = list(images.shape), str(images.dtype)

    def facts(self) -> dict[str, Any]:
        """Images, images per label, and how many different samples where the peer tells which."""
        labels = torch.cat(self._labels).long()
        facts: dict[str, Any] = {
            "images": self.images,
            "per_label": np.bincount(labels.numpy()).tolist(),
            "batch": f"{self._dtype} {self._shape}",
        }
        if self._indices:
            facts["different_samples"] = len(np.unique(torch.cat(self._indices).numpy()))
        return facts
