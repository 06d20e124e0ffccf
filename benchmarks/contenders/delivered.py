"""Count what an epoch delivered, in the same way on every side, so that skipped or repeated images show."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch


@dataclass
class Delivered:
    """Counter of delivered batches; it reads one value of each, which forces lazily made batches.

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
        """Count a batch; labels are copied, because some peers reuse their memory."""
        self.images += len(images)
        self.batches += 1
        self._touched += float(images[-1, -1, -1, -1])
        self._labels.append(labels.reshape(-1).clone())
        if indices is not None:
            self._indices.append(indices)
        if not self._shape:
            self._shape, self._dtype = list(images.shape), str(images.dtype)

    def facts(self) -> dict[str, Any]:
        """Return the number of images, images per label, and of different samples if the peer reports indices."""
        labels = torch.cat(self._labels).long()
        facts: dict[str, Any] = {
            "images": self.images,
            "per_label": np.bincount(labels.numpy()).tolist(),
            "batch": f"{self._dtype} {self._shape}",
        }
        if self._indices:
            facts["different_samples"] = len(np.unique(torch.cat(self._indices).numpy()))
        return facts
